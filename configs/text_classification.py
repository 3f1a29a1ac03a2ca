"""Your own labelled texts, by a pretrained BERT: the classic first fine-tuning.

    python train.py --config text_classification --init-from FOLDER --data.path reviews.jsonl

FOLDER is one that transformers wrote, or a name on the hub. For several labels of a text copy this
file and write `tasks.Multilabel()` and `kind="multilabel"`; for numbers `tasks.Regression()` and
`kind="regression"`.

Needs: your data, and the network for the default model (Devlin et al., 2018; Apache-2.0).
"""

from zoo import tasks
from zoo.config import Optimizer, Pretrained, Run, Schedule
from zoo.data import LabelledText

config = Run(
    model=Pretrained(),
    task=tasks.Classification(),
    data=LabelledText(path="data.jsonl"),
    init_from="bert-base-uncased",
    optimizer=Optimizer(
        name="adamw",
        learning_rate=5e-5,
        weight_decay=0.01,
        clip_norm=1.0,
        schedule=Schedule(name="linear", warmup_steps=50),
    ),
    batch_size=32,
    steps=500,
)
