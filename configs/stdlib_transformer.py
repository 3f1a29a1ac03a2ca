"""Which module of the standard library is this line from? By a Transformer's encoder.

Takes: four minutes on two CPU cores.
Reaches: accuracy >= 0.45
"""

from zoo import tasks
from zoo.config import Optimizer, Run, Schedule
from zoo.data import StdlibLines
from zoo.models import transformer

config = Run(
    model=transformer.Config(
        vocab_size=256,
        width=64,
        depth=2,
        num_heads=4,
        hidden=256,
        dropout=0.0,
        num_classes=10,
        max_length=96,
    ),  # fmt: skip
    task=tasks.Classification(class_weights="balanced"),
    data=StdlibLines(),
    optimizer=Optimizer(
        name="adamw",
        learning_rate=2e-3,
        weight_decay=0.01,
        clip_norm=1.0,
        schedule=Schedule(name="cosine", warmup_steps=100),
    ),
    batch_size=64,
    steps=2400,
)
