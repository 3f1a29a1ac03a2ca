"""One file per architecture: Config, SIZES, modules top-down, tensor-parallel table."""
