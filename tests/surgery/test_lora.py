"""Adapters: they start as nothing, train alone, and can be merged and taken out again."""

import functools
import json

import draw
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from safetensors.numpy import load_file, save_file

import zoo
from zoo import surgery
from zoo.errors import InputError
from zoo.models import bert, gpt2, vit
from zoo.paths import fits, leaf_paths

pytestmark = pytest.mark.slow

GPT2 = gpt2.Config(vocab_size=11, width=6, depth=2, num_heads=2, max_length=8, dropout=0.0)
BERT = bert.Config(
    vocab_size=11, width=6, depth=1, num_heads=2, hidden=8, max_length=8, num_classes=3,
    dropout=0.0, attention_dropout=0.0, head_dropout=0.0,
)  # fmt: skip
IDS = np.random.default_rng(0).integers(0, 11, (2, 5))
KINDS = {
    "lora": surgery.LoRA(("*/query", "block0/mlp"), rank=2),
    "rslora": surgery.LoRA(("*attention",), rank=3, rslora=True, exceptions=(("*/out", 1, 2.0),)),
    "dora": surgery.LoRA(("*/query", "*/value", "block1"), rank=2, alpha=5.0, dora=True),
}


@functools.cache
def plain(cfg=GPT2, task=None):
    model = cfg.build(task)
    return model, zoo.init(model, jax.random.key(0))


@functools.cache
def adapted(lora, cfg=GPT2, task=None):
    """A model with adapters that change much."""
    model, variables = surgery.inject(*plain(cfg, task), lora, jax.random.key(1))
    rng = np.random.default_rng(1)
    trained = model.lora.trained(variables["params"])
    params = jax.tree.map(
        lambda leaf, moves: leaf + moves * 0.3 * rng.normal(size=leaf.shape).astype("f"),
        variables["params"], trained,
    )  # fmt: skip
    return model, {"params": params}


def equal(one, other):
    first, second = leaf_paths(one), leaf_paths(other)
    assert first.keys() == second.keys()
    return [path for path in first if not np.array_equal(first[path], second[path])]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_merged_is_unmerged_and_back(kind):
    base, variables = plain()
    model, started = surgery.inject(base, variables, KINDS[kind], jax.random.key(1))
    before = base.apply(variables, IDS)
    np.testing.assert_allclose(model.apply(started, IDS), before, atol=1e-6)
    model, changed = adapted(KINDS[kind])
    wanted = model.apply(changed, IDS)
    assert np.abs(wanted - before).max() > 0.01
    merged = surgery.merge(model, changed)
    assert equal(jax.tree.map(jnp.shape, merged[1]), jax.tree.map(jnp.shape, variables)) == []
    np.testing.assert_allclose(merged[0].apply(merged[1], IDS), wanted, atol=1e-5 * wanted.std())
    kept = surgery.adapters(model, changed)
    again = surgery.unmerge(model, merged[1], kept)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), again, changed)


def test_a_program_with_adapters_is_the_programs_model():
    model, variables = adapted(KINDS["lora"])
    features = zoo.features(model, variables, IDS, "*/query")
    assert set(features) == {"block0/attention/query", "block1/attention/query"}
    merged, params = surgery.merge(model, variables)
    np.testing.assert_array_equal(
        zoo.generate(model, variables, IDS, max_new_tokens=3),
        zoo.generate(merged, params, IDS, max_new_tokens=3),
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "lora, moved",
    [
        (surgery.LoRA(("*/query",), rank=2, dropout=0.2), "query/lora_?"),
        (
            surgery.LoRA(("*/query",), rank=2, dora=True, bias="lora_only", whole=("head",)),
            "query/lora_? query/magnitude query/bias head/kernel head/bias",
        ),
        (surgery.LoRA(("layer0",), rank=1, bias="all"), "layer0/*/lora_? *bias"),
    ],
)
def test_training_moves_what_is_named_and_no_other_bit(lora, moved):
    model, variables = surgery.inject(*plain(BERT, "text-classification"), lora, jax.random.key(1))
    params, labels = variables["params"], np.array([0, 2])
    still = {True: optax.set_to_zero(), False: optax.adamw(0.1)}
    optimizer = optax.multi_transform(still, lora.frozen)

    def loss(params, key):
        logits = model.apply({"params": params}, IDS, train=True, rngs={"dropout": key})
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    @jax.jit
    def step(params, state, key):
        updates, state = optimizer.update(jax.grad(loss)(params, key), state, params)
        return optax.apply_updates(params, updates), state

    state, new = optimizer.init(params), params
    for i in range(3):
        new, state = step(new, state, jax.random.key(i))
    wanted = {
        path for path in leaf_paths(params)
        if fits(path, [f"*{pattern}" for pattern in moved.split()])
    }  # fmt: skip
    # Biases of keys have no gradient but rounding: softmax does not see them.
    keys = {path for path in wanted if path.endswith("key/bias")}
    assert set(equal(params, new)) | keys == wanted
    assert float(loss(new, jax.random.key(0))) < float(loss(params, jax.random.key(0)))


def test_adapters_draw_their_own_dropout():
    model, variables = adapted(surgery.LoRA(("*/up",), rank=2, dropout=0.5))
    one, two = (
        model.apply(variables, IDS, train=True, rngs={"dropout": jax.random.key(key)})
        for key in (0, 1)
    )
    assert np.abs(one - two).max() > 1e-3


