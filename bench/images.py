"""Image files to a model's input beside transformers: `python -m bench.images` writes section I of
RESULTS.md.

Both prepare the same files by one `preprocessor_config.json` and must give the same bits; rounds
take turns. transformers' processor by Pillow works in one thread, zoo's in as many as there are
cores.
"""

import argparse
import datetime
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from bench import report
from bench.harness import ROOT

HEIGHT, WIDTH = 375, 500
"""Pixels of a file; the median of ImageNet."""
FORMATS = {"jpg": {"quality": 90}, "png": {}, "webp": {"quality": 80}}
CONFIG = {"image_processor_type": "ViTImageProcessor", "size": {"height": 224, "width": 224}}


def write_files(folder: Path, ending: str, count: int) -> list[str]:
    """Smooth colours with texture, which compress about as photographs do."""
    found = []
    for number in range(count):
        rng = np.random.default_rng(number)
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), np.int16)
        pixels = np.clip(smooth + rng.integers(-12, 13, smooth.shape), 0, 255).astype(np.uint8)
        path = folder / f"{number}.{ending}"
        Image.fromarray(pixels).save(path, **FORMATS[ending])
        found.append(str(path))
    return found


def seconds(function: Callable[[list[str]], np.ndarray], paths: list[str]) -> float:
    """Time of one batch."""
    began = time.perf_counter()
    function(paths)
    return time.perf_counter() - began


def main() -> None:
    """Measures and writes the section."""
    parser = argparse.ArgumentParser(prog="python -m bench.images", description=__doc__)
    parser.add_argument("--count", type=int, default=64, help="files of a batch (default 64)")
    parser.add_argument("--rounds", type=int, default=10, help="rounds (default 10)")
    parser.add_argument("--output", type=Path, default=ROOT / "bench" / "RESULTS.md")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    from transformers import AutoImageProcessor

    import zoo

    rows = []
    with tempfile.TemporaryDirectory() as place:
        Path(place, "preprocessor_config.json").write_text(json.dumps(CONFIG))
        ours, loaded = (
            zoo.load_processor(place),
            AutoImageProcessor.from_pretrained(place, backend="pil"),
        )

        def theirs(paths: list[str]) -> np.ndarray:
            found = loaded(paths, return_tensors="np")["pixel_values"]
            return np.moveaxis(found, 1, -1)

        for ending in FORMATS:
            paths = write_files(Path(place), ending, options.count)
            assert np.array_equal(ours(paths), theirs(paths)), "the pixels differ"
            times = []
            for number in range(options.rounds):
                print(f"{ending}, round {number + 1} of {options.rounds}", file=sys.stderr)
                times.append((seconds(ours, paths), seconds(theirs, paths)))
            a, b = (options.count / statistics.median(each) for each in zip(*times, strict=True))
            ratio = statistics.median(slow / fast for fast, slow in times)
            rows.append(f"| {ending} | {a:.0f} | {b:.0f} | {ratio:.2f} |")
    title = "I: image files to a model's input beside transformers' processor by Pillow"
    where = (
        f"{datetime.date.today()}, {report.machine()}, load {load:.1f} before; batches of "
        f"{options.count} files of {WIDTH} x {HEIGHT} to 224 x 224, {options.rounds} rounds in "
        "turn, medians; bits equal. The ratio is the median of the turns' ratios."
    )
    if load > 0.5:
        where += " The machine was busy: an indication only."
    head = "| format | zoo images/s | transformers images/s | ratio |"
    table = "\n".join([head, "|---" + "|---:" * 3 + "|", *rows])
    print(f"{title}\n{table}\n")
    report.write(options.output, "I", f"## {title}\n\n{where}\n\n{table}\n")


if __name__ == "__main__":
    main()
