"""`zoo generate`: texts continued by a model from a folder, from the hub, or from a run."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from zoo.errors import InputError
from zoo.launch import configure


@dataclass(frozen=True)
class Generate:
    """Continues prompts by a language model; prints the texts, or the answers in a chat."""

    model: Positional[str]
    """A folder that transformers wrote, a run folder, or a name on the Hugging Face hub."""
    prompts: Positional[tuple[str, ...]]
    """The beginnings of the texts."""
    max_new_tokens: int = 50
    """How far to go, in tokens."""
    temperature: float = 0.0
    """0 takes the likeliest token each time; above, tokens are drawn, from scores divided by it."""
    top_k: int = 0
    """Draw from so many of the likeliest tokens; 0: from all."""
    top_p: float = 1.0
    """Draw from the fewest likeliest tokens that together have this probability."""
    min_p: float = 0.0
    """Draw from tokens at least so likely compared with the likeliest."""
    repetition_penalty: float = 1.0
    """Above 1 makes tokens that have occurred unlikelier."""
    beams: int = 1
    """Sequences that a beam search holds; 1: no beam search."""
    seed: int = 0
    """Of the draws; the same seed gives the same text."""
    draft: str = ""
    """A smaller model of the same vocabulary, to write the same text faster."""
    stream: bool = False
    """Print tokens as they come; on by itself for one prompt where stdout is a terminal."""
    chat: bool = False
    """Each prompt is what the user says, put into the folder's chat template."""
    format: Literal["text", "jsonl"] = "text"
    """Texts, or one JSON object a line: prompt, text (what follows it), tokens (their number)."""
    checkpoint: str = "last"
    """Of a run folder: last, best (by the validation score) or a step."""
    config: str = ""
    """The run's config file, needed when it uses classes of its own."""


@dataclass(frozen=True)
class Writer:
    """A model that generates text, with its vocabulary."""

    module: Any
    variables: Any
    encode: Callable[[str], Sequence[int]]
    decode: Callable[[Sequence[int]], str]
    ends: tuple[int, ...]


def generate_command(options: Generate) -> int:
    """`zoo generate`."""
    if not options.prompts:
        raise InputError("there is no prompt; give one or more texts behind the model")
    for number, prompt in enumerate(options.prompts, 1):
        if not prompt:
            raise InputError(f"prompt {number} is empty")
    plain = options.format == "text" and options.beams == 1 and not options.draft
    one = len(options.prompts) == 1
    if options.stream and not (plain and one):
        raise InputError("--stream is for one prompt, as text, without --beams and --draft")
    if not options.temperature and (options.top_k, options.top_p, options.min_p) != (0, 1.0, 0.0):
        raise InputError("--top-k, --top-p and --min-p are for draws: set --temperature, such as 1")
    configure(0, True)
    writer = open_writer(options.model, options)
    prompts = [list(writer.encode(prompt)) for prompt in options.prompts]
    _check_length(writer, prompts, options)
    draft = None
    if options.draft:
        smaller = open_writer(options.draft, options)
        draft = (smaller.module, smaller.variables)
    if options.stream or plain and one and sys.stdout.isatty():
        _stream(writer, prompts[0], options)
        return 0
    for prompt, row in zip(options.prompts, _rows(writer, prompts, options, draft), strict=True):
        text = _text(writer, row)
        if options.format == "jsonl":
            # All of the text can be told apart, so what follows an end is no part of it.
            print(json.dumps({"prompt": prompt, "text": text, "tokens": len(row)}))
        else:
            print(text if options.chat else prompt + text)
    return 0


def open_writer(name: str, options: Generate) -> Writer:
    """The model of a folder or name, and how its text becomes ids.

    Raises:
        InputError: nothing there, no tokenizer, no chat template, or no model for text-generation.
    """
    from zoo.hub import find_folder
    from zoo.pretrained import is_run

    folder = find_folder(name)
    return _run_writer(folder, options) if is_run(folder) else _hub_writer(folder, options)


