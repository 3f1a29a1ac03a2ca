"""The divergence finder names the module where a difference was planted."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick_compile import compiled_quickly  # noqa: F401 (a fixture of every test here)

import zoo
from zoo.errors import InputError
from zoo.models import transformer

CONFIG = transformer.Config(
    vocab_size=11, width=8, depth=1, num_heads=2, hidden=12, dropout=0.0, max_length=9
)
IDS = np.random.default_rng(0).integers(0, 11, (2, 6)).astype(np.int32)
BATCH = {"input_ids": IDS, "decoder_input_ids": IDS[:, :5]}


class Attention(nn.Module):
    """With a key bias, which changes no output: softmax takes it away."""

    @nn.compact
    def __call__(self, x):
        q, k, v = (nn.Dense(4, name=name)(x) for name in ("query", "key", "value"))
        return nn.Dense(4, name="out")(jax.nn.softmax(q @ k.swapaxes(-1, -2)) @ v)


class Block(nn.Module):
    """Attention and a layer that is called twice; a factor of its own at the end."""

    factor: float = 1.0

    @nn.compact
    def __call__(self, x):
        x = x + Attention(name="attention")(x)
        twice = nn.Dense(4, name="twice")
        self.sow("intermediates", "middle", x)
        return twice(jnp.tanh(twice(x))) * self.factor


class Model(nn.Module):
    """Blocks whose names do not sort in the order of their calls."""

    factor: float = 1.0
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x, scale=1.0):
        for name in ("z", "m", "a"):
            x = Block(self.factor if name == "a" else 1.0, name=name)(x * scale)
        return {"logits": nn.Dense(3, name="head", dtype=self.dtype)(x), "last": x}


X = np.random.default_rng(1).normal(size=(2, 5, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def variables():
    shapes = jax.eval_shape(lambda: Model().init(jax.random.key(0), X))
    rng = np.random.default_rng(2)
    return jax.tree.map(lambda s: rng.normal(size=s.shape).astype(s.dtype) / 2, shapes)


def changed(variables, path, amount=0.1):
    """With a number added to one parameter."""

    def change(place, leaf):
        return leaf + amount * (jax.tree_util.keystr(place, simple=True, separator="/") == path)

    return jax.tree_util.tree_map_with_path(change, variables)


def find(a, b, *inputs, **options):
    return zoo.inspect.first_divergence(a, b, *(inputs or (X,)), **options)


def test_equal_computations_do_not_diverge(variables):
    assert find((Model(), variables), (Model(), variables), tolerance=0) is None


@pytest.mark.parametrize(
    "parameter, path, last",
    [
        ("z/attention/query/kernel", "z/attention/query", None),
        ("m/attention/out/bias", "m/attention/out", "m/attention/value"),
        ("m/twice/kernel", "m/twice", "m/attention"),
        ("a/attention/value/kernel", "a/attention/value", "a/attention/key"),
        ("head/bias", "head", "a"),
    ],
)
def test_a_planted_difference_is_named(variables, parameter, path, last):
    found = find((Model(), changed(variables, f"params/{parameter}")), (Model(), variables))
    assert found.path == path
    assert found.kind == "Dense"
    assert found.error > found.tolerance == 1e-5
    assert (found.agreed[-1] if found.agreed else None) == last
    assert path in str(found) and "against" in str(found)


def test_what_has_no_effect_is_passed_over(variables):
    """A key bias shifts all scores of a row; the output of the attention is the same."""
    other = changed(variables, "params/m/attention/key/bias", 3.0)
    assert find((Model(), other), (Model(), variables)) is None
    other = changed(other, "params/a/attention/out/bias")
    assert find((Model(), other), (Model(), variables)).path == "a/attention/out"


def test_a_difference_between_the_children_is_the_parents(variables):
    found = find((Model(factor=1.01), variables), (Model(), variables))
    assert (found.path, found.kind) == ("a", "Block")
    assert set(found.agreed) >= {"m", "a/attention", "a/twice", "a/twice#2", "a/middle"}
    assert found.error == pytest.approx(0.01, rel=1e-3)


def test_inputs_by_name(variables):
    pair = (Model(), variables)
    assert find(pair, pair, X, scale=2.0) is None
    assert find(pair, pair, {"x": X, "scale": 2.0}) is None


def test_two_dtypes_of_one_module(variables):
    found = find((Model(), variables), (Model(dtype="bfloat16"), variables))
    assert found.path == "head" and 1e-4 < found.error < 2e-2
    assert find((Model(), variables), (Model(dtype="bfloat16"), variables), tolerance=0.05) is None


@pytest.mark.slow
def test_a_model_of_ours_in_two_dtypes():
    model = CONFIG.build("translation")
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), **BATCH))
    rng = np.random.default_rng(3)
    variables = jax.tree.map(lambda s: rng.normal(size=s.shape).astype(s.dtype) / 2, shapes)
    other = model.clone(dtype="bfloat16")
    found = zoo.inspect.first_divergence((model, variables), (other, variables), BATCH)
    assert found.path.startswith("encoder0/") or found.path == "embed"
    both = (model, variables), (other, variables)
    assert zoo.inspect.first_divergence(*both, BATCH, tolerance=0.3) is None


@pytest.fixture(scope="module")
def dump(variables):
    """All intermediates, as a reference would write them."""
    arrays = zoo.features(Model(), variables, X)
    result = jax.jit(Model().apply)(variables, X)
    return {k: np.asarray(v, np.float64) for k, v in arrays.items()} | {
        "logits": np.asarray(result["logits"])
    }


def test_a_dump_of_a_reference(variables, dump, tmp_path):
    model = (Model(), changed(variables, "params/m/attention/out/bias"))
    assert find((Model(), variables), dump, tolerance=1e-6) is None
    assert find(model, dump).path == "m/attention/out"
    np.savez(tmp_path / "dump.npz", **dump)
    assert find(model, tmp_path / "dump.npz").path == "m/attention/out"
    assert find(model, str(tmp_path / "dump.npz"), X).path == "m/attention/out"


def test_a_dump_need_not_have_every_module(variables, dump):
    model = (Model(), changed(variables, "params/m/attention/out/bias"))
    names = ("z", "m", "a/attention/query", "head")
    assert find(model, {name: dump[name] for name in names}).path == "m"
    assert find(model, {name: dump[name] for name in names[2:]}).path == "a/attention/query"
    found = find(model, {"m/middle": dump["m/middle"], "logits": dump["logits"]})
    assert (found.path, found.kind) == ("m/middle", "array")
    found = find(model, {"logits": dump["logits"]})
    assert (found.path, found.where.split(" ")[0]) == ("", "logits")
    assert "the top module" in str(found)


def test_other_shapes_and_nan(variables, dump):
    pair = (Model(), variables)
    found = find(pair, {"m": dump["m"][:1]})
    assert (found.error, found.where, found.b) == (np.inf, "its shape", (1, 5, 4))
    broken = dump["m"].copy()
    broken[1, 2, 3] = np.nan
    found = find(pair, {"m": broken})
    assert (found.error, found.where) == (np.inf, "[1, 2, 3]")


def test_what_cannot_be_compared_is_said(variables, dump, tmp_path):
    pair = (Model(), variables)
    with pytest.raises(InputError, match="names m/atention, .*nearest: m/attention"):
        find(pair, {"m/atention": dump["m"]})
    with pytest.raises(InputError, match="no module in common"):
        find(pair, {})
    with pytest.raises(InputError, match="must be .module, variables."):
        find(dump, pair)
    with pytest.raises(InputError, match="nowhere.npz"):
        find(pair, tmp_path / "nowhere.npz")
    objects = tmp_path / "objects.npz"
    np.savez(objects, m=np.array([{}], object))
    with pytest.raises(InputError, match="allow_pickle"):
        find(pair, objects)
