"""The contract of robustification plug-ins; every hook defaults to doing nothing."""

from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["Action", "Regularizer", "both", "chain", "identity"]


class Action(NamedTuple):
    """What an ``epoch_end`` hook asks of the loop.

    Attributes:
      stop: end the search after this epoch.
      rollback_epochs: derive from (or go back to) the arch of so many epochs ago.
      hyperparams: run-time hyper-parameters to set (``optax.inject_hyperparams``).
    """

    stop: bool = False
    rollback_epochs: int = 0
    hyperparams: dict[str, float] | None = None


def _init(supernet, arch):
    del supernet, arch
    return ()


def _transform(state, mixture, **context):
    del state, context
    return mixture


def _rates(state, **context):
    del state, context
    return {}


def _penalty(state, **context):
    del state, context
    return 0.0


def _gradients(state, weight_grads, **context):
    del context
    return state, weight_grads, None


def _epoch_end(state, **context):
    del context
    return state, Action()


class Regularizer(NamedTuple):
    """A robustification plug-in: pure hooks with keyword-only context.

    Attributes:
      init: ``(supernet, arch) -> state``.
      transform: ``(state, mixture, *, weights, loss_fn, key, step, phase) -> mixture``,
        before differentiation.
      rates: ``(state, *, step) -> dict`` of traced rates for the supernet.
      penalty: ``(state, *, weights, arch, mixture, loss_fn, key, step, phase) ->
        scalar``, added to the objective of the phase.
      gradients: ``(state, weight_grads, *, supernet, step) -> (state, weight_grads,
        trainable)``; ``trainable`` is None or a mask tree like the weights.
      epoch_end: ``(state, *, arch, diagnostics, evaluate, epoch) -> (state, Action)``,
        on the host between epochs.
    """

    init: Callable[..., Any] = _init
    transform: Callable[..., Any] = _transform
    rates: Callable[..., dict[str, Any]] = _rates
    penalty: Callable[..., Any] = _penalty
    gradients: Callable[..., tuple[Any, Any, Any]] = _gradients
    epoch_end: Callable[..., tuple[Any, Action]] = _epoch_end


def identity() -> Regularizer:
    """The regularizer that does nothing, the neutral element of `chain`.

    Returns:
      The regularizer.

    Example:
      >>> identity().penalty(())
      0.0
    """
    return Regularizer()


def both(first: Any, second: Any) -> Any:
    """What two masks like the weights let through.

    Args:
      first: a mask tree, or None for everything.
      second: likewise.

    Returns:
      Their product; None if both are.

    Example:
      >>> both(None, {"w": 0.0}), both({"w": 0.5}, {"w": 1.0}), both(None, None)
      ({'w': 0.0}, {'w': 0.5}, None)
    """
    if first is None or second is None:
        return second if first is None else first
    import jax

    return jax.tree.map(lambda a, b: a * b, first, second)


def chain(*parts: Regularizer) -> Regularizer:
    """Composes regularizers in the given order.

    Transformations are applied one after another, penalties are added, gradients pass
    through all, the rates of a later part win, masks are multiplied, a stop by any part
    stops.

    Args:
      *parts: the regularizers.

    Returns:
      Their composition; its state is the tuple of their states.

    Example:
      >>> penalty = lambda state, **context: 1.5
      >>> both = chain(identity(), Regularizer(penalty=penalty))
      >>> both.penalty(both.init(None, None))
      1.5
    """

    def init(supernet, arch):
        return tuple(part.init(supernet, arch) for part in parts)

    def transform(state, mixture, **context):
        for part, own in zip(parts, state, strict=True):
            mixture = part.transform(own, mixture, **context)
        return mixture

    def rates(state, **context):
        merged: dict[str, Any] = {}
        for part, own in zip(parts, state, strict=True):
            merged |= part.rates(own, **context)
        return merged

    def penalty(state, **context):
        values = [
            part.penalty(own, **context) for part, own in zip(parts, state, strict=True)
        ]
        return sum(values, 0.0)

    def gradients(state, weight_grads, **context):
        new, trainable = [], None
        for part, own in zip(parts, state, strict=True):
            own, weight_grads, mask = part.gradients(own, weight_grads, **context)
            new.append(own)
            trainable = both(trainable, mask)
        return tuple(new), weight_grads, trainable

    def epoch_end(state, **context):
        new, actions = [], []
        for part, own in zip(parts, state, strict=True):
            own, action = part.epoch_end(own, **context)
            new.append(own)
            actions.append(action)
        hyperparams: dict[str, float] = {}
        for action in actions:
            hyperparams |= action.hyperparams or {}
        return tuple(new), Action(
            stop=any(a.stop for a in actions),
            rollback_epochs=max((a.rollback_epochs for a in actions), default=0),
            hyperparams=hyperparams or None,
        )

    return Regularizer(init, transform, rates, penalty, gradients, epoch_end)
