"""What does not fit is refused in one error that lists all of it; what fits is used, all of it."""

import json
import os
import shutil
from pathlib import Path

import golden_models
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, Mesh
from quick_compile import compiled_quickly  # noqa: F401 (a fixture of every test here)
from safetensors.numpy import load_file, save_file

import zoo
from zoo.errors import InputError
from zoo.weights.files import INDEX, read_header

NAME = "BertForSequenceClassification"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder as transformers writes it. Read only."""
    config, _, tensors, _ = golden_models.read(NAME)
    return golden_models.write_folder(tmp_path_factory.mktemp("saved") / "bert", config, tensors)


@pytest.fixture
def folder(saved, tmp_path):
    """A copy to change."""
    return shutil.copytree(saved, tmp_path / "bert")


def edit(folder, change):
    """Changes the tensors of a folder."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def configure(folder, **fields):
    """Changes fields of config.json; None removes one."""
    path = folder / "config.json"
    values = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({key: v for key, v in values.items() if v is not None}))


def refused(folder, *parts, **arguments):
    with pytest.raises(InputError) as told:
        zoo.from_pretrained(folder, **arguments)
    for part in parts:
        assert part in str(told.value)


def test_everything_that_does_not_fit_is_listed_at_once(folder):
    def change(tensors):
        del tensors["bert.pooler.dense.bias"]
        del tensors["classifier.weight"]
        tensors["bert.extra"] = np.zeros(3, np.float32)
        tensors["classifier.bias"] = np.zeros(4, np.float32)
        tensors["bert.encoder.layer.0.output.dense.bias"] = np.zeros(6, np.int32)

    edit(folder, change)
    refused(
        folder, str(folder), "2 missing: bert.pooler.dense.bias, classifier.weight",
        "1 unexpected: bert.extra",
        "2 wrong", "classifier.bias [4] makes head/bias [4], which the model has as [3]",
        "layer.0.output.dense.bias [6] is of type int32",
    )  # fmt: skip


def test_another_head_is_left_out_and_the_new_one_named(saved):
    with pytest.warns(UserWarning, match=r"has no head/bias, head/kernel; initialised"):
        model, variables = zoo.from_pretrained(saved, task="token-classification", num_classes=7)
    assert model.task == "token-classification" and model.cfg.num_classes == 7
    assert variables["params"]["head"]["kernel"].shape == (6, 7)
    assert "pooler" not in variables["params"]
    bare, same = zoo.from_pretrained(saved, task="feature-extraction")
    theirs = load_file(saved / "model.safetensors")
    np.testing.assert_array_equal(
        same["params"]["embed"]["embedding"], theirs["bert.embeddings.word_embeddings.weight"]
    )
    assert bare.task == "feature-extraction" and "head" not in same["params"]
    with pytest.warns(UserWarning, match="initialised"):
        _, new = zoo.from_pretrained(saved, num_classes=5)
    assert new["params"]["head"]["bias"].shape == (5,)
    assert zoo.from_pretrained(saved)[0].cfg.num_classes == 3


def test_labels_are_kept(folder, tmp_path):
    names = {"0": "bad", "1": "so so", "2": "good"}
    configure(folder, id2label=names)
    model, variables = zoo.from_pretrained(folder)
    assert model.cfg.labels == ("bad", "so so", "good")
    zoo.save_pretrained(tmp_path / "again", model, variables)
    assert json.loads((tmp_path / "again/config.json").read_text())["id2label"] == names
    configure(folder, id2label={"0": "a", "7": "b"})
    refused(folder, "id2label")


