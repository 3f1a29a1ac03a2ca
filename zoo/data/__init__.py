"""Sources and transforms: random access, addressed by step."""

from zoo.data.augment import Augment
from zoo.data.binaries import Cifar10, MnistIdx
from zoo.data.captioned_shapes import CaptionedShapes
from zoo.data.dates import Dates
from zoo.data.embedded import BreastCancer, Diabetes, Digits, Wine
from zoo.data.files import TextFiles
from zoo.data.image_text import ImageTextPairs
from zoo.data.images import ImageFolder
from zoo.data.info import Arrays, Batch, Data, Info, Split
from zoo.data.labelled import LabelledText
from zoo.data.npz import Npz
from zoo.data.shapes import Shapes
from zoo.data.squad import Squad
from zoo.data.stdlib import StdlibLines, StdlibText
from zoo.data.stdlib_snippets import StdlibSnippets
from zoo.data.stream import Stream, evaluation_batches, load
from zoo.data.tables import Csv, Jsonl, Parquet
from zoo.data.tagged import TaggedWords

REGISTRY: dict[str, type] = {
    "digits": Digits,
    "breast-cancer": BreastCancer,
    "wine": Wine,
    "diabetes": Diabetes,
    "stdlib-text": StdlibText,
    "stdlib-lines": StdlibLines,
    "stdlib-snippets": StdlibSnippets,
    "dates": Dates,
    "shapes": Shapes,
    "image-folder": ImageFolder,
    "image-text-pairs": ImageTextPairs,
    "captioned-shapes": CaptionedShapes,
    "csv": Csv,
    "parquet": Parquet,
    "jsonl": Jsonl,
    "npz": Npz,
    "mnist-idx": MnistIdx,
    "cifar10": Cifar10,
    "text-files": TextFiles,
    "squad": Squad,
    "tagged-words": TaggedWords,
    "labelled-text": LabelledText,
}
"""Sources by the name that a run's config.json gives them."""

__all__ = [
    "REGISTRY", "Arrays", "Augment", "Batch", "BreastCancer", "CaptionedShapes", "Cifar10", "Csv",
    "Data", "Dates", "Diabetes", "Digits", "ImageFolder", "ImageTextPairs", "Info", "Jsonl",
    "LabelledText", "MnistIdx", "Npz", "Parquet", "Shapes", "Split", "Squad", "StdlibLines",
    "StdlibSnippets", "StdlibText", "Stream", "TaggedWords", "TextFiles", "Wine",
    "evaluation_batches", "load",
]  # fmt: skip
