"""Tiny networks of timm, folders of pictures and hostile files, and a fine-tuning of them."""

import io
import zlib
from pathlib import Path
from typing import Any

import golden_images
import golden_models
import numpy as np
from odd_pictures import pattern, picture
from PIL import Image

from zoo import tasks
from zoo.config import Augment, Optimizer, Pretrained, Run
from zoo.data import ImageFolder
from zoo.data.picture_changes import ColourJitter, Erase, RandAugment, ResizedCrop

CLASSES = ("apple", "bee", "cup", "dog")
EVERYTHING = Augment(
    crop=1, flip=True, cutout=3, mixup=0.2, cutmix=1.0,
    resized_crop=ResizedCrop(0.3), jitter=ColourJitter(0.4, 0.4, 0.4, 0.1),
    randaugment=RandAugment(2, 9), erase=Erase(0.5, noise=True),
)  # fmt: skip


def write_network(folder: Path, name: str = "timm/vit_tiny_patch16_224") -> Path:
    """A tiny network for gray pictures of 19 x 26 pixels, or of 24 x 24, with three classes."""
    config, _, tensors, _ = golden_images.read(name)
    size = [19, 26] if "vit" in name else [24, 24]
    config["pretrained_cfg"] |= {
        "input_size": [1, *size], "mean": [0.4], "std": [0.3], "interpolation": "bicubic",
        "crop_pct": 0.92, "crop_mode": "squash" if "vit" in name else "center",
    }  # fmt: skip
    return golden_models.write_folder(folder, config, tensors)


def write_pictures(folder: Path, each: int = 18) -> Path:
    """PNG files of odd sizes, a folder for each class."""
    for number, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for i in range(each):
            pixels = pattern(15 + i, 40 - i, 3) // 3 + 40 * number
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


def odd_files() -> dict[str, bytes]:
    """Unusual files that are pictures all the same, by name."""
    frames = [picture("L", 20, 30), picture("L", 20, 30).rotate(90)]
    return {
        "a png.jpg": encoded(picture("RGB", 9, 9), "PNG"),
        "thin.png": encoded(picture("RGB", 40, 1), "PNG"),
        "pixel.png": encoded(picture("L", 1, 1), "PNG"),
        "deep.png": encoded(picture("I;16", 20, 30), "PNG"),
        "cmyk.jpg": encoded(picture("CMYK", 20, 30), "JPEG"),
        "clear.png": encoded(picture("RGBA", 20, 30), "PNG"),
        "moving.gif": encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "noname": encoded(picture("RGB", 30, 20), "WEBP"),
    }


def hostile_files() -> dict[str, bytes]:
    """Files that are no pictures, by name."""
    good = encoded(picture("RGB", 30, 30), "PNG")
    header = b"IHDR" + np.array([60000, 60000], ">u4").tobytes() + good[24:29]
    bomb = good[:12] + header + zlib.crc32(header).to_bytes(4, "big") + good[33:]
    program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    return {
        "cut.png": good[: len(good) // 2],
        "head.png": good[:40],
        "empty.png": b"",
        "text.jpg": b"no picture at all",
        "bomb.png": bomb,
        "program.eps": program,
    }


def write_files(folder: Path, files: dict[str, bytes]) -> Path:
    """Files by name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    """A picture as the bytes of a file."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def picture_run(place: Path, **changes: Any) -> Run:
    """A fine-tuning of four steps with every change of pictures, first of the head alone; `net` and
    `pictures` are made where they are missing."""
    if not (place / "net").exists():
        write_network(place / "net")
        write_pictures(place / "pictures")
    given = {
        "model": Pretrained(), "init_from": str(place / "net"),
        "task": tasks.Classification(label_smoothing=0.1, top_k=2),
        "data": ImageFolder(str(place / "pictures"), on_bad="skip"),
        "optimizer": Optimizer(name="adamw", learning_rate=1e-2, weight_decay=0.01, clip_norm=1.0,
                               freeze=("*", "!head"), freeze_steps=2),
        "augment": EVERYTHING, "average": 0.9, "steps": 4, "batch_size": 8, "eval_every": 2,
        "log_every": 1, "steps_per_dispatch": 1, "devices": 1, "tensorboard": False,
        "loader_threads": 1, "workdir": str(place / "run"),
    }  # fmt: skip
    return Run(**(given | changes))
