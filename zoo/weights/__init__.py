"""Weights as reference libraries keep them: one table per format, read and written."""
