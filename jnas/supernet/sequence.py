"""Recurrent language models around an exchangeable cell.

The model of DARTS' recurrent experiments (Liu et al., ICLR 2019, appendix A.1.2; it
descends from AWD-LSTM, Merity et al., ICLR 2018): an embedding that is also the
decoder's matrix, one recurrent layer, and dropout masks that are the same at all times
of a window (Gal & Ghahramani, NeurIPS 2016). A window has a fixed number of times `T`,
of which the first ``length`` count: the others change neither the carried state nor a
running statistic, so windows of random lengths need one compiled program.

Shape letters: `B` columns of text, `T` times, `V` tokens, `n` width.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jnas.errors import JnasError, unknown_name
from jnas.supernet import layers
from jnas.supernet.base import Variables

__all__ = [
    "ACTIVATIONS",
    "BOUND",
    "Cell",
    "Dropouts",
    "SequenceOutputs",
    "check_inputs",
    "gated",
    "init",
    "input_state",
    "uniform",
    "unroll",
]

# Initial weights are uniform in +-BOUND.
BOUND = 0.04

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "sigmoid": jax.nn.sigmoid,
    "identity": lambda x: x,
}


class Dropouts(NamedTuple):
    """Rates of dropout in training; every mask is kept for a whole window.

    Attributes:
      output: of the hidden states that the decoder reads (the authors' ``dropout``).
      hidden: of the previous state and of the nodes inside the cell (``dropouth``).
      inputs: of the cell's inputs (``dropoutx``).
      embedding: of the embedded tokens (``dropouti``).
      words: of whole tokens in the embedding (``dropoute``).
    """

    output: float = 0.0
    hidden: float = 0.0
    inputs: float = 0.0
    embedding: float = 0.0
    words: float = 0.0

    def check(self) -> "Dropouts":
        """Returns itself; raises a `JnasError` where a rate is not in [0, 1)."""
        for name, rate in self._asdict().items():
            if isinstance(rate, bool) or not isinstance(rate, int | float):
                raise JnasError(f"dropout {name} must be a number, got {rate!r}")
            if not 0 <= rate < 1:
                raise JnasError(f"dropout {name} must be in [0, 1), got {rate!r}")
        return self


class SequenceOutputs(NamedTuple):
    """What a language model gives for a window.

    Attributes:
      logits: ``[B, T, V]``, of the next token.
      hiddens: ``[B, T, n]``, the cell's outputs.
      dropped: ``[B, T, n]``, the same after dropout, as the decoder reads them.
    """

    logits: jax.Array
    hiddens: jax.Array
    dropped: jax.Array


class Cell(NamedTuple):
    """A recurrent cell of any kind.

    Attributes:
      init: ``(key, width, dtype) -> weights``.
      begin: ``(weights, x [T, B, n], hidden_mask [B, n] or None, statistics) -> (step,
        xs)``: what can be done for all times at once. ``xs`` has `T` leading rows, and
        ``step(h [B, n], stats, xs[t]) -> (h, stats)``.
      stats: ``(width, dtype) -> tree`` of initial running statistics, or None.
    """

    init: Callable[..., Any]
    begin: Callable[..., Any]
    stats: Callable[..., Any] | None = None


def uniform(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Initial weights of DARTS' recurrent nets: uniform in +-0.04.

    Args:
      key: consumed.
      shape: of the result.
      dtype: of the result.

    Returns:
      The array.

    Example:
      >>> bool(jnp.all(jnp.abs(uniform(jax.random.key(0), (9,), jnp.float32)) <= 0.04))
      True
    """
    return jax.random.uniform(key, shape, dtype, -BOUND, BOUND)


def gated(state: jax.Array, both: jax.Array, activation: Any) -> jax.Array:
    """The highway step ``s + sigmoid(c) * (f(h) - s)`` of all nodes.

    Args:
      state: ``[..., n]``, `s`.
      both: ``[..., 2n]``, `c` and `h`.
      activation: `f`.

    Returns:
      ``[..., n]``.

    Example:
      >>> float(gated(jnp.ones(1), jnp.zeros(2), jnp.tanh)[0])
      0.5
    """
    gate, value = jnp.split(both, 2, axis=-1)
    return state + jax.nn.sigmoid(gate) * (activation(value) - state)


def input_state(
    w0: jax.Array, x: jax.Array, mask: jax.Array | None
) -> tuple[Callable[[jax.Array, jax.Array], jax.Array], jax.Array]:
    """State 0 of DARTS' cells, with the inputs' half of the product taken at once.

    Args:
      w0: ``[2n, 2n]``, rows of the input first.
      x: ``[T, B, n]``.
      mask: ``[B, n]`` of the previous state, or None.

    Returns:
      ``(function of the previous state and one of the projected inputs, projected
      inputs [T, B, 2n])``.

    Example:
      >>> state, xs = input_state(jnp.zeros((2, 2)), jnp.zeros((3, 1, 1)), None)
      >>> float(state(jnp.ones((1, 1)), xs[0])[0, 0]), xs.shape
      (0.5, (3, 1, 2))
    """
    width = x.shape[-1]

    def state(h, projected):
        seen = h if mask is None else h * mask
        return gated(h, projected + seen @ w0[width:], jnp.tanh)

    return state, x @ w0[:width]


def check_inputs(inputs: Any) -> tuple[Any, Any, Any]:
    """Takes the inputs of a language model apart.

    Args:
      inputs: ``{"tokens": int [B, T]}``, and where wanted "length" (how many times
        count, default all) and "reset" (whether to begin from a zero state, default
        not); arrays or their shapes.

    Returns:
      ``(tokens, length, reset)``.

    Raises:
      JnasError: they are something else.

    Example:
      >>> check_inputs({"tokens": jnp.zeros((2, 5), int)})[1:]
      (5, False)
    """
    if not isinstance(inputs, dict) or "tokens" not in inputs:
        raise JnasError(
            "inputs of a language model must be {'tokens': int [B, T], 'length', "
            f"'reset'}}, got {type(inputs).__name__}: use batches of a text feed"
        )
    tokens = inputs["tokens"]
    shape, dtype = jnp.shape(tokens), getattr(tokens, "dtype", jnp.result_type(tokens))
    if len(shape) != 2 or min(shape) < 1 or not jnp.issubdtype(dtype, jnp.integer):
        raise JnasError(f"tokens must be integers [B, T], got {dtype} {list(shape)}")
    return tokens, inputs.get("length", shape[1]), inputs.get("reset", False)


def init(
    cell: Cell, key: jax.Array, inputs: Any, vocab_size: int, width: int, dtype: Any
) -> Variables:
    """The initial weights and state of a language model.

    Args:
      cell: its cell.
      key: consumed.
      inputs: a batch or its shapes; they say how many columns are carried.
      vocab_size: `V`.
      width: `n`.
      dtype: compute dtype.

    Returns:
      Weights ``{"embedding": [V, n], "bias": [V], "cell": ...}`` and the state
      ``{"carry": [B, n]}``, with "batch_stats" where the cell has statistics.
    """
    tokens = check_inputs(inputs)[0]
    wide = layers.storage_dtype(dtype)
    key_embedding, key_cell = jax.random.split(key)
    weights = {
        "embedding": uniform(key_embedding, (vocab_size, width), wide),
        "bias": jnp.zeros(vocab_size, wide),
        "cell": cell.init(key_cell, width, wide),
    }
    state: dict[str, Any] = {"carry": jnp.zeros((tokens.shape[0], width), wide)}
    if cell.stats is not None:
        state["batch_stats"] = cell.stats(width, wide)
    return Variables(weights, state)


def unroll(
    cell: Cell,
    weights: Any,
    model_state: dict[str, Any],
    inputs: Any,
    *,
    dropouts: Dropouts,
    train: bool,
    statistics: str,
    key: jax.Array | None,
    masks: dict[str, jax.Array] | None,
    dtype: Any,
) -> tuple[SequenceOutputs, dict[str, Any]]:
    """Runs a language model over a window.

    Args:
      cell: its cell.
      weights: of `init`.
      model_state: of `init`; without "carry" it begins from a zero state.
      inputs: see `check_inputs`.
      dropouts: rates.
      train: whether to drop.
      statistics: "batch" or "running"; only "batch" moves running statistics.
      key: consumed; needed where something is dropped and not given as a mask.
      masks: ready masks, scaled, instead of drawn ones: "inputs", "hidden",
        "embedding", "output" ``[B, n]``, "words" ``[V]``. Used in training only.
      dtype: compute dtype.

    Returns:
      The outputs and the model state after the window. The carry always moves on.

    Raises:
      JnasError: the shapes don't fit, or a key is missing.
    """
    tokens, length, reset = check_inputs(inputs)
    vocab_size, width = weights["embedding"].shape
    columns, times = tokens.shape
    carry = model_state.get("carry")
    if carry is None:
        carry = jnp.zeros((columns, width), layers.storage_dtype(dtype))
    if carry.shape != (columns, width):
        raise JnasError(
            f"the carried state is {list(carry.shape)}, for {columns} columns of text "
            f"it must be {[columns, width]}: use the batch size that init was given"
        )
    shapes: dict[str, tuple[int, ...]] = {
        name: (columns, width) for name in Dropouts._fields
    }
    shapes["words"] = (vocab_size,)
    drop = _masks(dropouts if train else Dropouts(), masks, key, shapes, train, dtype)

    # Tokens beyond the vocabulary give NaN, not some other token's row.
    x = (
        jnp.asarray(weights["embedding"])
        .astype(dtype)
        .at[tokens]
        .get(mode="fill", fill_value=jnp.nan)
    )
    if drop["words"] is not None:
        x = x * drop["words"][tokens][..., None]
    x = jnp.swapaxes(x, 0, 1)
    for name in ("embedding", "inputs"):
        mask = drop[name]
        x = x if mask is None else x * mask[None]
    cell_weights = jax.tree.map(lambda w: w.astype(dtype), weights["cell"])
    step, xs = cell.begin(cell_weights, x, drop["hidden"], statistics)

    def advance(state, now):
        h, stats = state
        x, valid = now
        new_h, new_stats = step(h, stats, x)
        h = jnp.where(valid, new_h, h)
        stats = jax.tree.map(lambda a, b: jnp.where(valid, a, b), new_stats, stats)
        return (h, stats), h

    start = jnp.where(reset, 0, carry).astype(dtype)
    valid = jnp.arange(times) < length
    stats = model_state.get("batch_stats")
    (last, stats), hiddens = lax.scan(advance, (start, stats), (xs, valid))
    hiddens = jnp.swapaxes(hiddens, 0, 1)
    output = drop["output"]
    dropped = hiddens if output is None else hiddens * output[:, None]
    wide = layers.storage_dtype(dtype)
    logits = dropped @ weights["embedding"].astype(dtype).T
    logits = logits.astype(wide) + weights["bias"][None, None]
    after = {**model_state, "carry": last.astype(carry.dtype)}
    if stats is not None and statistics == "batch":
        after["batch_stats"] = stats
    return SequenceOutputs(logits, hiddens, dropped), after


def _masks(
    dropouts: Dropouts,
    given: dict[str, jax.Array] | None,
    key: jax.Array | None,
    shapes: dict[str, tuple[int, ...]],
    train: bool,
    dtype: Any,
) -> dict[str, jax.Array | None]:
    """The mask of each place, given or drawn, or None where nothing is dropped."""
    given = given or {}
    for name, mask in given.items():
        if name not in shapes:
            raise unknown_name("mask", name, shapes)
        if jnp.shape(mask) != shapes[name]:
            raise JnasError(
                f"mask {name!r} must be {list(shapes[name])}, got "
                f"{list(jnp.shape(mask))}"
            )
    drawn: dict[str, jax.Array | None] = {}
    for i, (name, rate) in enumerate(dropouts._asdict().items()):
        if name in given:
            drawn[name] = jnp.asarray(given[name], dtype) if train else None
        elif not rate:
            drawn[name] = None
        elif key is None:
            raise JnasError(
                f"dropout {name} needs a key: apply(..., key=jax.random.key(0))"
            )
        else:
            kept = jax.random.bernoulli(
                jax.random.fold_in(key, i), 1 - rate, shapes[name]
            )
            drawn[name] = kept.astype(dtype) / (1 - rate)
    return drawn
