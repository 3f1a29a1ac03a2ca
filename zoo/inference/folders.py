"""Folders of a reference library opened as if they were runs, to predict with."""

from pathlib import Path

from zoo import config as configs
from zoo import pretrained
from zoo.data import ImageFolder, Info
from zoo.data.processor import load_processor
from zoo.errors import InputError
from zoo.runs import OpenedRun
from zoo.tasks import Classification

TASK = "image-classification"


def open_folder(name: str | Path, on_bad: str = "stop") -> OpenedRun:
    """A classifier of images with the processor beside it.

    Args:
        name: a folder of transformers or timm, or a name on the hub.
        on_bad: what an unreadable picture does, see `ImageFolder`.

    Raises:
        InputError: no such folder, another kind of model, no processor of one size of pictures.
    """
    folder = pretrained.find_folder(name)
    saved = pretrained.read_saved(folder)
    if saved.task != TASK:
        raise InputError(
            f"{folder}: predict opens runs and classifiers of images; this folder is for "
            f"{saved.task}. Fine-tune it first, with --init-from, or call zoo.from_pretrained"
        )
    processor = load_processor(folder)
    if processor.shape is None:
        raise InputError(f"{folder}: its processor does not make pictures of one size")
    module, variables = pretrained.from_pretrained(folder)
    count = module.cfg.num_classes
    info = Info(
        inputs={"image": (processor.shape, "float32")},
        label=((), "int32"),
        num_classes=count,
        class_names=module.cfg.labels or tuple(map(str, range(count))),
        columns={"processor": processor.name, "settings": processor.settings},
    )
    source = ImageFolder("", processor=str(folder), on_bad="skip" if on_bad == "skip" else "stop")
    run = configs.Run(model=module.cfg, task=Classification(), data=source)
    return OpenedRun(run, info, run.task.bind(info), module, variables, 0, folder)
