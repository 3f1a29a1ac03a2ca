"""A run folder is data: no code comes from it, nor from anything else but the user's own config."""

import ast
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from test_architecture import EXECUTES_USER_FILES, PACKAGE, ROOT, imports, module_name, show, within
from tiny_runs import again, features_run

from zoo import config_json
from zoo.errors import InputError

# Modules that turn bytes into objects or code, or start programs.
FORBIDDEN = ("pickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "runpy",
             "zipimport", "pty", "code", "codeop", "yaml", "torch")  # fmt: skip
ONLY_IN = {
    "subprocess": ("zoo.training.source",),  # git, to name the revision of the source
    "ctypes": ("zoo.launch", "zoo.inference.memory"),  # mallopt, madvise
    "importlib.util": (EXECUTES_USER_FILES,),
}
BUILTINS = ("eval", "exec", "compile", "__import__", "breakpoint", "execfile")
EXECUTING = ("exec_module", "load_module", "spec_from_file_location", "popen",
             "find_class", "extension_module")  # fmt: skip
# Modules imported by a name that is not written out: from tables of the package itself.
IMPORTS_BY_NAME = {
    "zoo": ("_VERBS[name]", "f'zoo.{name}'"),  # keys of two tables beside it
    "zoo.errors": ("module",),  # what a task or source requires
    "zoo.inspect": ("f'zoo.inspect.{_PLACES[name]}'",),  # likewise
    "zoo.weights.timm": ("f'{__name__}.{name}'",),  # the tables beside it
    "zoo.weights.loading": ("f'{weights.__name__}.{info.name}'",),  # the tables beside it
    "zoo.models.registry": ("f'{models.__name__}.{info.name}'", "type(config).__module__"),
}


def violations(path):
    """Everything in a file that could run what is not the package's own."""
    name, tree = module_name(path), ast.parse(path.read_text(encoding="utf-8"))
    for line, target in imports(path):
        if any(within(target, module) for module in FORBIDDEN):
            yield show(path, line, f"imports {target}")
        for module, allowed in ONLY_IN.items():
            if within(target, module) and name not in allowed:
                yield show(path, line, f"imports {target}")
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in BUILTINS:
            yield show(path, node.lineno, f"names {node.id}")
        if isinstance(node, ast.Attribute) and node.attr in EXECUTING:
            if name != EXECUTES_USER_FILES:
                yield show(path, node.lineno, f"uses {ast.unparse(node)}")
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called.startswith(("builtins.", "os.system", "os.exec", "os.spawn", "os.posix_spawn")):
            yield show(path, node.lineno, f"calls {called}")
        if called.endswith("import_module") and not isinstance(node.args[0], ast.Constant):
            if ast.unparse(node.args[0]) not in IMPORTS_BY_NAME.get(name, ()):
                yield show(path, node.lineno, f"imports by name: {ast.unparse(node)}")
        for keyword in node.keywords:
            dangerous = keyword.arg in ("allow_pickle", "trust_remote_code", "shell")
            if dangerous and ast.unparse(keyword.value) != "False":
                yield show(path, node.lineno, f"passes {ast.unparse(keyword)}")


def test_no_code_hides_in_data():
    wrong = [found for path in [*PACKAGE, ROOT / "train.py"] for found in violations(path)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "line",
    [
        "import pickle", "from marshal import loads", "import shelve as s", "import torch.jit",
        "eval('1')", "f = exec", "compile('1', '', 'eval')", "__import__('os')",
        "builtins.eval('1')", "np.load(f, allow_pickle=True)", "np.load(f, allow_pickle=flag)",
        "import subprocess",
        "importlib.import_module(config['class'])", "from importlib import util",
        "spec.loader.exec_module(m)", "os.system('ls')", "load(x, trust_remote_code=True)",
    ],
)  # fmt: skip
def test_the_search_finds_it(tmp_path, monkeypatch, line):
    monkeypatch.setattr("test_architecture.ROOT", tmp_path)
    path = tmp_path / "zoo" / "planted.py"
    path.parent.mkdir()
    path.write_text(line + "\n")
    assert list(violations(path))


