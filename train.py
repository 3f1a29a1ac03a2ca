"""Trains a model: `python train.py --config configs/digits_cnn.py --workdir runs/a --steps 500`."""

import sys

from zoo.launch import train_command

if __name__ == "__main__":
    sys.exit(train_command(sys.argv[1:]))
