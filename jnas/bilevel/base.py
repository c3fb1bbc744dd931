"""The contract: how the validation loss is differentiated by arch.

Nothing here knows about networks: a hypergradient sees two losses of
``(weights, arch, batch, key)``.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jnas.errors import JnasError

__all__ = ["Hypergradient", "LossFn"]

LossFn = Callable[[Any, Any, Any, jax.Array], tuple[jax.Array, Any]]
"""``(weights, arch, batch, key) -> (scalar, aux)``."""


class Hypergradient(NamedTuple):
    """An estimator of d val-loss / d arch.

    Attributes:
      init: ``(weights, arch) -> state``.
      estimate: ``(state, train_loss, val_loss, weights, arch, train_batch, val_batch,
        *, weight_tx, weight_opt_state, key, **context) -> (arch_grad, state, info)``.
        ``info`` is a dict with at least "val_loss" and "val_aux", the value and the
        auxiliary output of the one evaluation of the validation loss. Auxiliary outputs
        of the training loss are dropped, so whatever a loss updates (running
        statistics, carries) is updated by that evaluation alone. ``key`` goes to the
        validation loss as it is; the training loss gets ``fold_in(key, 1)``, the same
        one in all its evaluations, so that a stochastic loss is one function.
      second_order: whether it takes second derivatives of the training loss, which is
        then computed in at least float32.
    """

    init: Callable[[Any, Any], Any]
    estimate: Callable[..., tuple[Any, Any, dict[str, Any]]]
    second_order: bool = False


def stateless(weights: Any, arch: Any) -> tuple[()]:
    """The ``init`` of estimators without state."""
    del weights, arch
    return ()


def train_key(key: jax.Array) -> jax.Array:
    """The key of the training loss; the validation loss gets ``key`` itself."""
    return jax.random.fold_in(key, 1)


def scalar(loss: LossFn, which: str) -> LossFn:
    """A loss that says clearly when it does not return ``(scalar, aux)``.

    Args:
      loss: the user's.
      which: "training" or "validation".

    Returns:
      The same function with its output checked at trace time.

    Raises:
      JnasError: from the returned function.

    Example:
      >>> scalar(lambda *_: (jnp.ones(3), None), "training")(0.0, 0.0, 0.0, None)
      Traceback (most recent call last):
        ...
      jnas.errors.JnasError: the training loss must return a real scalar, got \
float32[3]: take the mean over the batch
    """

    def checked(weights, arch, batch, key):
        out = loss(weights, arch, batch, key)
        if not (isinstance(out, tuple) and len(out) == 2):
            raise JnasError(
                f"the {which} loss must return (scalar, aux), got "
                f"{type(out).__name__}: return (loss, None) if there is nothing else"
            )
        value = jnp.asarray(out[0])
        if value.shape or not jnp.issubdtype(value.dtype, jnp.floating):
            raise JnasError(
                f"the {which} loss must return a real scalar, got {value.dtype}"
                f"{list(value.shape)}: take the mean over the batch"
            )
        return value, out[1]

    return checked


def check_real(tree: Any, what: str) -> None:
    """Raises unless all leaves are floating-point arrays, naming the first other one.

    Example:
      >>> check_real({"a": jnp.zeros(2)}, "arch")
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        dtype = getattr(leaf, "dtype", None) or jnp.result_type(leaf)
        if not jnp.issubdtype(dtype, jnp.floating):
            raise JnasError(
                f"{what} must be a tree of floating-point arrays, got {dtype} at "
                f"{what}{jax.tree_util.keystr(path)}: keep integers out of it"
            )


def check_optimizer(
    tx: optax.GradientTransformation, state: Any, weights: Any, name: str
) -> optax.GradientTransformationExtraArgs:
    """The optimizer, once its state is known to belong to it and to the weights.

    Args:
      tx: the optimizer.
      state: of it, or of one with the same structure.
      weights: the weights.
      name: the argument's name, for messages.

    Returns:
      ``tx``; its ``update`` takes extra keywords.

    Raises:
      JnasError: naming the first part of the state that differs.

    Example:
      >>> sgd = optax.sgd(0.1)
      >>> tx = check_optimizer(sgd, sgd.init(1.0), 1.0, "inner_tx")
    """
    expected = jax.eval_shape(tx.init, weights)
    ours = jax.tree_util.tree_leaves_with_path(state)
    theirs = jax.tree_util.tree_leaves_with_path(expected)
    if jax.tree.structure(state) != jax.tree.structure(expected):
        raise JnasError(
            f"weight_opt_state must have the structure of {name}.init(weights), got "
            f"{len(ours)} leaves instead of {len(theirs)}, or other names: an inner "
            "optimizer may differ from the real one in stateless parts only (replace a "
            "part by optax.identity(), do not leave it out)"
        )
    for (path, leaf), (_, want) in zip(ours, theirs, strict=True):
        if jnp.shape(leaf) != want.shape:
            raise JnasError(
                f"weight_opt_state must fit the weights: {jax.tree_util.keystr(path)} "
                f"has shape {list(jnp.shape(leaf))}, expected {list(want.shape)}"
            )
    return optax.with_extra_args_support(tx)
