"""A tiny CLIP on generated pictures of shapes and sentences about them, byte by byte.

Of 626 pictures that it never saw 96 % have their sentence among the ten nearest of some 220, and of
the sentences 90 % a picture that they are about; telling small shapes apart is what it learns last
(Radford et al., 2021, https://arxiv.org/abs/2103.00020, section 2.3).

Takes: at most five minutes on two CPU cores; measured: 0.649.
Reaches: mean_recall >= 0.6
"""

from zoo import tasks
from zoo.config import Optimizer, Run, Schedule
from zoo.data import CaptionedShapes
from zoo.models import clip

config = Run(
    model=clip.Config(
        image_size=32, patch_size=8, vision_width=64, vision_depth=2, vision_num_heads=4,
        vision_hidden=128, vocab_size=257, max_length=36, text_width=64, text_depth=2,
        text_num_heads=4, text_hidden=128, projection_width=32,
    ),
    task=tasks.ImageTextContrastive(),
    data=CaptionedShapes(),
    optimizer=Optimizer(
        name="adamw",
        learning_rate=2e-3,
        weight_decay=0.05,
        clip_norm=1.0,
        schedule=Schedule(name="cosine", warmup_steps=100),
    ),
    batch_size=64,
    steps=1000,
)  # fmt: skip
