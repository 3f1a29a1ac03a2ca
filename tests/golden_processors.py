"""Pixels of the reference pipelines, frozen: the suite needs neither torch nor transformers.

`python tests/golden_processors.py` (extra `parity`, and torchvision for timm) writes them anew;
look at what changed. Of every picture some 24 values are kept; a row of NaN is a picture that the
reference refuses.
"""

import tempfile
import warnings
from pathlib import Path

import numpy as np
from odd_pictures import LOSSY, files
from PIL import Image
from processor_folders import LARGE, TIMM, TRANSFORMERS, write

FILE = Path(__file__).parent / "golden" / "processors.npz"
KEPT = 24


def sample(pixels: np.ndarray) -> np.ndarray:
    """Some values, spread over the picture `[H, W, C]`."""
    flat = pixels.reshape(-1)
    return flat[np.linspace(0, flat.size - 1, KEPT).round().astype(int)]


def chosen(folder: Path, name: str) -> list[Path]:
    """The pictures that a processor is frozen for; the thinnest would make gigabytes of 224."""
    return [
        path
        for path in files(folder)
        if not path.name.endswith(LOSSY) and (name not in LARGE or "300" not in path.name)
    ]


def prepare(name: str, folder: Path):
    """The reference's function from a path to pixels `[C, H, W]`."""
    if name in TIMM:
        from timm.data import create_transform, resolve_data_config

        transform = create_transform(**resolve_data_config(pretrained_cfg=TIMM[name]))
        return lambda path: transform(Image.open(path).convert("RGB")).numpy()
    from transformers import AutoImageProcessor

    theirs = AutoImageProcessor.from_pretrained(write(name, folder / name), backend="pil")
    return lambda path: theirs(str(path), return_tensors="np")["pixel_values"][0]


def main() -> None:
    warnings.simplefilter("ignore")
    folder, found = Path(tempfile.mkdtemp()), {}
    for name in (*TRANSFORMERS, *TIMM):
        function, rows = prepare(name, folder), []
        for path in chosen(folder / "pictures", name):
            try:
                rows.append(sample(np.moveaxis(function(path), 0, -1)))
            except ValueError:
                rows.append(np.full(KEPT, np.nan, np.float32))
        found[name] = np.stack(rows)
        print(name, found[name].shape, int(np.isnan(found[name][:, 0]).sum()), "refused")
    np.savez_compressed(FILE, **found)
    print(FILE, FILE.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
