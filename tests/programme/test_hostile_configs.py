"""Hostile command lines and config.json: a message and exit code 2, or a run that survives JSON.

`ZOO_HOSTILE_CONFIGS` sets how many of each half are tried (default 1000 in all), `ZOO_SEED` which.
"""

import dataclasses
import json
import os
import random
import sys

import pytest

from zoo import config as configs
from zoo import config_json, data, runs, tasks
from zoo.errors import InputError

from .watch import damaged, watched

COUNT = int(os.environ.get("ZOO_HOSTILE_CONFIGS", "1000"))
NAMES = configs.known_configs()
VALUES = [
    "", "0", "1", "-1", "2", "7", "64", "1e3", "1e999", "-1e999", "nan", "-inf", "0x10", "1_000",
    "9" * 400, "-" + "9" * 30, str(2**31), str(2**63), "1.5", "True", "False", "None", "null", "~",
    "adam", "adamw", "cosine", "linear", "float16", "pmap", "jit", "stop", "skip", "1h", "-5m",
    "!!python/object/apply:os.system ['true']", "!!python/name:os.system", "&a [*a]", "${HOME}",
    "$(true)", "`true`", "{}", "[]", "{'a': 1}", '{"a": [1, 2]}', "[" * 500, "(" * 500, "--", "-",
    "__import__('os').system('true')", "../../../../tmp/x", "/", "/etc/passwd", "/dev/zero", "..",
    "a/../b", "~root", "file:///etc/passwd", "gs://bucket/x", "x" * 5000, "a\nb", "\n", "\r\n", " ",
    "\t", "a\0b", "\0", "é", "\u202e", "\ud800", "日本", "💥" * 50, "%s%n", "conv 3 3", "dense 8",
    "batch_norm", "conv 4 3 padding=999999999", "conv -1 0", "dense 99999999999", "@args.txt", "=",
]  # fmt: skip
JUNK = [
    "--stepz", "--", "-h", "--help", "--version", "--config", "--config=", "--config=../x.py", "-x",
    "--config=/dev/null", "--config=a\0b", "--config=\n", "--steps=", "--=", "---steps", "stray",
    "--model", "--optimizer.schedule.nothing", "--a.b.c.d.e.f.g", "--" + "a." * 2000 + "b",
    "--no-tensorboard", "--tensorboard", "--augment", "@config", "--tyro-print-completion",
]  # fmt: skip


def options_of(value, path=""):
    """Every option that a run's fields make on the command line."""
    for part in dataclasses.fields(value):
        name = f"{path}{part.name.replace('_', '-')}"
        found = getattr(value, part.name)
        if dataclasses.is_dataclass(found):
            yield from options_of(found, f"{name}.")
        else:
            yield f"--{name}"


def command_line(rng):
    name = rng.choice(NAMES)
    options = OPTIONS[name]
    line = ["--config", name] if rng.random() < 0.95 else ["--config", rng.choice(VALUES)]
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        kind = rng.random()
        if kind < 0.1:
            line.insert(rng.randrange(len(line) + 1), rng.choice(JUNK))
        elif kind < 0.2:
            line.append(rng.choice(VALUES))
        elif kind < 0.3:
            line.append(f"{rng.choice(options)}={rng.choice(VALUES)}")
        else:
            line.append(rng.choice(options))
            line += rng.choices(VALUES, k=rng.choice((1, 1, 1, 1, 0, 2, 5)))
    return line


OPTIONS = {
    name: sorted(set(options_of(configs.load(configs.find_config(name))[1]))) for name in NAMES
}


def through_json(run, module):
    return config_json.from_json(json.loads(json.dumps(config_json.to_json(run))), module)


