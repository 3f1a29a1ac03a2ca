"""Sources and transforms: random access, addressed by step."""