@pytest.mark.parametrize(
    "fields, told",
    [
        ({"model_type": "alexnet"}, "model_type 'alexnet'"),
        ({"model_type": None}, "model_type None"),
        ({"architectures": ["BertForFortuneTelling"]}, "BertForFortuneTelling"),
        ({"hidden_act": "mish"}, "activation 'mish'"),
        ({"hidden_act": 3}, "activation 3"),
        ({"position_embedding_type": "relative_key"}, "'relative_key' is not implemented"),
        ({"is_decoder": True}, "is_decoder True is not implemented"),
        ({"hidden_size": "6"}, "hidden_size is '6'; it must be of type int"),
        ({"hidden_size": 6.0}, "hidden_size is 6.0"),
        ({"hidden_size": True}, "hidden_size is True"),
        ({"hidden_size": -6}, "which cannot be"),
        ({"hidden_size": 2**40}, "which cannot be"),
        ({"num_hidden_layers": 10**9}, "which cannot be"),
        ({"num_attention_heads": 4}, "4 heads do not divide"),
        ({"layer_norm_eps": "small"}, "layer_norm_eps"),
        ({"num_hidden_layers": 2}, "16 missing: bert.encoder.layer.1"),
        ({"vocab_size": 14}, "word_embeddings.weight [13x6]"),
        ({"architectures": [[]]}, "no architecture"),
        ({"model_type": []}, "no model_type []"),
    ],
)
def test_values_of_the_config_are_never_ignored(folder, fields, told):
    configure(folder, **fields)
    refused(folder, told)


def test_unknown_fields_are_told(folder):
    configure(folder, quantum_gates=7)
    with pytest.warns(UserWarning, match="unknown fields are not used: quantum_gates"):
        zoo.from_pretrained(folder)


def test_no_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    refused(tmp_path / "nothing", "no such folder")
    refused(tmp_path, "no config.json")
    refused("somebody/some-model", "somebody/some-model: no such folder", "network")
    (tmp_path / "config.json").write_text("[" * 100_000)
    refused(tmp_path, "config.json is damaged")


def test_names_of_old_files(folder):
    def change(tensors):
        for name in list(tensors):
            old = name.replace("LayerNorm.weight", "LayerNorm.gamma")
            tensors[old.replace("LayerNorm.bias", "LayerNorm.beta")] = tensors.pop(name)
        tensors["bert.embeddings.position_ids"] = np.arange(8)

    before = zoo.from_pretrained(folder)[1]
    edit(folder, change)
    jax.tree.map(np.testing.assert_array_equal, before, zoo.from_pretrained(folder)[1])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_types(folder, tmp_path, dtype):
    edit(folder, lambda t: t.update({k: v.astype(dtype) for k, v in t.items()}))
    model, variables = zoo.from_pretrained(folder)
    assert model.dtype == model.param_dtype == dtype
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(dtype)}
    zoo.save_pretrained(tmp_path / "again", model, variables)
    ours, theirs = (load_file(f / "model.safetensors") for f in (tmp_path / "again", folder))
    assert all(ours[name].tobytes() == theirs[name].tobytes() for name in theirs)
    model, variables = zoo.from_pretrained(folder, param_dtype=jnp.float32)
    assert model.dtype == jnp.float32 and variables["params"]["head"]["bias"].dtype == jnp.float32


