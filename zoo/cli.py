"""The `zoo` command."""

import json
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from zoo.cli_explain import Explain, explain_command
from zoo.cli_generate import Generate, generate_command
from zoo.cli_models import (
    Card,
    Models,
    Summary,
    card_command,
    models_command,
    summary_command,
)
from zoo.launch import configure, guarded, prepare, train_command

USAGE = """usage: zoo COMMAND ...

  train      train a model; the same as train.py (zoo train --help)
  models     list the models
  summary    parameters, FLOPs and bytes of a model, module by module
  card       what is known of a model: its counts, source, licence, and what was measured
  evaluate   metrics of a trained run on one of its splits
  predict    predictions of a trained run, or a pretrained folder, for files or text
  explain    what in an input a trained run's answer rests on
  generate   texts that a language model writes on from prompts
  convert    a trained run as a folder that transformers or timm opens
  doctor     what is wrong with a run folder or the installation, and what to do
  replay     run a run again and compare every logged step, bit by bit
  compare    two runs: the first step that differs, and the likely cause

zoo COMMAND --help tells the options of each.
"""


def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    name, rest = (argv[0], argv[1:]) if argv else ("", [])
    if name in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    if name == "--version":
        import zoo

        print(f"zoo-jax {zoo.__version__}")
        return 0
    if name == "train":
        return train_command(rest, "zoo train")
    if name not in COMMANDS:
        wrong = f"no command {name!r}\n\n" if name else ""
        print(f"{wrong}{USAGE}", end="", file=sys.stderr)
        return 2
    return guarded(lambda: _run(name, rest))


def _run(name: str, argv: list[str]) -> int:
    import tyro

    prepare(argv)
    options, command = COMMANDS[name]
    return command(tyro.cli(options, args=argv, prog=f"zoo {name}"))


@dataclass(frozen=True)
class Evaluate:
    """Computes the metrics of a trained run on one of its splits; prints them as JSON."""

    run: Positional[Path]
    """The run folder."""
    split: Literal["train", "validation", "test"] = "test"
    """Which examples."""
    checkpoint: str = "last"
    """last, best (by the validation score) or a step."""
    batch_size: int = 0
    """Examples in a batch; 0 is the run's own."""
    devices: int = 0
    """Devices to use, simulated on CPU where there are fewer; 0 uses all there are."""
    parallel: Literal["jit", "pmap"] = "jit"
    """How several devices are used."""
    config: str = ""
    """The run's config file, needed when it uses classes of its own."""


@dataclass(frozen=True)
class Predict:
    """Prints what a trained run predicts for images, tables, text files or text."""

    run: Positional[str]
    """The run folder; for images also a folder of transformers or timm, or a name on the hub."""
    inputs: Positional[tuple[str, ...]]
    """Files, folders or, for models of text, the text itself."""
    checkpoint: str = "last"
    """last, best (by the validation score) or a step."""
    format: Literal["table", "jsonl"] = "table"
    """A table, or one JSON object a line with all probabilities."""
    top: int = 0
    """Print so many of the likeliest classes; 0 prints all, and in tables three of more than 20."""
    on_bad: Literal["", "stop", "skip"] = ""
    """What an unreadable image does: stop with its name, or be left out; empty: as in training."""
    batch_size: int = 64
    """Examples in a batch."""
    config: str = ""
    """The run's config file, needed when it uses classes of its own."""


@dataclass(frozen=True)
class Convert:
    """Writes a trained run as a folder that transformers or timm opens, with its tokenizer or its
    image processor."""

    run: Positional[Path]
    """The run folder."""
    folder: Positional[Path]
    """Where to write; made where it does not exist."""
    format: str = "transformers"
    """The library that is to open it: transformers, or timm for models of images."""
    checkpoint: str = "last"
    """last, best (by the validation score) or a step."""
    config: str = ""
    """The run's config file, needed when it uses classes of its own."""


@dataclass(frozen=True)
class Doctor:
    """Reads a run folder without changing it, and the installation: what is there, what is wrong
    and what can be done. Exits with 0 when all is well, 1 when something is wrong."""

    run: Positional[Path | None] = None
    """The run folder; without one, the installation alone is checked."""
    json: bool = False
    """Print one JSON object instead of a table."""


@dataclass(frozen=True)
class Replay:
    """Runs a run again from its data and its folder alone, and compares every logged step.

    Exit code 0: identical; 1: something differs; 2: there is nothing to replay.
    """

    run: Positional[Path]
    """The run folder; nothing in it is executed or changed."""
    steps: str = ""
    """Which steps, as a:b; from the newest checkpoint at or before a. Empty is the whole run."""
    config: str = ""
    """The run's config file, needed when it uses classes of its own."""


@dataclass(frozen=True)
class Compare:
    """Compares two runs: the first step and parameter that differ, and the likely cause.

    Exit code 0: identical; 1: something differs; 2: there is nothing to compare.
    """

    a: Positional[Path]
    """A run folder."""
    b: Positional[Path]
    """Another run folder."""


