"""Runs that train adapters: what moves, resumes, and what becomes of it."""

import dataclasses
import shutil

import golden_models
import numpy as np
import pytest
from compile_cache import compiled_once  # noqa: F401 (a fixture of every test here)
from tiny_runs import again, arrays_of, assert_same_bits, features_run

import zoo
from zoo import runs, surgery
from zoo.config import LoRA, Optimizer, Pretrained
from zoo.data import Npz
from zoo.errors import InputError
from zoo.inference.export import convert

pytestmark = pytest.mark.slow

DORA = LoRA(("*/query", "layer0/up"), rank=2, dora=True, dropout=0.1, whole=("head",))


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A run of 6 steps from a tiny BERT that transformers wrote, and that BERT's folder."""
    place = tmp_path_factory.mktemp("lora")
    config, _, tensors, _ = golden_models.read("BertForSequenceClassification")
    folder = golden_models.write_folder(place / "bert", config, tensors)
    ids = np.random.default_rng(5).integers(1, 13, (60, 7))
    np.savez(place / "ids.npz", x=ids, y=ids[:, 0] % 3)
    run = features_run(
        place, model=Pretrained(), init_from=str(folder), steps=6, eval_every=3, keep=9,
        data=Npz(str(place / "ids.npz"), form="input_ids"), lora=DORA,
        optimizer=Optimizer(name="adamw", learning_rate=1e-2, weight_decay=0.1),
    )  # fmt: skip
    again(run)
    return run, folder


def test_adapters_and_head_move_and_no_other_bit(tuned):
    run, folder = tuned
    found = arrays_of(runs.open_run(run.workdir).variables["params"])
    start = arrays_of(zoo.from_pretrained(folder)[1]["params"])
    moved = {path for path in start if not np.array_equal(start[path], found[path])}
    assert moved == {"head/bias", "head/kernel"}
    layers = {path.rpartition("/")[0] for path in found.keys() - start.keys()}
    depth = zoo.from_pretrained(folder)[0].cfg.depth
    queries = {f"layer{i}/attention/query" for i in range(depth)}
    assert layers == {"layer0/up"} | queries
    assert all(np.any(found[f"{layer}/lora_b"]) for layer in layers)


def test_a_run_resumes_to_the_same_bits(tuned, tmp_path):
    run, _ = tuned
    shutil.copytree(run.workdir, tmp_path / "again")
    shutil.rmtree(tmp_path / "again" / "checkpoints" / "6")
    resumed = dataclasses.replace(run, workdir=str(tmp_path / "again"))
    again(resumed)
    one, other = (runs.open_run(r.workdir) for r in (run, resumed))
    assert one.step == other.step == 6
    assert_same_bits(one.variables, other.variables)


def test_a_run_becomes_a_merged_folder_or_one_of_peft(tuned, tmp_path):
    run, folder = tuned
    model, variables = zoo.from_pretrained(run.workdir)
    ids = np.random.default_rng(0).integers(1, 13, (2, 5))
    wanted = model.apply(variables, ids)
    convert(runs.open_run(run.workdir), tmp_path / "merged")
    surgery.save_adapter(tmp_path / "peft", model, variables)
    for opened, params in (
        zoo.from_pretrained(tmp_path / "merged"),
        surgery.load_adapter(tmp_path / "peft", *zoo.from_pretrained(folder)),
    ):
        np.testing.assert_allclose(opened.apply(params, ids), wanted, atol=1e-5)


def test_a_run_may_start_from_a_run_with_adapters(tuned, tmp_path):
    run, _ = tuned
    still = Optimizer(name="sgd", learning_rate=0.0)
    new = dataclasses.replace(
        run, workdir=str(tmp_path / "next"), init_from=run.workdir, steps=1, lora=LoRA(),
        optimizer=still,
    )  # fmt: skip
    again(new)
    merged = surgery.merge(*zoo.from_pretrained(run.workdir))[1]
    assert_same_bits(zoo.from_pretrained(new.workdir)[1], merged)


def test_what_cannot_be_trained_is_told(tuned, tmp_path):
    run, _ = tuned
    for change, told in (
        ({"optimizer": Optimizer(freeze=("embed",))}, "leave --optimizer.freeze out"),
        ({"lora": LoRA(("*/quary",))}, r"no dense layer fits \*/quary"),
        ({"lora": LoRA(("*",), rank=0)}, "it needs targets"),
        ({"lora": LoRA(("*",)), "model": Pretrained(num_classes=5)}, "name it in --lora.whole"),
    ):
        with pytest.raises(InputError, match=told):
            again(dataclasses.replace(run, workdir=str(tmp_path / "no"), **change))