def shards(folder, count=3):
    """The folder's tensors in several files with an index."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    places = {name: f"part-{at % count}.safetensors" for at, name in enumerate(sorted(tensors))}
    for file in set(places.values()):
        part = {name: tensors[name] for name in tensors if places[name] == file}
        save_file(part, folder / file, {"format": "pt"})
    index = {"metadata": {}, "weight_map": places}
    (folder / INDEX).write_text(json.dumps(index))
    return index


def test_shards_and_a_mesh(saved, folder):
    index = shards(folder)
    whole = zoo.from_pretrained(saved)[1]
    jax.tree.map(np.testing.assert_array_equal, whole, zoo.from_pretrained(folder)[1])
    devices = np.asarray(jax.devices()[:4]).reshape(1, 2, 2)
    mesh = Mesh(devices, ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)
    spread = zoo.from_pretrained(folder, mesh=mesh)[1]
    kernel = spread["params"]["layer0"]["attention"]["query"]["kernel"]
    assert kernel.sharding.shard_shape(kernel.shape) == (3, 3)
    jax.tree.map(np.testing.assert_array_equal, whole, spread)
    mesh = Mesh(devices.reshape(1, 1, 4), mesh.axis_names, axis_types=mesh.axis_types)
    refused(folder, "does not divide", mesh=mesh)

    for place, told in (
        ("part-9.safetensors", "missing"), ("../bert/part-0.safetensors", "no safetensors file"),
        ("/etc/passwd", "no safetensors file"), (7, "is damaged"), ("..", "no safe"),
    ):  # fmt: skip
        changed = {**index["weight_map"], "classifier.bias": place}
        (folder / INDEX).write_text(json.dumps({"weight_map": changed}))
        refused(folder, told)
    for text in ("", "{", "[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": []}}', "\xff"):
        (folder / INDEX).write_text(text)
        refused(folder, "is damaged")


def test_a_link_out_of_the_folder_is_not_followed(folder, tmp_path):
    shards(folder)
    shutil.move(folder / "part-0.safetensors", tmp_path / "elsewhere.safetensors")
    (folder / "part-0.safetensors").symlink_to(tmp_path / "elsewhere.safetensors")
    refused(folder, "part-0.safetensors, which is missing")


HOSTILE = [0, -1, 2**31, 2**63, 2**70, 1.5, None, "", "F32", "x", [], {}, [0], [0, 2**62], True]


@pytest.fixture(scope="module")
def of_each_family(tmp_path_factory):
    """A folder of each family, the first of the frozen ones."""
    place, found = tmp_path_factory.mktemp("families"), {}
    for name in golden_models.MODELS:
        config, _, tensors, _ = golden_models.read(name)
        kind = config["model_type"]
        if kind not in found:
            found[kind] = golden_models.write_folder(place / kind, config, tensors)
    return found


@pytest.mark.filterwarnings("ignore:.*unknown fields|.*initialised")
@settings(max_examples=int(os.environ.get("ZOO_FOLDERS", "60")), deadline=None)
@given(data=st.data())
def test_mutated_files_are_read_or_refused(of_each_family, tmp_path_factory, data):
    """Headers, bytes, lengths and config values changed at random."""
    kind = data.draw(st.sampled_from(sorted(of_each_family)))
    mutated(of_each_family[kind], tmp_path_factory, data)


def mutated(saved, tmp_path_factory, data):
    """One folder with a few changes: it loads, or gives one InputError."""
    folder = Path(shutil.copytree(saved, tmp_path_factory.mktemp("mutated") / "copy"))
    path = folder / "model.safetensors"
    for _ in range(data.draw(st.integers(1, 3))):
        content = path.read_bytes()
        kind = data.draw(st.sampled_from(["header", "header", "bytes", "cut", "config", "length"]))
        if kind == "config":
            values = json.loads((folder / "config.json").read_text())
            values[data.draw(st.sampled_from(sorted(values)))] = data.draw(st.sampled_from(HOSTILE))
            (folder / "config.json").write_text(json.dumps(values))
        elif kind == "cut":
            path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
        elif kind == "bytes" and content:
            at = data.draw(st.integers(0, min(len(content) - 1, 6000)))
            path.write_bytes(
                content[:at] + bytes([data.draw(st.integers(0, 255))]) + content[at + 1 :]
            )
        elif kind == "length":
            size = data.draw(st.sampled_from([0, 1, 7, 2**20, 2**40, 2**63, 2**64 - 1]))
            path.write_bytes(size.to_bytes(8, "little") + content[8:])
        else:
            try:
                length = int.from_bytes(content[:8], "little")
                header = json.loads(content[8 : 8 + length])
                name = data.draw(st.sampled_from(sorted(header)))
                part = data.draw(st.sampled_from(["dtype", "shape", "data_offsets", ""]))
                value = data.draw(st.sampled_from(HOSTILE))
                if part:
                    header[name][part] = value
                else:
                    header[str(value)] = header.pop(name)
                text = json.dumps(header).encode()
                path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
            except (ValueError, TypeError, KeyError, MemoryError, OverflowError):
                continue
    try:
        zoo.from_pretrained(folder)
    except InputError as error:
        assert str(error)
    finally:
        shutil.rmtree(folder)


def test_a_header_is_read_as_the_reference_reads_it(saved):
    tensors = load_file(saved / "model.safetensors")
    found = read_header(saved / "model.safetensors")
    assert found.keys() == tensors.keys()
    for name, tensor in found.items():
        np.testing.assert_array_equal(tensor.map(), tensors[name])
