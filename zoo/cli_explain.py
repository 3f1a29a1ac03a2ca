"""`zoo explain`: what in an input a trained run's answer rests on."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from zoo.errors import InputError
from zoo.launch import configure

Method = Literal[
    "integrated-gradients", "gradient", "smooth-grad", "grad-cam", "attention-rollout", "logit-lens"
]


@dataclass(frozen=True)
class Explain:
    """Explains a trained run's answer to one input: a picture for an image, else a table."""

    run: Positional[Path]
    """The run folder."""
    input: Positional[str]
    """A file or, for models of text, the text itself; as `zoo predict` takes it."""
    method: Method = "integrated-gradients"
    """How; grad-cam is for convolutional models, attention-rollout for Transformers, logit-lens for
    language models."""
    target: str = ""
    """The class to explain, by name or number; empty is the likeliest."""
    position: int | None = None
    """Which token's output to explain, where there is one for each; the last one by itself."""
    at: str = ""
    """Path of the module to look at, such as conv2, instead of the method's own choice."""
    output: str = ""
    """The file to write: a picture, or of a table JSON; a picture is named after the input where
    none is given."""
    checkpoint: str = "last"
    """last, best (by the validation score) or a step."""
    config: str = ""
    """The run's config file, needed when it uses classes of its own."""


def explain_command(options: Explain) -> int:
    """`zoo explain`."""
    from zoo import runs
    from zoo.config import find_config, load

    if not Path(options.output).parent.is_dir():
        raise InputError(f"there is no folder {Path(options.output).parent} to write into")
    configure(0, True)
    from zoo.inspect import explain

    own = load(find_config(options.config))[0] if options.config else None
    opened = runs.open_run(options.run, options.checkpoint, own, _warn)
    found = explain.explain(
        opened, options.input, options.method, options.target, options.position, options.at or None
    )
    if isinstance(found, explain.Lens):
        rows = [{"layer": path, "tokens": [list(t) for t in tokens]} for path, tokens in found.rows]
        table = _lens_table(found)
        about: dict[str, Any] = {"input": found.name, "position": found.position, "layers": rows}
    elif found.image is not None:
        target = Path(options.output or f"{Path(options.input).stem}-{found.method}.png")
        explain.draw(found, target)
        print(f"{target}: {found.method} of {found.target} (score {found.score:.4g}){_rest(found)}")
        return 0
    else:
        scores = found.scores.tolist()
        table = _table(found)
        about = {
            "input": found.name, "method": found.method, "target": found.target,
            "score": found.score, "missed": found.missed, "parts": list(found.parts),
            "scores": scores,
        }  # fmt: skip
    if options.output:
        target = Path(options.output)
        if target.suffix != ".json":
            raise InputError(f"{target}: scores of this input are written as .json")
        target.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        return 0
    from rich.console import Console

    Console().print(table)
    return 0


def _table(found: Any) -> Any:
    """Parts with their scores, and a bar for the eye."""
    from rich.table import Table
    from rich.text import Text

    title = f"{found.method} of {found.target} (score {found.score:.4g}){_rest(found)}"
    table = Table("part", "score", "", title=title, title_justify="left")
    most = max(map(abs, found.scores), default=0.0) or 1.0
    for part, score in zip(found.parts, found.scores, strict=True):
        bar = Text("█" * round(20 * abs(score) / most), "red" if score < 0 else "green")
        shown = part if part.strip() else repr(part)
        table.add_row(Text(shown), f"{score:+.4f}", bar)
    return table


def _lens_table(found: Any) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table("layer", "likeliest tokens", title=f"after token {found.position}")
    for path, tokens in found.rows:
        shown = "  ".join(f"{token!r} {chance:.3f}" for token, chance in tokens)
        table.add_row(path, Text(shown))
    return table


def _rest(found: Any) -> str:
    """What integrated gradients leave unexplained."""
    return "" if found.missed is None else f"; the sum misses {found.missed:.2%} of the difference"


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)
