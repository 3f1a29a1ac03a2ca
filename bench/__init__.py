"""Training speed beside Keras and PyTorch: `python -m bench W1 W2 W3 W3b`."""
