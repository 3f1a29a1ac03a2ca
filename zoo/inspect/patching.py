"""Putting other values in the place of what a model's modules give, and what follows from it.

B batch, T tokens, D width, V vocabulary, L layers.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from zoo.errors import InputError
from zoo.inspect.features import arguments, check_patterns
from zoo.inspect.target import Target, scores
from zoo.paths import fits

Patch = ArrayLike | Callable[[Array], ArrayLike]
LAYER = re.compile(r"(?:\w*_)?(block|layer|encoder|decoder)(?:s_)?\d+(?:#\d+)?")
"""Names of a model's layers: ``block3``, ``layer11``, ``group0_layer0#12``."""


def patched_apply(
    model: nn.Module, variables: Any, inputs: Any, patches: Mapping[str, Patch], **options: Any
) -> Any:
    """The model's output where some of its modules give something else.

    Gradients flow through what is put in, so ``jax.grad`` of a function that patches ``x`` in is
    the gradient with regard to a module's output.

    Args:
        model: unbound module.
        variables: its collections.
        inputs: the primary input, a tuple of positional inputs, or a dict of inputs by name.
        patches: by path, or glob pattern of paths, as ``zoo.features`` names them: an array that
            takes the output's place (it is broadcast to its shape), or a function from the output
            to what takes its place. Of a module that gives several arrays it is the first: the
            hidden states, and not the keys and values that go into a cache.
        **options: of ``model.apply``, such as ``train`` and ``rngs``.

    Raises:
        InputError: a pattern matches nothing, or a shape does not fit.
    """
    args, keywords = arguments(inputs)
    paths: list[str] = []

    def replace(path: str, output: Any) -> Any:
        paths.append(path)
        for pattern, patch in patches.items():
            if fits(path, [pattern]):
                output = _with_first(output, _fitting(path, first_array(output), patch))
        return output

    with nn.intercept_methods(_named_calls(replace)):
        result = model.apply(variables, *args, **keywords, **options)
    check_patterns(patches, paths)
    return result


def outputs(model: nn.Module, variables: Any, inputs: Any) -> dict[str, jax.ShapeDtypeStruct]:
    """Shape of the (first) output of every module, by path, in the order in which they finish.

    Nothing is computed. Modules that give no array are left out.
    """
    found: dict[str, jax.ShapeDtypeStruct] = {}

    def note(path: str, output: Any) -> Any:
        array = first_array(output)
        if hasattr(array, "shape"):
            found[path] = jax.ShapeDtypeStruct(array.shape, array.dtype)
        return output

    def run(variables: Any, args: tuple, keywords: dict) -> Any:
        with nn.intercept_methods(_named_calls(note)):
            return model.apply(variables, *args, **keywords)

    jax.eval_shape(run, variables, *arguments(inputs))
    return found


def logit_lens(
    model: nn.Module, variables: Any, inputs: Any, paths: Sequence[str] = ()
) -> dict[str, Float[Array, "B T V"]]:
    """What the model would answer if it ended after each of its layers (nostalgebraist, 2020,
    https://www.lesswrong.com/posts/AcKRB8wDpdaN6v6ru).

    A layer's hidden states take the place of the last layer's, so all that comes after, whatever
    it is in this model, is done as the model does it. For language models the answers are logits
    of tokens.

    Args:
        model: unbound module.
        variables: its collections.
        inputs: the primary input, a tuple of positional inputs, or a dict of inputs by name.
        paths: modules to read at, in this order; the last one is where the model goes on. Empty:
            all of the model's layers.

    Returns:
        The model's output by path; under the last path it is the model's own.

    Raises:
        InputError: no layers are found, or they do not all give the same shape.
    """
    shapes = outputs(model, variables, inputs)
    chosen = list(paths) or layers(shapes)
    if not chosen:
        raise InputError(f"no layers found; name some by paths: there are {', '.join(shapes)}")
    check_patterns(chosen, shapes)
    last = chosen[-1]
    for path in chosen:
        if shapes[path].shape != shapes[last].shape:
            raise InputError(
                f"{path} gives {shapes[path].shape}, {last} {shapes[last].shape}: not the same "
                "hidden states"
            )

    def run(variables: Any, inputs: Any) -> Any:
        found = _values(model, variables, inputs, chosen)
        # One by one, so that one head is compiled. The layers before it give what nothing reads.
        stacked = jnp.stack([found[path] for path in chosen])
        return jax.lax.map(
            lambda hidden: patched_apply(model, variables, inputs, {last: hidden}), stacked
        )

    answers = jax.jit(run)(variables, inputs)
    return {path: jax.tree.map(lambda x, i=i: x[i], answers) for i, path in enumerate(chosen)}