def _hub_writer(folder: Path, options: Generate) -> Writer:
    from zoo.data.tokenizer import load_tokenizer
    from zoo.pretrained import from_pretrained

    tokenizer = load_tokenizer(folder)
    if options.chat and not tokenizer.chat_template:
        raise InputError(f"{folder} has no chat template; leave --chat out")
    module, variables = from_pretrained(folder)
    _check_task(module, folder)

    def encode(prompt: str) -> Sequence[int]:
        if options.chat:
            said = [{"role": "user", "content": prompt}]
            return tokenizer.apply_chat_template(
                said, add_generation_prompt=True, return_dict=False
            )
        return tokenizer(prompt, truncation=False)["input_ids"]

    ends = None
    for name in ("generation_config.json", "config.json"):
        given = _json(folder / name)
        ends = given.get("eos_token_id") if ends is None else ends
    ends = tokenizer.eos_token_id if ends is None else ends
    ends = [] if ends is None else ends if isinstance(ends, list) else [ends]
    return Writer(
        module, variables, encode, lambda ids: tokenizer.decode(ids, skip_special_tokens=True),
        tuple(ends),
    )  # fmt: skip


def _run_writer(folder: Path, options: Generate) -> Writer:
    from zoo import runs
    from zoo.config import find_config, load

    if options.chat:
        raise InputError(f"{folder} is a run folder, which has no chat template; leave --chat out")
    own = load(find_config(options.config))[0] if options.config else None
    opened = runs.open_run(folder, options.checkpoint, own, _warn)
    _check_task(opened.module, folder)
    data, info = opened.run.data, opened.info

    def encode(prompt: str) -> Sequence[int]:
        batch = data.encode([prompt], info)[1]  # one row, or several that follow one another
        ids = batch["input_ids"]
        return ids[batch.get("attention_mask", ids == ids) != 0].tolist()

    import numpy as np

    return Writer(
        opened.module, opened.variables, encode,
        lambda ids: data.decode(np.asarray(ids, np.int32), info), (info.pad,),
    )  # fmt: skip


def _rows(writer: Writer, prompts: list[list[int]], options: Generate, draft: Any) -> list:
    """The new tokens of each prompt, up to its end."""
    import numpy as np

    longest = max(map(len, prompts))
    ids = np.zeros((len(prompts), longest), np.int32)
    mask = np.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :], mask[row, longest - len(prompt) :] = prompt, 1
    found = _generate(writer, ids, mask, options, draft=draft)
    return [_until_end(row, writer.ends) for row in np.asarray(found)[:, longest:].tolist()]


def _generate(writer: Writer, ids: Any, mask: Any, options: Generate, **more: Any) -> Any:
    import jax

    from zoo.inference.generate import generate

    drawn = options.temperature != 0
    if drawn:
        more |= {
            "temperature": options.temperature, "top_k": options.top_k, "top_p": options.top_p,
            "min_p": options.min_p, "key": jax.random.key(options.seed),
        }  # fmt: skip
    return generate(
        writer.module, writer.variables, ids, mask, max_new_tokens=options.max_new_tokens,
        repetition_penalty=options.repetition_penalty, num_beams=options.beams, do_sample=drawn,
        eos_token_id=list(writer.ends) or None, **more,
    )  # fmt: skip


def _stream(writer: Writer, prompt: list[int], options: Generate) -> None:
    """Prints the text as it grows; what may still change, half a character, is held back."""
    import numpy as np

    if not options.chat:
        print(options.prompts[0], end="", flush=True)
    row: list[int] = []
    shown = 0

    def show(tokens: np.ndarray) -> None:
        nonlocal shown
        row.extend(tokens.tolist())
        text = _text(writer, _until_end(row, writer.ends)).rstrip("\ufffd")
        print(text[shown:], end="", flush=True)
        shown = max(shown, len(text))

    _generate(writer, np.asarray([prompt], np.int32), None, options, callback=show)
    print(_text(writer, _until_end(row, writer.ends))[shown:])


def _text(writer: Writer, row: list[int]) -> str:
    return writer.decode(row) if row else ""


def _until_end(row: list[int], ends: tuple[int, ...]) -> list[int]:
    at = next((i for i, token in enumerate(row) if token in ends), len(row))
    return row[:at]


def _check_length(writer: Writer, prompts: list[list[int]], options: Generate) -> None:
    positions = getattr(writer.module.cfg, "max_length", None)
    for number, prompt in enumerate(prompts, 1):
        if not prompt:
            raise InputError(f"prompt {number} has no token")
        if positions and len(prompt) + options.max_new_tokens > positions:
            raise InputError(
                f"prompt {number} has {len(prompt)} tokens; with --max-new-tokens "
                f"{options.max_new_tokens} that is more than the model's {positions} positions"
            )


def _check_task(module: Any, folder: Path) -> None:
    task = getattr(module, "task", None)
    if task != "text-generation":
        raise InputError(f"{folder} holds a model for {task}; generate needs text-generation")


def _json(path: Path) -> dict[str, Any]:
    """A file's object; empty where it is missing or damaged, which who opens it will say."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)
