"""Leaves any model may use; each cites the formula it implements."""