def evaluate_command(options: Evaluate) -> int:
    """`zoo evaluate`."""
    import dataclasses

    from zoo import assemble, runs
    from zoo.errors import InputError

    configure(options.devices, True)
    from zoo.training import loop
    from zoo.training.evaluator import Evaluator

    if options.batch_size < 0:
        raise InputError(f"batch_size must be at least 0, got {options.batch_size}")
    opened = runs.open_run(options.run, options.checkpoint, _module(options.config), _warn)
    data = opened.run.data.open()
    if not data.info.counts.get(options.split):
        raise InputError(f"the data have no {options.split} split; they have {data.info.counts}")
    if data.info.fingerprint != opened.info.fingerprint:
        _warn("the data have changed since the run was trained")
    run = dataclasses.replace(
        opened.run, devices=options.devices, parallel=options.parallel,
        eval_batch_size=options.batch_size or opened.run.eval_batch_size,
        mesh=type(opened.run.mesh)(),
    )  # fmt: skip
    parallel = assemble.parallelism(run)
    evaluator = Evaluator(
        opened.module, opened.task, parallel,
        *assemble.text_generator(opened.module, opened.task, run.data, opened.info),
    )  # fmt: skip
    variables = parallel.place_state(opened.variables)
    split = data.splits[options.split]
    metrics = loop.evaluate(evaluator, variables, split, run, opened.info)
    result = {"run": str(options.run), "step": opened.step, "split": options.split}
    print(json.dumps(result | {"metrics": metrics}, indent=1))
    return 0


def predict_command(options: Predict) -> int:
    """`zoo predict`."""
    configure(0, True)
    from zoo.inference import prediction

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", UserWarning)
        opened = _opened(options)
        rows = prediction.predict(opened, list(options.inputs), options.batch_size)
    for warning in told:
        _warn(str(warning.message))
    rows = prediction.likeliest(rows, options.top)
    if options.format == "jsonl":
        for row in rows:
            print(json.dumps(row))
        return 0
    from rich.console import Console

    Console().print(prediction.as_table(rows))
    return 0


def _opened(options: Predict) -> Any:
    """The run, or the pretrained folder, with what an unreadable image does."""
    import dataclasses

    from zoo import pretrained, runs
    from zoo.errors import InputError
    from zoo.inference.folders import open_folder

    try:
        folder = pretrained.find_folder(options.run)
    except InputError as error:
        raise InputError(f"{options.run} is no run folder; {error}") from None
    if (folder / "config.json").is_file() and not pretrained.is_run(folder):
        if options.checkpoint != "last" or options.config:
            raise InputError(f"{folder} is no run folder: --checkpoint and --config are for runs")
        return open_folder(folder, options.on_bad)
    opened = runs.open_run(folder, options.checkpoint, _module(options.config), _warn)
    if not options.on_bad:
        return opened
    if not (hasattr(opened.run.data, "image_processor") and hasattr(opened.run.data, "on_bad")):
        raise InputError("--on-bad is for runs on folders of images")
    data = dataclasses.replace(opened.run.data, on_bad=options.on_bad)
    return dataclasses.replace(opened, run=dataclasses.replace(opened.run, data=data))


def convert_command(options: Convert) -> int:
    """`zoo convert`."""
    from zoo import runs

    configure(0, True)
    from zoo.inference.export import convert

    opened = runs.open_run(options.run, options.checkpoint, _module(options.config), _warn)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", UserWarning)
        convert(opened, options.folder, options.format)
    for warning in told:
        _warn(str(warning.message))
    print(f"{options.folder}: {options.run} at step {opened.step}, as {options.format} keeps it")
    return 0


def doctor_command(options: Doctor) -> int:
    """`zoo doctor`."""
    configure(0, False)
    from zoo.inspect import doctor

    findings = doctor.examine(options.run) if options.run else []
    findings += doctor.installation()
    if options.json:
        print(json.dumps(doctor.as_json(findings, options.run), indent=1))
        return 0 if doctor.healthy(findings) else 1
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("", "part", "found", "what to do")
    colours = {doctor.OK: "green", doctor.NOTE: "yellow", doctor.WRONG: "red"}
    for finding in findings:
        state = Text(finding.state, colours[finding.state])
        table.add_row(state, *map(Text, (finding.part, finding.what, finding.advice)))
    Console().print(table)
    return 0 if doctor.healthy(findings) else 1


def replay_command(options: Replay) -> int:
    """`zoo replay`."""
    from zoo import replay

    planned = replay.plan(options.run, options.steps)
    prepare(["--devices", str(planned.devices)])
    configure(planned.devices, True, planned.reproducible)
    found = replay.replay(planned, _module(options.config))
    print(f"{options.run}: {found}")
    return 0 if found.identical else 1


def compare_command(options: Compare) -> int:
    """`zoo compare`."""
    from zoo.compare import compare_runs

    found = compare_runs(options.a, options.b)
    print(f"{options.a} and {options.b}: {found}")
    return 0 if found.identical else 1


def _module(config: str) -> Any:
    from zoo.config import find_config, load

    return load(find_config(config))[0] if config else None


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)


COMMANDS = {
    "models": (Models, models_command),
    "summary": (Summary, summary_command),
    "card": (Card, card_command),
    "evaluate": (Evaluate, evaluate_command),
    "predict": (Predict, predict_command),
    "explain": (Explain, explain_command),
    "generate": (Generate, generate_command),
    "convert": (Convert, convert_command),
    "doctor": (Doctor, doctor_command),
    "replay": (Replay, replay_command),
    "compare": (Compare, compare_command),
}


if __name__ == "__main__":
    sys.exit(main())
