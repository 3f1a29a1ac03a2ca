"""Your own pictures, a folder for each class, by a pretrained network of images.

    python train.py --config image_classification --init-from FOLDER --data.path PICTURES

FOLDER is one that timm or transformers wrote (ResNet, ConvNeXt, ViT and others), or a name on the
hub; how pictures are prepared is read there too. The classifier is new, of as many classes as
PICTURES has folders. It is trained alone for the first 100 steps, then everything is. The page
docs/vision.md shows the whole way, with a folder that is made on the spot.

Needs: your data, and the network for the default model (He et al., 2015; Apache-2.0).
"""

from zoo import tasks
from zoo.config import Augment, Optimizer, Pretrained, Run, Schedule
from zoo.data import ImageFolder
from zoo.data.picture_changes import ResizedCrop

config = Run(
    model=Pretrained(),
    task=tasks.Classification(label_smoothing=0.1),
    data=ImageFolder(path="pictures", on_bad="skip"),
    init_from="timm/resnet50.a1_in1k",
    augment=Augment(flip=True, resized_crop=ResizedCrop(least=0.35)),
    optimizer=Optimizer(
        name="adamw",
        learning_rate=3e-4,
        weight_decay=0.05,
        clip_norm=1.0,
        freeze=("*", "!head"),
        freeze_steps=100,
        schedule=Schedule(name="cosine", warmup_steps=20),
    ),
    batch_size=32,
    average=0.99,
    steps=600,
)
