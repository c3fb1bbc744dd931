"""Partial channel connections: Xu et al., PC-DARTS, ICLR 2020, section 3.1.

The operations of an edge see the first ``1 / K`` of the channels; the others go around
them, unchanged where the edge has stride 1, through a 2x2 max pool where it has 2. The
channels are shuffled afterwards, so that other ones come first in the next cell. As in
the authors' code, it is always the first part that is seen, not a random one.

Shuffling is linear, so it is done once per node, after the sum over its edges.
"""

import jax
import jax.numpy as jnp

from jnas.errors import JnasError

__all__ = ["bypass", "check", "joined"]


def check(partial: int, channels: int) -> None:
    """Raises unless the channels can be split in so many parts.

    Args:
      partial: the number of parts, ``K``.
      channels: of the first cells; later ones have multiples of them.

    Raises:
      JnasError: if it does not divide them.

    Example:
      >>> check(4, 16)
    """
    if channels % partial:
        raise JnasError(
            f"partial_channels must divide channels, got {partial} and {channels}: use "
            f"channels={partial * max(1, channels // partial)}"
        )


def bypass(x: jax.Array, partial: int, stride: int) -> jax.Array | None:
    """What goes around the operations of the edges that leave a state.

    Args:
      x: the state, ``[B, H, W, C]``.
      partial: the number of parts, ``K``.
      stride: of the edges.

    Returns:
      ``[B, H / stride, W / stride, C - C / K]``, or None where ``K`` is 1.

    Example:
      >>> x = jnp.arange(8.0).reshape(1, 2, 2, 2)
      >>> bypass(x, 2, 2).tolist()
      [[[[7.0]]]]
    """
    if partial == 1:
        return None
    rest = x[..., x.shape[-1] // partial :]
    if stride == 1:
        return rest
    # The maximum of four strided views is a 2x2 pool with stride 2.
    views = [rest[:, i::2, j::2] for i in range(2) for j in range(2)]
    return jnp.maximum(jnp.maximum(views[0], views[1]), jnp.maximum(views[2], views[3]))


def joined(mixed: jax.Array, rest: jax.Array, partial: int) -> jax.Array:
    """A node's channels: both parts one after the other, shuffled in ``K`` groups.

    Args:
      mixed: the sum of what the operations gave, ``[..., C / K]``.
      rest: the sum of what went around them, ``[..., C - C / K]``.
      partial: the number of parts, ``K``.

    Returns:
      ``[..., C]``: channel ``i * K + g`` is channel ``g * C / K + i`` of both.

    Example:
      >>> joined(jnp.arange(2.0), jnp.arange(2.0, 8.0), 4).tolist()
      [0.0, 2.0, 4.0, 6.0, 1.0, 3.0, 5.0, 7.0]
    """
    both = jnp.concatenate([mixed, rest], axis=-1)
    shape = both.shape
    groups = both.reshape(*shape[:-1], partial, shape[-1] // partial)
    return jnp.swapaxes(groups, -1, -2).reshape(shape)