def test_hostile_command_lines(tmp_path, monkeypatch, capsys, seed, record_property):
    monkeypatch.chdir(tmp_path)
    rng, outcomes = random.Random(seed), {"accepted": 0, "refused": 0}
    for number in range(COUNT // 2):
        line = command_line(rng)
        told = f"{number}: {line!r}"[:2000]
        try:
            with watched():
                run, module = configs.parse(line)
                assert through_json(run, module) == run, told
            outcomes["accepted"] += 1
        except InputError as error:
            assert str(error).strip(), told
            outcomes["refused"] += 1
        except SystemExit as stopped:
            output = capsys.readouterr()
            assert stopped.code in (0, 2), told
            assert (output.out if stopped.code == 0 else output.err).strip(), told
            outcomes["refused"] += 1
        except BaseException as error:
            raise AssertionError(f"{told}: {error!r}") from error
        if number % 50 == 0:
            capsys.readouterr()
    assert not list(tmp_path.rglob("*"))
    for name, count in outcomes.items():
        record_property(name, count)


HOSTILE_JSON = [
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**400, 1.5, float("nan"), float("inf"), "", "x",
    "..", "/etc/passwd", "a\0b", "a\nb", "\ud800", "user:Config", "user:__class__", "user:", "os",
    "os.system", "__class__", "__init__", "mlp", "digits", "!!python/object:os.system", [], {},
    [[]], [{}], {"class": "Optimizer"}, {"class": "Schedule", "name": "cosine"}, {"class": None},
    {"class": "mlp"}, {"class": ["mlp"]}, {"class": {"class": "mlp"}}, ["x"] * 3, [1, 2, 3],
    {"__class__": "x"}, {"class": "Path"}, {"class": "dataclass"}, {"class": "InputError"},
]  # fmt: skip


def places(value):
    """Every container of a JSON document with each of its keys."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in list(items):
        yield value, key
        if isinstance(item, dict | list):
            yield from places(item)


def fresh(value):
    """A copy: one and the same list in two places, or inside itself, is no document."""
    return json.loads(json.dumps(value))


def changed(stored, rng):
    """A document with some values exchanged, left out, added, nested or renamed."""
    value = json.loads(stored)
    for _ in range(rng.choice((1, 1, 2, 5))):
        place, key = rng.choice(list(places(value)) or [({"x": 0}, "x")])
        kind = rng.randrange(6)
        if kind < 3:
            place[key] = fresh(rng.choice(HOSTILE_JSON))  # changes may reach into it
        elif kind == 3:
            del place[key]
        elif kind == 4 and isinstance(place, dict):
            name = rng.choice(("more", "__class__", "class", "", "\0", "steps"))
            place[name] = fresh(place[key])
        else:
            for _ in range(rng.choice((1, 3, 150))):
                place[key] = [place[key]] if rng.random() < 0.5 else {"class": place[key]}
    return value


def documents():
    """config.json of every config of the project, every source and every task."""
    found = [configs.load(configs.find_config(name))[1] for name in NAMES]
    plain = dataclasses.replace(found[0])
    for cls in data.REGISTRY.values():
        needs = any(part.name == "path" for part in dataclasses.fields(cls))
        found.append(dataclasses.replace(plain, data=cls(path="somewhere") if needs else cls()))
    found += [dataclasses.replace(plain, task=cls()) for cls in tasks.REGISTRY.values()]
    return [(json.dumps(config_json.to_json(run)), run) for run in found]


def test_hostile_run_folders(tmp_path, seed, record_property):
    """A run folder is data: reading it gives a run or an InputError, and imports nothing."""
    rng, stored = random.Random(seed + 1), documents()
    path, outcomes = tmp_path / "config.json", {"accepted": 0, "refused": 0}
    modules = set(sys.modules)
    for number in range(COUNT - COUNT // 2):
        text, run = rng.choice(stored)
        content = json.dumps(changed(text, rng)).encode()
        if rng.random() < 0.3:
            content = damaged(text.encode(), rng)
        path.write_bytes(content)
        told = f"{number}: {content[:3000]!r}"
        try:
            with watched():
                found = config_json.from_json(runs.read_config(tmp_path))
                again = through_json(found, None)
            assert again == found, told
            outcomes["accepted"] += 1
        except InputError as error:
            assert str(error).strip(), told
            outcomes["refused"] += 1
        except BaseException as error:
            raise AssertionError(f"{told}: {error!r}") from error
        try:  # a resume compares before it builds anything
            with watched():
                runs.check_config(tmp_path, run)
        except InputError:
            pass
        except BaseException as error:
            raise AssertionError(f"{told}: {error!r}") from error
    fresh = {name for name in set(sys.modules) - modules if not name.startswith("zoo")}
    assert not fresh & {"os.system", "pickle5", "ctypes.util"}
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]
    for name, count in outcomes.items():
        record_property(name, count)
    record_property("documents", len(stored))


@pytest.mark.parametrize("depth", [100, 10_000, 200_000])
@pytest.mark.parametrize("opening, closing", [("[", "]"), ('{"class": ', "}")])
def test_deep_nesting(tmp_path, depth, opening, closing):
    text = json.dumps({"steps": 0}).replace("0", opening * depth + "1" + closing * depth)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError), watched():
        config_json.from_json(runs.read_config(tmp_path))
