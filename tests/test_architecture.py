"""The house keeps its shape: who imports whom, how long files are, what the package never does."""

import ast
import importlib
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = sorted((ROOT / "zoo").rglob("*.py"))

# What each part of the package may import of the package, the first matching line counts.
# What is in FREE anything may import; zoo.cli and train.py are in no list: nothing imports them.
# The named axis is the one word that models and the parallel code share.
AXIS = "zoo.nn.axis"
BELOW_THE_LOOP = (
    "zoo.nn",
    "zoo.models",
    "zoo.weights",
    "zoo.tasks",
    "zoo.data",
    "zoo.parallel",
    "zoo.training",
    "zoo.surgery",
    "zoo.config",
)
FREE = ("zoo.errors", "zoo.paths")
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "zoo.errors": (),
    "zoo.paths": (),
    "zoo.known_bad": (),
    "zoo.hub": (),
    "zoo.nn": ("zoo.nn",),
    "zoo.models": ("zoo.nn", "zoo.models"),
    "zoo.weights": ("zoo.nn", "zoo.models", "zoo.weights"),
    "zoo.surgery": ("zoo.nn", "zoo.models", "zoo.weights", "zoo.surgery"),
    "zoo.tasks": ("zoo.tasks", AXIS),
    "zoo.data": ("zoo.data", "zoo.hub"),
    "zoo.parallel": ("zoo.parallel", AXIS),
    "zoo.training.loop": (
        *BELOW_THE_LOOP,
        "zoo.assemble",
        "zoo.config_json",
        "zoo.finetuning",
        "zoo.runs",
    ),
    "zoo.training": ("zoo.training", "zoo.parallel", "zoo.tasks", AXIS),
    "zoo.config": BELOW_THE_LOOP,
    "zoo.config_json": BELOW_THE_LOOP,
    "zoo.assemble": (*BELOW_THE_LOOP, "zoo.inference.generation"),
    "zoo.runs": (*BELOW_THE_LOOP, "zoo.assemble", "zoo.config_json"),
    "zoo.inspect.canaries": ("zoo.parallel",),
    "zoo.inspect.doctor": (
        *BELOW_THE_LOOP,
        "zoo.inspect",
        "zoo.config_json",
        "zoo.known_bad",
        "zoo.runs",
    ),
    "zoo.inspect.explain": (*BELOW_THE_LOOP, "zoo.inspect", "zoo.runs"),
    "zoo.inspect": (*BELOW_THE_LOOP, "zoo.inspect"),
    "zoo.inference.export": (*BELOW_THE_LOOP, "zoo.pretrained", "zoo.runs"),
    "zoo.inference.folders": (*BELOW_THE_LOOP, "zoo.pretrained", "zoo.runs"),
    "zoo.inference": (*BELOW_THE_LOOP, "zoo.inference", "zoo.assemble", "zoo.runs"),
    "zoo.compare": ("zoo.training", "zoo.config_json"),
    "zoo.pretrained": (
        "zoo.hub",
        "zoo.nn",
        "zoo.models",
        "zoo.weights",
        "zoo.parallel",
        "zoo.runs",
    ),
    "zoo.finetuning": (*BELOW_THE_LOOP, "zoo.config_json", "zoo.pretrained", "zoo.runs"),
    "zoo.replay": (
        *BELOW_THE_LOOP,
        "zoo.compare",
        "zoo.config_json",
        "zoo.finetuning",
        "zoo.runs",
    ),
    "zoo.launch": (*BELOW_THE_LOOP, "zoo.inspect.canaries"),
    "zoo.cli_explain": ("zoo",),
    "zoo.cli_generate": ("zoo",),
    "zoo.cli_models": ("zoo",),
    "zoo.cli": ("zoo",),
}
# The one module that executes Python from a path: the file the user named by --config.
EXECUTES_USER_FILES = "zoo.config"


