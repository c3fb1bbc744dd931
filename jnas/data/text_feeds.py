"""Windows of text: a pure feed for training, exact batches for evaluation.

A split is laid out as `B` columns of contiguous text that are read in step, window by
window, so that a network's carried state always belongs to the text before. Windows
have `T` times, but a share of them counts only half of these, at random places, so that
the windows' borders differ from epoch to epoch (Merity et al., ICLR 2018, as in DARTS'
code). The shapes stay the same: "length" says how many times count.

Deviations from the authors' code: exactly that share of an epoch's windows is short,
where there each is with that probability, so that all epochs have equally many steps;
and neighbouring columns overlap by one token, so that no prediction between them is
lost.

Shape letters: `B` columns, `T` times, `N` predictions in a column.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from jnas import errors
from jnas.data import feeds

__all__ = ["TextFeed", "columns", "text_batches", "text_feed"]

Batch = dict[str, jax.Array]
SHORT = 0.05


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class TextFeed:
    """A pure function ``(key, step) -> (train_batch, val_batch)``; made by `text_feed`.

    A pytree: pass it to a compiled function as an *argument*. Each split has windows
    and epochs of its own, and its first window of an epoch has "reset" set.

    Attributes:
      arrays: ``{"train": int32 [B, N + 1 + padding], "validation": likewise or None}``.
      sizes: ``(N of train, N of validation)``, 0 for none.
      bptt: `T`.
      short: the share of windows that count `T` // 2 times.
    """

    arrays: dict[str, Any]
    sizes: tuple[int, int] = dataclasses.field(metadata={"static": True})
    bptt: int = dataclasses.field(metadata={"static": True})
    short: float = dataclasses.field(metadata={"static": True})

    @property
    def steps_per_epoch(self) -> int:
        """Steps until every prediction of the training text was made once."""
        return _plan(self.sizes[0], self.bptt, self.short)[0]

    def __call__(self, key: jax.Array, step: ArrayLike) -> tuple[Batch, Batch | None]:
        """Returns the windows of one step.

        Args:
          key: typed key of the whole stream: the same one at every step.
          step: integer scalar, the number of the step from 0.

        Returns:
          The train batch and the validation batch (None without validation text), each
          ``{"tokens": int32 [B, T], "target": int32 [B, T], "length": int32 scalar,
          "reset": bool scalar}``.

        Raises:
          JnasError: for a key of the old kind or a step that is no integer scalar.
        """
        feeds.check_call(key, step)
        step = jnp.asarray(step, jnp.int32)
        keys = [jax.random.fold_in(key, i) for i in range(2)]
        train = self._window(self.arrays["train"], self.sizes[0], keys[0], step)
        if self.arrays["validation"] is None:
            return train, None
        return train, self._window(
            self.arrays["validation"], self.sizes[1], keys[1], step
        )

    def _window(self, text, size, key, step) -> Batch:
        steps, halved = _plan(size, self.bptt, self.short)
        epoch, index = step // steps, step % steps
        lengths = jnp.full(steps, self.bptt, jnp.int32)
        if halved:
            # The last window stays whole, so that it never begins beyond the end.
            order = jax.random.permutation(jax.random.fold_in(key, epoch), steps - 1)
            lengths = lengths.at[:-1].set(
                jnp.where(order < halved, self.bptt // 2, self.bptt)
            )
        start = (jnp.cumsum(lengths) - lengths)[index]
        length = jnp.minimum(lengths[index], size - start)
        window = (text.shape[0], self.bptt + 1)
        window = lax.dynamic_slice(text, (jnp.zeros_like(start), start), window)
        return {
            "tokens": window[:, :-1],
            "target": window[:, 1:],
            "length": length,
            "reset": index == 0,
        }


def text_feed(
    train: np.ndarray,
    validation: np.ndarray | None,
    *,
    batch_size: int,
    bptt: int = 35,
    short: float = SHORT,
) -> TextFeed:
    """Puts the splits of a corpus on the device and returns their feed.

    Args:
      train: int32 tokens for the weights; for retraining `TextDataset.full`.
      validation: tokens for the architecture; None for retraining.
      batch_size: `B`.
      bptt: `T`, how far back gradients go.
      short: the share of windows that count half as long.

    Returns:
      The feed.

    Raises:
      JnasError: an option is out of range, or a split is shorter than one window.

    Example:
      >>> text = np.arange(1000, dtype=np.int32)
      >>> feed = text_feed(text, text[:100], batch_size=4, bptt=10)
      >>> train, val = jax.jit(lambda f, k, s: f(k, s))(feed, jax.random.key(0), 1)
      >>> train["tokens"].shape, feed.steps_per_epoch, bool(train["reset"])
      ((4, 10), 26, False)
    """
    feeds.check_batch_size(batch_size)
    _check_bptt(bptt)
    if not 0 <= short < 1:
        raise errors.JnasError(f"short must be a share in [0, 1), got {short!r}")
    arrays: dict[str, Any] = {"train": None, "validation": None}
    sizes = []
    for part, tokens in (("train", train), ("validation", validation)):
        size = 0
        if tokens is not None:
            size = (len(tokens) - 1) // batch_size
            if size < bptt:
                raise errors.JnasError(
                    f"the {part} text has {len(tokens)} tokens, too few for "
                    f"{batch_size} columns of at least one window of {bptt}: use a "
                    "smaller batch or bptt, or a longer text"
                )
            arrays[part] = jnp.asarray(columns(tokens, batch_size, size, bptt))
        sizes.append(size)
    return TextFeed(arrays, (sizes[0], sizes[1]), int(bptt), float(short))


def columns(tokens: np.ndarray, batch_size: int, size: int, padding: int) -> np.ndarray:
    """Lays a text out in columns that overlap by one token.

    Args:
      tokens: int32 ``[...]``.
      batch_size: `B`.
      size: `N`.
      padding: zeros to add at the end of each column.

    Returns:
      int32 ``[B, N + 1 + padding]``; positions beyond the text are 0.

    Example:
      >>> columns(np.arange(7, dtype=np.int32), 2, 3, 1).tolist()
      [[0, 1, 2, 3, 0], [3, 4, 5, 6, 0]]
    """
    index = np.arange(batch_size)[:, None] * size + np.arange(size + 1)[None]
    inside = index < len(tokens)
    text = np.where(inside, tokens[np.minimum(index, len(tokens) - 1)], 0)
    return np.pad(text, ((0, 0), (0, padding))).astype(np.int32)


def text_batches(
    tokens: np.ndarray, batch_size: int, bptt: int = 35
) -> Iterator[dict[str, Any]]:
    """Goes once through a text, for exact evaluation: every prediction counts once.

    Only the first token of each column is read without what came before it; with
    ``batch_size`` 1 that is the text's first alone.

    Args:
      tokens: int32 ``[...]``, at least 2.
      batch_size: `B`, how many columns the text is laid out in.
      bptt: `T`; the result does not depend on it.

    Returns:
      An iterator over ``{"tokens", "target": int32 [B, T], "length", "reset": scalars,
      "weight": float32 [B, T]}``, weights 0 beyond the end of the text.

    Raises:
      JnasError: an option is out of range, or there is nothing to predict (at once).

    Example:
      >>> text = np.arange(6, dtype=np.int32)
      >>> [b["target"].tolist() for b in text_batches(text, 1, bptt=3)]
      [[[1, 2, 3]], [[4, 5, 0]]]
    """
    feeds.check_batch_size(batch_size)
    _check_bptt(bptt)
    if len(tokens) < 2:
        raise errors.JnasError(f"a text needs at least 2 tokens, got {len(tokens)}")
    size = -(-(len(tokens) - 1) // batch_size)
    return _text_batches(columns(tokens, batch_size, size, bptt), len(tokens), bptt)


def _text_batches(text, count, bptt):
    size = text.shape[1] - 1 - bptt
    first = np.arange(text.shape[0])[:, None] * size
    for start in range(0, size, bptt):
        time = np.arange(start, start + bptt)[None]
        counts = (first + time + 1 < count) & (time < size)
        window = text[:, start : start + bptt + 1]
        yield {
            "tokens": window[:, :-1],
            "target": np.where(counts, window[:, 1:], 0).astype(np.int32),
            "length": np.int32(min(bptt, size - start)),
            "reset": np.bool_(start == 0),
            "weight": counts.astype(np.float32),
        }


def _plan(size: int, bptt: int, short: float) -> tuple[int, int]:
    """How many windows an epoch has, and how many of them are halved."""
    steps = -(-size // bptt)
    while True:
        halved = int(short * (steps - 1) + 0.5)
        if (steps - halved) * bptt + halved * (bptt // 2) >= size:
            return steps, halved
        steps += 1


def _check_bptt(bptt: int) -> None:
    whole = isinstance(bptt, int | np.integer) and not isinstance(bptt, bool)
    if not whole or bptt < 2:
        raise errors.JnasError(f"bptt must be a whole number >= 2, got {bptt!r}")
