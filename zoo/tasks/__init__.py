"""One file per task: batch contract, loss, metrics, decoding of predictions."""
