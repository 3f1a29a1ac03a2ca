"""LSTM 100, dense 50 and one logit on digits of 10x10 read row by row: even or odd?

Takes: 15 seconds on two CPU cores; measured: 0.99.
Reaches: accuracy >= 0.98
"""

from zoo import tasks
from zoo.config import Optimizer, Run
from zoo.data import Digits
from zoo.models import rnn

config = Run(
    model=rnn.SIZES["lstm-100-dense50"].config,
    task=tasks.Binary(),
    data=Digits(view="rows", size=10, target="parity"),
    optimizer=Optimizer(name="adam", learning_rate=2e-3),
    batch_size=32,
    steps=800,
)
