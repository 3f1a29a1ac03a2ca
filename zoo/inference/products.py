"""Matrix products of few rows, which are those of a step of decoding, on the CPU.

Their time is that of reading the kernel, and XLA's CPU products read it at a third of the memory's
speed. What recovers it, measured in sections G and P of bench/RESULTS.md: a product split along the
features it contracts, in pieces that stay in a core's cache; and a tied head's table that is
transposed once instead of at every token. Other backends compute as ever.
R rows, P pieces, K features in, N features out.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import lax
from jaxtyping import Array, Float

from zoo.nn.dense import Dense, Embed, matmul

FEW = 32
"""Rows up to which a product is split."""
TRANSPOSED = "transposed"
"""A collection of variables: of tied tables, ``[D, V]``."""


def apply_few(model: nn.Module, variables: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
    """``model.apply`` with `dot_few` as the product of dense layers and tied heads."""
    with nn.intercept_methods(_products):
        return model.apply(variables, *args, **kwargs)


def with_transposed(model: nn.Module, variables: Mapping[str, Any], rows: int) -> Mapping[str, Any]:
    """The variables, on the CPU with a transposed copy of what `apply_few` would else transpose
    for so many rows at every token."""
    if jax.default_backend() != "cpu" or not 1 < rows <= FEW:
        return variables
    return {**variables, TRANSPOSED: _transpose_tied(model, variables)}


@partial(jax.jit, static_argnums=0)
def _transpose_tied(model: nn.Module, variables: Mapping[str, Any]) -> dict[str, Any]:
    tied = set()

    def note(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        if isinstance(context.module, Embed) and context.method_name == "attend":
            tied.add(context.module.path)
        return call(*args, **kwargs)

    with nn.intercept_methods(note):
        jax.eval_shape(model.apply, variables, jax.ShapeDtypeStruct((1, 1), jnp.int32))
    flat: dict[Any, Any] = flatten_dict(variables["params"])
    tables = {(*path, "embedding") for path in tied} & flat.keys()
    return unflatten_dict({path: flat[path].T for path in tables})


def dot_few(x: Float[Array, "R K"], kernel: Float[Array, "K N"]) -> Float[Array, "R N"]:
    """``x @ kernel``, on the CPU as a sum of products of pieces."""
    pieces = _pieces(*x.shape)
    if pieces == 1:
        return jnp.dot(x, kernel)
    return lax.platform_dependent(x, kernel, cpu=partial(_dot_split, pieces), default=jnp.dot)


def _dot_split(
    pieces: int, x: Float[Array, "R K"], kernel: Float[Array, "K N"]
) -> Float[Array, "R N"]:
    x_RPK = x.reshape(x.shape[0], pieces, -1)
    kernel_PKN = kernel.reshape(pieces, -1, kernel.shape[1])
    wide = jnp.promote_types(x.dtype, jnp.float32)
    # The barriers keep it from being fused with what makes the rows, which would then be made anew
    # for every feature out, and with what follows, which would be done in one thread.
    x_RPK = lax.optimization_barrier(x_RPK)
    y_PRN = jnp.einsum("rpk,pkn->prn", x_RPK, kernel_PKN, preferred_element_type=wide)
    return jnp.sum(lax.optimization_barrier(y_PRN), axis=0).astype(x.dtype)


def _pieces(rows: int, features: int) -> int:
    """The fewest equal pieces that are small enough; 1 where there are none, or many rows."""
    if not 1 <= rows <= FEW:
        return 1
    # From 16 rows on XLA's kernel for small matrices is another one, slow on short pieces.
    piece = 48 if 1 < rows < 16 else 96
    fewest = -(-features // piece)
    return next((p for p in range(fewest, 2 * fewest + 1) if features % p == 0), 1)


def _products(
    call: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    context: nn.module.InterceptorContext,
) -> Any:
    """Interceptor of Linen's methods."""
    module = context.module
    if isinstance(module, Dense) and context.method_name == "product":
        return matmul(*args, dot=dot_few)
    if isinstance(module, Embed) and context.method_name == "attend":
        if module.has_variable(TRANSPOSED, "embedding"):
            kernel = module.get_variable(TRANSPOSED, "embedding")
            return matmul(*promote_dtype(*args, kernel, dtype=module.dtype), dot=dot_few)
        x, table = promote_dtype(*args, module.embedding, dtype=module.dtype)
        if x.size == x.shape[-1]:  # one row: a table times a column needs no transposed table
            column = lax.optimization_barrier(x.reshape(-1, 1))
            return lax.optimization_barrier(table @ column).reshape(*x.shape[:-1], -1)
    return call(*args, **kwargs)