WATCHED = """
import sys
from pathlib import Path

run = Path(sys.argv[1]).resolve()
found = []

def text(value):
    return value if isinstance(value, str) else value.decode() if isinstance(value, bytes) else ""

def inside(path):
    try:
        return bool(text(path)) and Path(text(path)).resolve().is_relative_to(run)
    except (OSError, ValueError):
        return False

busy = False

def watch(event, arguments):
    global busy
    if busy:
        return
    busy = True
    try:
        if event == "open" and text(arguments[0]).endswith((".py", ".pyc", ".so", ".pth", ".pkl")):
            wrong = inside(arguments[0])
        elif event == "exec":
            wrong = inside(getattr(arguments[0], "co_filename", ""))
        elif event == "compile":
            wrong = inside(arguments[1])
        elif event == "import":
            wrong = inside(arguments[1])
        elif event == "ctypes.dlopen":
            wrong = inside(arguments[0])
        elif event in ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.system"):
            wrong = arguments[0] not in ALLOWED
        else:
            wrong = event == "pickle.find_class"
        if wrong:
            found.append(f"{event} {arguments!r}"[:300])
    finally:
        busy = False

ALLOWED = ("git", "fc-list")  # the revision of the source; matplotlib's fonts, for curves.png
sys.addaudithook(watch)
from zoo import cli, launch
launch.keep_freed_memory = lambda: None
codes = [
    cli.main(["evaluate", str(run)]),
    cli.main(["predict", str(run), "new.npz", "--format", "jsonl"]),
    cli.main(["doctor", str(run)]),
    cli.main(["train", "--config", "own.py", "--workdir", str(run)]),
]
assert codes == [0, 0, 0, 0], codes
assert not any(inside(getattr(m, "__file__", "") or "") for m in list(sys.modules.values()))
print("FOUND", found)
assert not Path("EXECUTED").exists()
import runpy
runpy.run_path(str(run / "configs.py"))  # the watch does see what there is to see
print("CONTROL", len(found))
"""
PLANTED = (
    "sitecustomize.py", "usercustomize.py", "config.py", "configs.py", "numpy.py", "jax.py",
    "orbax.py", "zoo.py", "__init__.py", "run.pth", "checkpoints/__init__.py",
    "checkpoints/12/config.py", "checkpoints/12/state/handler.py",
    "checkpoints/12/meta/metadata.py",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The working folder of a finished run, whose folder is full of code."""
    folder = tmp_path_factory.mktemp("supply")
    run = features_run(folder)
    again(run)
    config = json.loads((folder / "run" / "config.json").read_text())
    del config["workdir"]
    np.savez(folder / "new.npz", x=np.load(folder / "tiny.npz")["x_test"][:3])
    (folder / "own.py").write_text(
        '"""The same run."""\nimport json\nfrom zoo import config_json\n'
        f"config = config_json.from_json(json.loads({json.dumps(json.dumps(config))}))\n"
    )
    for name in PLANTED:
        path = folder / "run" / name
        path.write_text(
            "import pathlib\n"
            f"pathlib.Path({str(folder / 'EXECUTED')!r}).write_text({name!r})\n"
        )  # fmt: skip
    shutil.copy(folder / "run" / "numpy.py", folder / "run" / "weights.pkl")
    return folder


@pytest.mark.slow
def test_nothing_in_a_run_folder_is_executed(folder):
    """Evaluating, predicting, examining and resuming: no import, no code, no program."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_"))}
    environment = kept | {
        "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder / "cache"),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, folder / "run"], cwd=folder, env=environment,
        capture_output=True, text=True, timeout=150,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    *_, found, control = done.stdout.splitlines()
    assert found == "FOUND []"
    assert int(control.removeprefix("CONTROL ")) >= 2 and (folder / "EXECUTED").exists()
    assert "resumed at step 12" in done.stderr


@pytest.mark.parametrize(
    "name", ["os.system", "user:system", "builtins.eval", "__import__", "../evil", "config", "Run"]
)
@pytest.mark.parametrize("part", ["model", "task", "data", "optimizer.schedule", "augment"])
def test_a_config_names_no_code(folder, part, name):
    """Names in config.json are looked up in tables; elsewhere they only choose a dataclass."""
    values = json.loads((folder / "run" / "config.json").read_text())
    place = values
    for step in part.split("."):
        place = place[step]
    place["class"] = name
    try:
        config_json.from_json(values)
    except InputError:
        return
    assert "." in part or part == "augment", "the name was ignored where it matters"
