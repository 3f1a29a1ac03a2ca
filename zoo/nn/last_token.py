"""What a causal model knows at the end of each text."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def last_token(
    x: Float[Array, "B T D"], attention_mask: Int[Array, "B T"] | None
) -> Float[Array, "B D"]:
    """The vector of the last token that counts; of the first token where none does.

    Args:
        x: vectors of all tokens.
        attention_mask: 0 at padding, on whichever side; None: every token counts.
    """
    if attention_mask is None:
        return x[:, -1]
    place = jnp.max(jnp.where(attention_mask != 0, jnp.arange(x.shape[1]), 0), axis=1)
    return jnp.take_along_axis(x, place[:, None, None], axis=1)[:, 0]
