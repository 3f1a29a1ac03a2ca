"""Trees of parameters: chosen, frozen, taken over, averaged."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo import surgery
from zoo.errors import InputError
from zoo.paths import fits, leaf_paths, unfit

TREE = {
    "embed": {"embedding": jnp.ones((3, 2))},
    "layer0": {"query": {"kernel": jnp.full((2, 2), 2.0), "bias": jnp.zeros(2)}},
    "layer1": {"query": {"kernel": jnp.full((2, 2), 3.0), "bias": jnp.ones(2)}},
    "head": {"kernel": jnp.ones((2, 4))},
}
PATHS = {"embed/embedding", "layer0/query/kernel", "layer0/query/bias",
         "layer1/query/kernel", "layer1/query/bias", "head/kernel"}  # fmt: skip


@pytest.mark.parametrize(
    "patterns, found",
    [
        ("head", {"head/kernel"}),
        ("*/bias", {"layer0/query/bias", "layer1/query/bias"}),
        (("*", "!layer?"), {"embed/embedding", "head/kernel"}),
        (("layer*", "!*/bias"), {"layer0/query/kernel", "layer1/query/kernel"}),
    ],
)
def test_patterns_choose_leaves_and_parts(patterns, found):
    assert set(leaf_paths(surgery.select(TREE, patterns))) == found
    first, rest = surgery.split(TREE, patterns)
    assert set(leaf_paths(rest)) == PATHS - found
    assert jax.tree.structure(surgery.join(rest, first)) == jax.tree.structure(TREE)
    chosen = leaf_paths(surgery.chosen(TREE, patterns))
    assert {path for path, is_chosen in chosen.items() if is_chosen} == found


def test_a_pattern_of_parts_is_not_one_of_names_that_begin_alike():
    assert not fits("layer10/bias", ("layer1",), parts=True)
    assert fits("layer1/bias", ("layer1",), parts=True) and not fits("layer1/bias", ("layer1",))
    assert unfit(PATHS, ("head", "!tail", "x*"), parts=True) == ["!tail", "x*"]


def test_what_fits_nothing_is_told_with_what_there_is():
    with pytest.raises(InputError, match="fits hed; the model has embed, head, layer0, layer1"):
        surgery.select(TREE, ["head", "hed"])
    with pytest.raises(InputError, match="2 in more than one tree: layer0/query/bias, layer0"):
        surgery.join(TREE, surgery.select(TREE, "layer0"))


def test_frozen_leaves_have_no_gradient():
    def loss(params):
        params = surgery.freeze(params, "layer?")
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params))

    moved = leaf_paths(jax.tree.map(jnp.any, jax.grad(loss)(TREE)))
    assert {path for path, moves in moved.items() if moves} == {"embed/embedding", "head/kernel"}


def test_a_backbone_is_taken_over_with_its_statistics():
    stats = {"layer0": {"query": {"mean": jnp.zeros(2)}}, "head": {"mean": jnp.zeros(1)}}
    ours = {"params": TREE, "batch_stats": stats}
    theirs = jax.tree.map(lambda leaf: leaf.astype(jnp.float16) + 5, ours)
    theirs["params"]["head"]["kernel"] = jnp.ones((2, 7))  # another head is no matter
    found = leaf_paths(surgery.transplant(ours, theirs, ["*", "!head"]))
    for path, leaf in leaf_paths(ours).items():
        np.testing.assert_array_equal(found[path], leaf + (0 if "head" in path else 5))
        assert found[path].dtype == leaf.dtype


def test_a_donor_that_does_not_fit_is_told_as_a_whole():
    donor = {"params": {"head": {"kernel": jnp.ones((2, 7))}, "layer0": TREE["layer0"]}}
    with pytest.raises(
        InputError, match="fit; 3 not in the donor: params/embed/.*1 of another shape"
    ):
        surgery.transplant({"params": TREE}, donor, "*")
    with pytest.raises(InputError, match="no parameter fits tail"):
        surgery.transplant({"params": TREE}, donor, "tail")


def test_a_soup_is_the_mean_whatever_the_order_and_grouping():
    rng = np.random.default_rng(0)
    trees = [jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), "f"), TREE)
             for _ in range(3)]  # fmt: skip
    soup = surgery.average(iter(trees))
    pair = surgery.average(trees[1:])
    for one, other in (
        (soup, surgery.average(trees[::-1])),
        (soup, surgery.average([trees[0], pair], [1, 2])),
        (trees[0], surgery.average([trees[0]] * 3)),
    ):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), one, other
        )
    half = surgery.average([jax.tree.map(lambda x: x.astype(jnp.bfloat16), t) for t in trees])
    assert half["head"]["kernel"].dtype == jnp.bfloat16


def test_what_makes_no_soup_is_refused():
    with pytest.raises(InputError, match="0 trees"):
        surgery.average([])
    with pytest.raises(InputError, match=r"tree 1 differs from the first in \['head/kernel'\]"):
        surgery.average([TREE, TREE | {"head": {}}])
    for weights in ([1.0], [1.0, -1.0], [1.0, 2.0, 3.0]):
        with pytest.raises(InputError, match="average: "):
            surgery.average([TREE, TREE], weights)
    with pytest.raises(InputError, match="no floating-point numbers"):
        surgery.average([{"kernel": jnp.ones(2, jnp.int8)}])
