"""A byte-level language model of the Python standard library's source, by an LSTM.

Takes: 12 minutes on two CPU cores.
Reaches: bits_per_byte <= 1.9
"""

from zoo import tasks
from zoo.config import Optimizer, Run, Schedule
from zoo.data import StdlibText
from zoo.models import rnn

config = Run(
    model=rnn.Config(
        cell="lstm", vocab_size=256, embedding=64, hidden=(512,), length=256
    ),  # fmt: skip
    task=tasks.LanguageModelling(),
    data=StdlibText(length=256, evaluation_windows=512),
    optimizer=Optimizer(
        name="adam",
        learning_rate=4e-3,
        clip_norm=1.0,
        schedule=Schedule(name="cosine", warmup_steps=50, final_fraction=0.02),
    ),
    batch_size=32,
    steps=1400,
)