def test_what_cannot_be_adapted_is_told():
    with pytest.raises(InputError, match=r"no dense layer fits \*/quary; there are block0/att"):
        surgery.inject(*plain(), surgery.LoRA(("*/quary",)), jax.random.key(0))
    with pytest.raises(InputError, match="lora.whole: no parameter fits head"):
        surgery.inject(*plain(), surgery.LoRA(("*/query",), whole=("head",)), jax.random.key(0))
    for wrong in (surgery.LoRA(), surgery.LoRA(("*",), rank=0), surgery.LoRA(("*",), dropout=1.0)):
        with pytest.raises(InputError, match="it needs targets"):
            surgery.inject(*plain(), wrong, jax.random.key(0))


@pytest.mark.parametrize(
    "cfg, task, lora",
    [
        (GPT2, None, KINDS["dora"]),
        (BERT, "text-classification", surgery.LoRA(("*",), rank=2, bias="all", whole=("head",))),
    ],
    ids=("gpt2", "bert"),
)
def test_a_folder_of_peft_holds_the_adapters(tmp_path, cfg, task, lora):
    base, variables = plain(cfg, task)
    model, changed = adapted(lora, cfg, task)
    surgery.save_adapter(tmp_path, model, changed, base="base")
    opened, again = surgery.load_adapter(tmp_path, base, variables)
    wanted = model.apply(changed, IDS)
    np.testing.assert_allclose(opened.apply(again, IDS), wanted, atol=2e-5 * wanted.std())
    surgery.save_adapter(tmp_path / "again", opened, again)
    weights = "adapter_model.safetensors"
    assert (tmp_path / "again" / weights).read_bytes() == (tmp_path / weights).read_bytes()


def test_adapters_on_modules_of_old_and_of_new_names(tmp_path):
    base = vit.Config(image_size=4, patch_size=2, width=6, depth=1, num_heads=2, num_classes=3)
    base = base.build()
    lora = surgery.LoRA(("*/query", "layer0/mlp", "*/out"), rank=2, whole=("head",))
    model, variables = surgery.Adapted(base, lora), draw.variables(base, **base.cfg.inputs())
    changed = draw.variables(model, seed=1, **base.cfg.inputs())
    surgery.save_adapter(tmp_path, model, changed)
    path, values = tmp_path / "adapter_model.safetensors", tmp_path / "adapter_config.json"
    new = ("attention.o_proj", "attention.q_proj", "mlp.fc1", "mlp.fc2")
    assert json.loads(values.read_text())["target_modules"] == [f"vit.layers.0.{n}" for n in new]
    tensors = load_file(path)
    before = "base_model.model.vit"
    assert f"{before}.layers.0.attention.q_proj.lora_A.weight" in tensors
    assert "base_model.model.classifier.weight" in tensors
    old = ("attention.output.dense", "attention.attention.query", "intermediate.dense",
           "output.dense")  # fmt: skip
    for a, b in zip(new, old, strict=True):
        tensors = {
            name.replace(f"{before}.layers.0.{a}", f"{before}.encoder.layer.0.{b}"): tensor
            for name, tensor in tensors.items()
        }
    _, by_new = surgery.load_adapter(tmp_path, base, variables)
    save_file(tensors, path)
    _, by_old = surgery.load_adapter(tmp_path, base, variables)
    assert not equal(by_old["params"], by_new["params"])
    moved = {path for path, one in leaf_paths(lora.trained(changed["params"])).items() if one}
    assert moved.isdisjoint(equal(by_new["params"], changed["params"])) and len(moved) == 10


def test_a_folder_that_does_not_fit_is_told(tmp_path):
    model, variables = adapted(KINDS["lora"])
    with pytest.raises(InputError, match="has no adapter_config.json"):
        surgery.load_adapter(tmp_path, *plain())
    surgery.save_adapter(tmp_path, model, variables)
    wide = gpt2.Config(vocab_size=11, width=8, depth=1, num_heads=2, max_length=8)
    with pytest.raises(InputError, match="4 do not: .*h.1.attn.c_attn .no dense layer here"):
        surgery.load_adapter(tmp_path, *plain(wide))
    path = tmp_path / "adapter_config.json"
    values = json.loads(path.read_text())
    for name, value in (
        ("lora_bias", True), ("init_lora_weights", "pissa"), ("peft_type", "IA3"), ("new", 1),
        ("bias", "some"), ("trainable_token_indices", [1]),
    ):  # fmt: skip
        path.write_text(json.dumps(values | {name: value}))
        with pytest.raises(InputError, match=f"not implemented here: {name}"):
            surgery.load_adapter(tmp_path, *plain())
    for text in ("[]", "{", '{"r": "x"}', '{"rank_pattern": 3}'):
        path.write_text(text)
        with pytest.raises(InputError, match="is damaged"):
            surgery.load_adapter(tmp_path, *plain())


def test_only_models_and_parts_of_transformers_are_saved(tmp_path):
    model, variables = adapted(surgery.LoRA(("*/query",), whole=("*/value/kernel",)))
    with pytest.raises(InputError, match="only a part of transformers' modules"):
        surgery.save_adapter(tmp_path, model, variables)
    model, variables = adapted(surgery.LoRA(("*/query",), whole=("embed",)))
    with pytest.raises(InputError, match="does not tie"):
        surgery.save_adapter(tmp_path, model, variables)