def module_name(path: Path) -> str:
    """``zoo/nn/__init__.py`` is ``zoo.nn``."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of everything that a file imports, anywhere in it."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            origin = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)


def within(name: str, parent: str) -> bool:
    """Whether a dotted name is a parent or lies below it."""
    return name == parent or name.startswith(parent + ".")


def show(path: Path, line: int, what: str) -> str:
    return f"{path.relative_to(ROOT)}:{line} {what}"


def test_imports_flow_one_way() -> None:
    wrong = []
    for path in PACKAGE:
        name = module_name(path)
        if name == "zoo":  # re-exports all verbs, lazily
            continue
        allowed = next((MAY_IMPORT[part] for part in MAY_IMPORT if within(name, part)), None)
        assert allowed is not None, f"{name} has no line in MAY_IMPORT"
        for line, target in imports(path):
            if within(target, "zoo") and not any(
                within(target, part) for part in (*allowed, *FREE)
            ):
                wrong.append(show(path, line, f"imports {target}"))
    assert not wrong, "\n".join(wrong)


def test_nothing_imports_the_commands() -> None:
    files = [*PACKAGE, *(ROOT / "configs").glob("*.py"), *(ROOT / "bench").rglob("*.py")]
    wrong = [
        show(path, line, f"imports {target}")
        for path in files
        if module_name(path) != "zoo.cli"
        for line, target in imports(path)
        if within(target, "zoo.cli") or within(target, "train")
    ]
    assert not wrong, "\n".join(wrong)


def test_models_do_not_import_each_other() -> None:
    models = ROOT / "zoo" / "models"
    wrong = [
        show(path, line, f"imports {target}")
        for path in sorted(models.glob("*.py"))
        if path.stem not in ("__init__", "registry")
        for line, target in imports(path)
        if within(target, "zoo.models")
        and not within(target, "zoo.models.registry")
        and not within(target, module_name(path))
    ]
    assert not wrong, "\n".join(wrong)


def test_importing_zoo_is_cheap() -> None:
    heavy = "orbax grain tokenizers matplotlib sklearn pyarrow PIL tensorboardX sacrebleu"
    code = f"import sys, zoo; print(*sorted(set('{heavy}'.split()) & set(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == []


def test_third_party_imports_are_core_dependencies() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    def canonical(requirement: str) -> str:
        name = re.match(r"[\w.-]+", requirement)
        assert name is not None
        return re.sub(r"[-_.]+", "-", name[0]).lower()

    declared = {canonical(requirement) for requirement in project["dependencies"]}
    distributions = importlib.metadata.packages_distributions()
    wrong = []
    for path in [*PACKAGE, ROOT / "train.py"]:
        for line, target in imports(path):
            top = target.partition(".")[0]
            if top in sys.stdlib_module_names or top in ("zoo", ""):
                continue
            if not declared & {canonical(name) for name in distributions.get(top, [top])}:
                wrong.append(show(path, line, f"imports {top}, no core dependency"))
    assert not wrong, "what an extra brings is imported by zoo.errors.require\n" + "\n".join(wrong)


def test_files_stay_small() -> None:
    wrong = []
    for path in [*PACKAGE, *(ROOT / "bench").rglob("*.py"), ROOT / "train.py"]:
        limit = 320 if path.parent.name == "models" else 350
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > limit:
            wrong.append(f"{path.relative_to(ROOT)}: {lines} lines, limit {limit}: split the idea")
    assert not wrong, "\n".join(wrong)


def test_every_file_is_named_after_an_idea() -> None:
    vague = {"utils", "util", "helpers", "helper", "misc", "common"}
    files = [path for part in ("zoo", "bench", "tests") for path in (ROOT / part).rglob("*.py")]
    assert [path for path in files if path.stem in vague] == []


def test_no_paths_of_one_machine() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    pattern = re.compile(r"(?<![\w.~-])/(?:home|Users|root|work|mnt)/\w|\b[A-Z]:\\Users\\")
    wrong = []
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if not path.is_file():  # deleted, the deletion not yet committed
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:  # pictures and arrays
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if pattern.search(line):
                wrong.append(show(path, number, line.strip()[:100]))
    assert not wrong, "\n".join(wrong)


def test_every_parameter_is_named_by_hand() -> None:
    """By the lists of names of all sizes, which tests/models/test_all_models.py keeps true."""
    automatic = [
        f"{file.stem}: {line.split()[0]}"
        for file in sorted((ROOT / "tests" / "golden" / "names").glob("*.txt"))
        for line in file.read_text(encoding="utf-8").splitlines()
        if any(re.fullmatch(r"[A-Z]\w*_\d+", name) for name in line.split()[0].split("/"))
    ]
    assert not automatic, "give these modules a name=\n" + "\n".join(automatic)