def activation_patching(
    model: nn.Module,
    variables: Any,
    inputs: Any,
    source: Any,
    paths: str | Sequence[str],
    target: Target = None,
    by_token: bool = False,
) -> dict[str, Float[Array, "B *T"]]:
    """Scores of ``inputs`` where, one at a time, a module gives what it gives for ``source``: how
    much of the difference between the two passes through there (Vig et al., 2020,
    https://arxiv.org/abs/2004.12265; Meng et al., 2022, https://arxiv.org/abs/2202.05262).

    Args:
        model: unbound module.
        variables: its collections.
        inputs: what the model runs on, such as a corrupted prompt.
        source: where the activations come from, such as the clean one; of the same shapes.
        paths: modules to patch: one or several glob patterns.
        target: what is scored, see ``input_gradient``; None is what is likeliest for ``source``.
        by_token: patches each place on the second axis by itself.

    Returns:
        By path the scores ``[B]``, with ``by_token`` ``[B, T]``.

    Raises:
        InputError: a pattern matches nothing, or the shapes of the two inputs differ.
    """
    patterns = [paths] if isinstance(paths, str) else list(paths)
    shapes = outputs(model, variables, inputs)
    if {k: v.shape for k, v in shapes.items()} != {
        k: v.shape for k, v in outputs(model, variables, source).items()
    }:
        raise InputError("inputs and source have different shapes; pad them to the same length")
    check_patterns(patterns, shapes)
    chosen = [path for path in shapes if fits(path, patterns)]
    places = {shapes[path].shape[1] for path in chosen if len(shapes[path].shape) > 1}
    if by_token and (len(places) != 1 or any(len(shapes[path].shape) < 2 for path in chosen)):
        raise InputError(f"by_token needs outputs of one length; {', '.join(chosen)} differ")
    count = places.pop() if by_token else 1

    def run(variables: Any, inputs: Any, source: Any) -> Array:
        answer = model.apply(variables, *arguments(source)[0], **arguments(source)[1])
        clean = _values(model, variables, source, chosen)
        score = scores(answer, source, target)

        def patched(which: Array, place: Array) -> Float[Array, "B"]:
            def choose(path: str) -> Callable[[Array], Array]:
                def put(output: Array) -> Array:
                    here = which == chosen.index(path)
                    if by_token:
                        row = jnp.arange(count) == place
                        here = here & row.reshape(1, count, *(1,) * (output.ndim - 2))
                    return jnp.where(here, clean[path], output)

                return put

            output = patched_apply(model, variables, inputs, {p: choose(p) for p in chosen})
            return score(output)

        # One program for all: which module is patched is an input of it.
        which, place = (
            grid.reshape(-1)
            for grid in jnp.meshgrid(jnp.arange(len(chosen)), jnp.arange(count), indexing="ij")
        )
        found = jax.lax.map(lambda pair: patched(*pair), (which, place))
        return found.reshape(len(chosen), count, -1).swapaxes(1, 2)

    found = jax.jit(run)(variables, inputs, source)
    return {path: found[i] if by_token else found[i, :, 0] for i, path in enumerate(chosen)}


def layers(paths: Mapping[str, jax.ShapeDtypeStruct]) -> list[str]:
    """The paths that are a model's layers, in their order; of two stacks (encoder and decoder)
    those of the second."""
    found = [(path, match[1]) for path in paths if (match := LAYER.fullmatch(path))]
    return [path for path, kind in found if kind == found[-1][1]]


def first_array(output: Any) -> Any:
    """A module's output, of several the first."""
    return output[0] if isinstance(output, tuple) and output else output


def _values(model: nn.Module, variables: Any, inputs: Any, paths: Sequence[str]) -> dict[str, Any]:
    """The (first) outputs at these paths."""
    found: dict[str, Any] = {}

    def keep(path: str) -> Callable[[Array], Array]:
        def note(output: Array) -> Array:
            found[path] = output
            return output

        return note

    patched_apply(model, variables, inputs, {path: keep(path) for path in paths})
    return found


def _named_calls(visit: Callable[[str, Any], Any]) -> Callable[..., Any]:
    """An interceptor that lets ``visit(path, output)`` replace the outputs of all modules, but not
    that of the whole model; paths are as ``zoo.features`` gives them."""
    calls: Counter[tuple[str, ...]] = Counter()

    def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        output = call(*args, **kwargs)
        path = context.module.path
        if context.method_name != "__call__" or not path:
            return output
        calls[path] += 1
        again = f"#{calls[path]}" if calls[path] > 1 else ""
        return visit("/".join(path) + again, output)

    return intercept


def _with_first(output: Any, value: Array) -> Any:
    return (value, *output[1:]) if isinstance(output, tuple) else value


def _fitting(path: str, output: Any, patch: Patch) -> Array:
    if not hasattr(output, "shape"):
        raise InputError(f"{path} gives no array but {type(output).__name__}: patch what is in it")
    value = jnp.asarray(patch(output) if callable(patch) else patch)
    try:
        return jnp.broadcast_to(value, output.shape).astype(output.dtype)
    except ValueError:
        raise InputError(
            f"{path} gives {output.shape}, and what takes its place is {value.shape}"
        ) from None
