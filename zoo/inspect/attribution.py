"""How much each part of an input counts for an answer: functions of a model's ``apply`` alone.

All take ``at``, where to look: None is the input itself where it is of real numbers (an image), and
the output of the token embedding where it is ids; any other module is named by its path. What they
return has the shape of what stands there.

B batch, H W image, K features of a map, T tokens.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from zoo.errors import InputError
from zoo.inspect.features import arguments, check_patterns, features
from zoo.inspect.patching import first_array, outputs, patched_apply
from zoo.inspect.target import Target, scores

AT_ONCE = 16
"""Copies of an example that are computed together."""
CUTS = 4
"""Pieces of an integral that are halved together."""


def input_gradient(
    model: nn.Module, variables: Any, inputs: Any, target: Target = None, at: str | None = None
) -> Array:
    """Gradient of each example's score with regard to its input (Simonyan et al., 2013,
    https://arxiv.org/abs/1312.6034).

    Args:
        model: unbound module.
        variables: its collections.
        inputs: the primary input, a tuple of positional inputs, or a dict of inputs by name.
        target: what the score is: a class, a class for each example ``[B]``, or a function from
            the model's output to scores ``[B]``. None is the class that scores highest. Where the
            output is ``[B, T, C]``, a class is meant at the last token that counts.
        at: path of the module whose output counts as the input; see the top of this file.

    Raises:
        InputError: no such class or path, or the model's output needs a function as target.
    """
    x, score = scored(model, variables, inputs, target, at)
    return _gradient(score)(x, variables, inputs)


def integrated_gradients(
    model: nn.Module,
    variables: Any,
    inputs: Any,
    target: Target = None,
    at: str | None = None,
    baseline: ArrayLike = 0.0,
    steps: int = 128,
) -> Array:
    """The gradient's mean on the straight way from a baseline, times the difference from it
    (Sundararajan et al., 2017, https://arxiv.org/abs/1703.01365).

    The values of an example sum to the difference of the two scores; what is missing there tells
    whether ``steps`` are enough. Gradients jump, at each ``relu`` for one, so the points on the way
    are not even: they lie close where the sum would else miss the difference.

    Args:
        model, variables, inputs, target, at: see ``input_gradient``.
        baseline: an input without content, such as zeros; broadcast to the input's shape.
        steps: about how many points on the way, at least 16.

    Raises:
        InputError: as ``input_gradient``; too few steps; a baseline of another shape.
    """
    if steps < 4 * CUTS:
        raise InputError(f"integrated gradients need at least {4 * CUTS} steps, not {steps}")
    x, score = scored(model, variables, inputs, target, at)
    try:
        start = jnp.broadcast_to(jnp.asarray(baseline, x.dtype), x.shape)
    except ValueError:
        raise InputError(f"the baseline is {np.shape(baseline)}, the input {x.shape}") from None
    places, weights = _points(score, variables, inputs, start, x, steps)

    def weighted(place: Array, weight: Array, variables: Any, inputs: Any) -> Array:
        return weight * _gradient(score)(start + place * (x - start), variables, inputs)

    return (x - start) * _sum(weighted, variables, inputs, places, weights)


def smooth_grad(
    model: nn.Module,
    variables: Any,
    inputs: Any,
    key: PRNGKeyArray,
    target: Target = None,
    at: str | None = None,
    noise: float = 0.15,
    samples: int = 32,
) -> Array:
    """The gradient's mean over noisy copies of the input (Smilkov et al., 2017,
    https://arxiv.org/abs/1706.03825).

    Args:
        model, variables, inputs, target, at: see ``input_gradient``.
        key: of the noise.
        noise: its standard deviation, as a share of the range of an example's values.
        samples: number of copies.

    Raises:
        InputError: as ``input_gradient``; ``samples`` below 1, or ``noise`` below 0.
    """
    if samples < 1 or noise < 0:
        raise InputError(f"samples is at least 1 and noise at least 0, not {samples} and {noise}")
    x, score = scored(model, variables, inputs, target, at)
    inside = tuple(range(1, x.ndim))
    spread = noise * (x.max(inside, keepdims=True) - x.min(inside, keepdims=True))

    def noisy(key: PRNGKeyArray, variables: Any, inputs: Any) -> Array:
        moved = x + spread * jax.random.normal(key, x.shape, x.dtype)
        return _gradient(score)(moved, variables, inputs) / samples

    return _sum(noisy, variables, inputs, jax.random.split(key, samples))


def grad_cam(
    model: nn.Module, variables: Any, inputs: Any, target: Target = None, at: str | None = None
) -> Float[Array, "B H W"]:
    """Where in an image a convolutional model finds the class: its feature maps, weighted by the
    mean gradient of each, the positive part (Selvaraju et al., 2016,
    https://arxiv.org/abs/1610.02391).

    Args:
        model, variables, inputs, target: see ``input_gradient``; the image is the first input.
        at: path of the module that gives the maps ``[B, h, w, K]``; None is the last one with
            parameters that gives such.

    Returns:
        A map of the image's height and width, at least 0, interpolated linearly.

    Raises:
        InputError: as ``input_gradient``; or there are no feature maps.
    """
    args, keywords = arguments(inputs)
    shape = np.shape(args[0] if args else next(iter(keywords.values())))
    if len(shape) != 4:
        raise InputError(f"Grad-CAM takes images [B, H, W, C], not {shape}")
    at = at or _last_map(model, variables, inputs)
    maps, score = scored(model, variables, inputs, target, at)
    if maps.ndim != 4:
        raise InputError(f"{at} gives {maps.shape}; Grad-CAM needs maps [B, h, w, K]")
    weights_BK = _gradient(score)(maps, variables, inputs).mean((1, 2))
    cam_Bhw = jax.nn.relu(jnp.einsum("bhwk,bk->bhw", maps, weights_BK))
    return jax.image.resize(cam_Bhw, shape[:3], "linear")


Score = Callable[[Array, Any, Any], Float[Array, "B"]]
"""Scores by what stands at a place, the variables and the inputs."""


def scored(
    model: nn.Module, variables: Any, inputs: Any, target: Target = None, at: str | None = None
) -> tuple[Array, Score]:
    """What stands at ``at``, and the function from it to the scores; see ``input_gradient``."""
    args, keywords = arguments(inputs)
    output = jax.jit(model.apply)(variables, *args, **keywords)
    choose = scores(output, inputs, target)
    named = {**dict(enumerate(args)), **keywords}
    place = next((k for k, x in named.items() if _real(x) and "mask" not in str(k)), None)
    if at is None and place is not None:

        def replaced(x: Array, variables: Any, inputs: Any) -> Float[Array, "B"]:
            args, keywords = arguments(inputs)
            given = {**dict(enumerate(args)), **keywords, place: x}
            positional = [given.pop(i) for i in range(len(args))]
            return choose(model.apply(variables, *positional, **given))

        return jnp.asarray(named[place]), replaced
    shapes = outputs(model, variables, inputs)
    path = at or next((path for path in shapes if path.rpartition("/")[2] == "embed"), None)
    if path is None:
        raise InputError(f"no token embedding found; name a module: {', '.join(shapes)}")
    if path not in shapes:
        check_patterns([path], shapes)
        raise InputError(f"{path!r} is a pattern; name one module of: {', '.join(shapes)}")

    def patched(x: Array, variables: Any, inputs: Any) -> Float[Array, "B"]:
        return choose(patched_apply(model, variables, inputs, {path: x}))

    return first_array(features(model, variables, inputs, path)[path]), patched


def _gradient(score: Score) -> Callable[[Array, Any, Any], Array]:
    """Examples do not see each other, so the gradient of the sum holds that of each."""
    return jax.jit(jax.grad(lambda *given: score(*given).sum()))


def _points(
    score: Score, variables: Any, inputs: Any, start: Array, end: Array, steps: int
) -> tuple[Float[Array, "N"], Float[Array, "N"]]:
    """Places between 0 (``start``) and 1 (``end``), and weights, by which to integrate.

    The way is cut into pieces with two points of Gauss each. How much a piece misses is known: its
    ends tell what the slopes along it should sum to. The pieces that miss most are cut in halves,
    ``CUTS`` at a time.
    """
    near = (1 - 3**-0.5) / 2
    examples = jax.eval_shape(score, start, variables, inputs).shape[0]
    inside = [axis for axis in range(end.ndim) if axis != [*end.shape, examples].index(examples)]

    @jax.jit
    def missed(ends: Float[Array, "P 2"], variables: Any, inputs: Any) -> Float[Array, "P"]:
        def along(place: Array) -> tuple[Array, Array]:
            x = start + place * (end - start)
            slopes = _gradient(score)(x, variables, inputs) * (end - start)
            return score(x, variables, inputs), slopes.sum(inside).reshape(-1)

        places = jnp.concatenate([ends, _inside(ends)], 1)
        found, slopes = jax.vmap(jax.vmap(along))(places)
        width = ends[:, 1:] - ends[:, :1]
        return jnp.abs(found[:, 1] - found[:, 0] - width * slopes[:, 2:].mean(1)).sum(1)

    def _inside(ends: Float[Array, "P 2"]) -> Float[Array, "P 2"]:
        return ends @ jnp.asarray([[1 - near, near], [near, 1 - near]], ends.dtype)

    edges = jnp.linspace(0, 1, 2 * CUTS + 1, dtype=jnp.promote_types(end.dtype, jnp.float32))
    ends = jnp.stack([edges[:-1], edges[1:]], 1)
    errors = jnp.concatenate(
        [missed(part, variables, inputs) for part in (ends[:CUTS], ends[CUTS:])]
    )
    while 2 * (len(ends) + CUTS) <= steps:
        worst = jax.lax.top_k(errors, CUTS)[1]
        first, last = ends[worst, 0], ends[worst, 1]
        middle = (first + last) / 2
        left, right = jnp.stack([first, middle], 1), jnp.stack([middle, last], 1)
        ends = jnp.concatenate([ends.at[worst].set(left), right])
        found = [missed(part, variables, inputs) for part in (left, right)]
        errors = jnp.concatenate([errors.at[worst].set(found[0]), found[1]])
    return _inside(ends).reshape(-1), jnp.repeat((ends[:, 1] - ends[:, 0]) / 2, 2)


def _sum(function: Callable[..., Array], variables: Any, inputs: Any, *arrays: Array) -> Array:
    """Sum of ``function(row, ..., variables, inputs)`` over the rows of the arrays, some together:
    a loop inside the program would be slow around convolutions."""

    @jax.jit
    def part(variables: Any, inputs: Any, *rows: Array) -> Array:
        return jax.vmap(lambda *row: function(*row, variables, inputs))(*rows).sum(0)

    starts = range(0, len(arrays[0]), AT_ONCE)
    parts = [part(variables, inputs, *(x[i : i + AT_ONCE] for x in arrays)) for i in starts]
    return sum(parts[1:], start=parts[0])


def _last_map(model: nn.Module, variables: Any, inputs: Any) -> str:
    shapes = outputs(model, variables, inputs)
    with_parameters = {
        "/".join(path[:end])
        for path in flatten_dict(variables["params"])
        for end in range(len(path))
    }
    found = [p for p, x in shapes.items() if len(x.shape) == 4 and p in with_parameters]
    if not found:
        raise InputError("no module of this model gives feature maps [B, h, w, K]; see features")
    return found[-1]


def _real(x: Any) -> bool:
    dtype = getattr(x, "dtype", None) or np.asarray(x).dtype
    return jnp.issubdtype(dtype, jnp.floating)
