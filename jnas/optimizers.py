"""The papers' optimizers, composed from optax.

The order of the parts matters and is PyTorch's: gradients are clipped first, then the
L2 term ``weight_decay * w`` is added (coupled, to every parameter), then momentum or
Adam's moments, then the learning rate. Hyper-parameters that may change at run time are
exposed through ``optax.inject_hyperparams``.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jnas import numerics
from jnas.errors import JnasError

__all__ = [
    "accepting",
    "clip_by_global_norm",
    "cosine",
    "coupled_adam",
    "coupled_sgd",
    "scale_by_window",
    "with_hyperparams",
]


def accepting(
    tx: optax.GradientTransformation, name: str
) -> optax.GradientTransformationExtraArgs:
    """An optimizer whose ``update`` takes extra keywords.

    Args:
      tx: the optimizer.
      name: the argument's name, for messages.

    Returns:
      It, ignoring keywords that it does not know.

    Raises:
      JnasError: it is none.

    Example:
      >>> sgd = accepting(optax.sgd(0.1), "weight_tx")
      >>> updates, _ = sgd.update(1.0, sgd.init(1.0), 1.0, batch=None)
    """
    if not (hasattr(tx, "init") and hasattr(tx, "update")):
        raise JnasError(
            f"{name} must be an optax optimizer, got {type(tx).__name__}: use e.g. "
            "optax.sgd(0.025, momentum=0.9)"
        )
    return optax.with_extra_args_support(tx)


def cosine(
    initial: float, final: float, *, epochs: int, steps_per_epoch: int, per: str
) -> optax.Schedule:
    """Cosine annealing, constant within an epoch or moving at each step.

    Args:
      initial: learning rate of the first step.
      final: value after ``epochs``, never quite reached.
      epochs: length.
      steps_per_epoch: steps of one epoch.
      per: "epoch" (DARTS and its relatives) or "step" (NAS-Bench-201).

    Returns:
      ``(step) -> learning rate``.

    Raises:
      JnasError: an argument is out of range.

    Example:
      >>> s = cosine(0.1, 0.0, epochs=2, steps_per_epoch=10, per="epoch")
      >>> round(float(s(9)), 6), round(float(s(10)), 6)
      (0.1, 0.05)
    """
    if per not in ("epoch", "step"):
        raise JnasError(f"per must be 'epoch' or 'step', got {per!r}")
    if epochs < 1 or steps_per_epoch < 1:
        raise JnasError(
            "epochs and steps_per_epoch must be positive, got "
            f"{epochs} and {steps_per_epoch}"
        )

    def schedule(count):
        # An integer divides to float32, even under x64.
        done = jnp.asarray(count, float) / steps_per_epoch
        done = jnp.floor(done) if per == "epoch" else done
        factor = (1 + jnp.cos(jnp.pi * done / epochs)) / 2
        return final + (initial - final) * factor

    return schedule


def clip_by_global_norm(max_norm: float) -> optax.GradientTransformation:
    """Scales gradients by ``min(1, max_norm / (norm + 1e-6))``, as PyTorch does.

    ``optax.clip_by_global_norm`` lacks the 1e-6, a relative difference of 1e-7 that
    would hide real ones in comparisons with the papers' code.

    Args:
      max_norm: positive.

    Returns:
      The transformation.

    Example:
      >>> tx = clip_by_global_norm(1.0)
      >>> updates, _ = tx.update({"w": jnp.array([3.0, 4.0])}, tx.init(None))
      >>> [round(float(x), 4) for x in updates["w"]]
      [0.6, 0.8]
    """
    if not max_norm > 0:
        raise JnasError(f"max_norm must be positive, got {max_norm!r}")

    def update(updates, state, params=None):
        del params
        factor = jnp.minimum(1.0, max_norm / (numerics.global_norm(updates) + 1e-6))
        return jax.tree.map(lambda g: g * factor.astype(g.dtype), updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def coupled_sgd(
    learning_rate: float | Callable,
    *,
    momentum: float = 0.9,
    weight_decay: float = 3e-4,
    nesterov: bool = False,
    clip: float | None = 5.0,
    decayed: Callable[[Any], Any] | None = None,
) -> optax.GradientTransformation:
    """SGD as in the DARTS and NAS-Bench-201 code: clip, L2, momentum.

    Args:
      learning_rate: float or schedule.
      momentum: of the velocity, which is not dampened.
      weight_decay: coupled L2.
      nesterov: use Nesterov's form.
      clip: maximal global norm of the gradient, or None.
      decayed: ``parameters -> tree of booleans``, which of them are decayed; None for
        all.

    Returns:
      The transformation; ``state.hyperparams`` holds the learning rate and the weight
      decay.

    Example:
      >>> tx = coupled_sgd(0.1, momentum=0.0, weight_decay=0.5)
      >>> w = jnp.array(2.0)
      >>> updates, _ = tx.update(jnp.array(1.0), tx.init(w), w)
      >>> round(float(updates), 6)
      -0.2
    """

    def make(learning_rate, weight_decay):
        return optax.chain(
            optax.identity() if clip is None else clip_by_global_norm(clip),
            optax.add_decayed_weights(weight_decay, decayed),
            optax.sgd(learning_rate, momentum, nesterov),
        )

    return optax.inject_hyperparams(make)(
        learning_rate=learning_rate, weight_decay=weight_decay
    )


def coupled_adam(
    learning_rate: float | Callable = 3e-4,
    *,
    b1: float = 0.5,
    b2: float = 0.999,
    weight_decay: float = 1e-3,
) -> optax.GradientTransformation:
    """Adam with coupled L2, the architecture optimizer of DARTS (not AdamW).

    Args:
      learning_rate: float or schedule.
      b1: decay of the first moment.
      b2: decay of the second moment.
      weight_decay: added to the gradient before the moments.

    Returns:
      The transformation; ``state.hyperparams`` as in `coupled_sgd`.

    Example:
      >>> tx = coupled_adam(0.1)
      >>> alpha = jnp.array(0.0)
      >>> updates, _ = tx.update(jnp.array(1.0), tx.init(alpha), alpha)
      >>> round(float(updates), 4)
      -0.1
    """

    def make(learning_rate, weight_decay):
        return optax.chain(
            optax.add_decayed_weights(weight_decay),
            optax.adam(learning_rate, b1, b2),
        )

    return optax.inject_hyperparams(make)(
        learning_rate=learning_rate, weight_decay=weight_decay
    )


def with_hyperparams(state: Any, values: dict[str, float]) -> Any:
    """An optimizer's state with other run-time hyper-parameters.

    Args:
      state: of a transformation with ``optax.inject_hyperparams`` somewhere in it.
      values: ``{name: value}``.

    Returns:
      The state, of the same structure.

    Raises:
      JnasError: nothing in the state has such a hyper-parameter.

    Example:
      >>> state = coupled_sgd(0.1).init(jnp.ones(2))
      >>> new = with_hyperparams(state, {"weight_decay": 0.01})
      >>> round(float(new.hyperparams["weight_decay"]), 4)
      0.01
    """
    known: set[str] = set()

    def has(part):
        return hasattr(part, "hyperparams") and hasattr(part, "_replace")

    def change(part):
        if not has(part):
            return part
        known.update(part.hyperparams)
        new = {
            name: jnp.asarray(values[name], jnp.result_type(old))
            for name, old in part.hyperparams.items()
            if name in values
        }
        return part._replace(hyperparams={**part.hyperparams, **new})

    found = jax.tree.map(change, state, is_leaf=has)
    for name in values:
        if name not in known:
            raise JnasError(
                f"the optimizer has no run-time hyper-parameter {name!r}, only "
                f"{sorted(known)}: make it with optax.inject_hyperparams"
            )
    return found


def scale_by_window(bptt: int) -> optax.GradientTransformationExtraArgs:
    """Scales the step on a window of text by its share of a full window.

    The last part of an optimizer of language models (Merity et al., ICLR 2018, as in
    DARTS' code): else the few gradients of a short window, a mean, would count more.

    Args:
      bptt: times of a full window.

    Returns:
      The transformation; its ``update`` needs the extra keyword ``batch`` with the
      scalar "length".

    Raises:
      JnasError: ``bptt`` is not positive, or there is no such batch.

    Example:
      >>> tx = optax.chain(optax.sgd(1.0), scale_by_window(10))
      >>> w = jnp.array(2.0)
      >>> batch = {"length": 5}
      >>> float(tx.update(jnp.array(1.0), tx.init(w), w, batch=batch)[0])
      -0.5
    """
    if isinstance(bptt, bool) or not isinstance(bptt, int) or bptt < 1:
        raise JnasError(f"bptt must be a positive integer, got {bptt!r}")

    def update(updates, state, params=None, *, batch=None, **extra_args):
        del params, extra_args
        if not isinstance(batch, dict) or "length" not in batch:
            raise JnasError(
                "scale_by_window needs the batch: tx.update(..., batch={'length': n})"
            )
        share = jnp.asarray(batch["length"]) / bptt
        return jax.tree.map(lambda u: u * share.astype(u.dtype), updates), state

    return optax.GradientTransformationExtraArgs(
        lambda params: optax.EmptyState(), update
    )
