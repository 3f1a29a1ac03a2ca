"""State, step, optimizers, checkpoints, the loop, its log and receipt."""
