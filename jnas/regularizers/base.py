"""The contract of robustification plug-ins; every hook defaults to doing nothing."""

import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["Action", "Regularizer", "begin", "both", "chain", "identity"]


class Action(NamedTuple):
    """What an ``epoch_end`` hook asks of the loop.

    Attributes:
      stop: end the search after this epoch.
      rollback_epochs: with ``stop``: the result is the arch of so many epochs ago;
        else: everything goes back to the checkpoint of so many epochs ago and on from
        there, but for the state of this regularizer.
      hyperparams: run-time hyper-parameters of the weights' optimizer to set
        (``optax.inject_hyperparams``), after any roll back.
    """

    stop: bool = False
    rollback_epochs: int = 0
    hyperparams: dict[str, float] | None = None


def _init(supernet, arch, **context):
    del supernet, arch, context
    return ()


def _project(state, mixture):
    del state
    return mixture


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


def _record(state, **context):
    del state, context
    return {}


class Regularizer(NamedTuple):
    """A robustification plug-in: pure hooks with keyword-only context.

    Attributes:
      init: ``(supernet, arch, *, weights=None) -> state``.
      project: ``(state, mixture) -> mixture``: what is decided for good; applied to
        samples, before and after ``transform``, inside ``loss_fn``, and to the
        deterministic view alike. Twice must be as once.
      transform: ``(state, mixture, *, weights, loss_fn, key, step, phase) -> mixture``,
        before differentiation. ``loss_fn(weights, mixture, *, statistics="batch", key)
        -> scalar`` is the task's loss on the batch of the phase.
      rates: ``(state, *, step) -> dict`` of traced rates for the supernet.
      penalty: ``(state, *, weights, arch, mixture, loss_fn, key, step, phase,
        probabilities, precise_loss_fn) -> scalar``, added to the objective of the
        phase; ``probabilities(arch)`` is the deterministic mixture,
        ``precise_loss_fn`` computes as ``loss_fn`` in at least float32.
      gradients: ``(state, weight_grads, *, supernet, step) -> (state, weight_grads,
        trainable)``; ``trainable`` is None or a mask tree like the weights.
      observe: ``(state, *, val_grads, supernet, step) -> state``, in each arch
        half-step, with the gradient of its validation objective by the weights, which
        is computed for it; None: not needed.
      epoch_end: ``(state, *, arch, mixture, genotype, diagnostics, evaluate, supernet,
        epoch, key) -> (state, Action)``, on the host between epochs; ``epoch`` counts
        the finished ones, ``mixture`` is the deterministic view and ``genotype`` what
        is derived from it without data.
      record: ``(state, *, supernet) -> dict`` of JSON's types, on the host: what to
        keep of a finished search beside its genotype.
      curvature_every: ``epoch_end`` needs ``diagnostics.lambda_max`` after the epochs
        1, 1 + this, 1 + 2 * this, ...; 0: never.
      keeps_archs: it may end a search with the arch of so many epochs ago.
      keeps_states: it may go back to the checkpoint of so many epochs ago.
    """

    init: Callable[..., Any] = _init
    project: Callable[..., Any] = _project
    transform: Callable[..., Any] = _transform
    rates: Callable[..., dict[str, Any]] = _rates
    penalty: Callable[..., Any] = _penalty
    gradients: Callable[..., tuple[Any, Any, Any]] = _gradients
    observe: Callable[..., Any] | None = None
    epoch_end: Callable[..., tuple[Any, Action]] = _epoch_end
    record: Callable[..., dict[str, Any]] = _record
    curvature_every: int = 0
    keeps_archs: int = 0
    keeps_states: int = 0


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


def begin(part: Regularizer, supernet: Any, arch: Any, weights: Any) -> Any:
    """The first state of a plug-in, which need not know of the weights.

    Args:
      part: the plug-in.
      supernet: the supernet.
      arch: architecture parameters.
      weights: of the supernet.

    Returns:
      Its state.

    Example:
      >>> begin(Regularizer(init=lambda supernet, arch: arch), None, 2.0, None)
      2.0
    """
    try:
        inspect.signature(part.init).bind(supernet, arch, weights=weights)
    except TypeError:
        return part.init(supernet, arch)
    return part.init(supernet, arch, weights=weights)


def chain(*parts: Regularizer) -> Regularizer:
    """Composes regularizers in the given order.

    Projections and transformations are applied one after another, penalties are added,
    gradients pass through all, the rates of a later part win, masks are multiplied,
    records are merged, a stop by any part stops. Where one part stops the search and
    another goes back, the stop and its own way back win.

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

    def init(supernet, arch, weights=None, **context):
        del context
        return tuple(begin(part, supernet, arch, weights) for part in parts)

    def project(state, mixture):
        for part, own in zip(parts, state, strict=True):
            mixture = part.project(own, mixture)
        return mixture

    # Two random parts must not draw the same numbers; parts that do nothing count for
    # nothing, so that `identity` stays neutral bit by bit.
    places = [sum(p != identity() for p in parts[:i]) for i in range(len(parts))]

    def keyed(place, context):
        if place == 0 or context.get("key") is None:
            return context
        import jax

        return {**context, "key": jax.random.fold_in(context["key"], place)}

    def transform(state, mixture, **context):
        for part, own, place in zip(parts, state, places, strict=True):
            mixture = part.transform(own, mixture, **keyed(place, context))
        return mixture

    def rates(state, **context):
        merged: dict[str, Any] = {}
        for part, own in zip(parts, state, strict=True):
            merged |= part.rates(own, **context)
        return merged

    def penalty(state, **context):
        values = [
            part.penalty(own, **keyed(place, context))
            for part, own, place in zip(parts, state, places, strict=True)
        ]
        return sum(values, 0.0)

    def gradients(state, weight_grads, **context):
        new, trainable = [], None
        for part, own in zip(parts, state, strict=True):
            own, weight_grads, mask = part.gradients(own, weight_grads, **context)
            new.append(own)
            trainable = both(trainable, mask)
        return tuple(new), weight_grads, trainable

    def observe(state, **context):
        return tuple(
            own if part.observe is None else part.observe(own, **context)
            for part, own in zip(parts, state, strict=True)
        )

    def record(state, **context):
        merged: dict[str, Any] = {}
        for part, own in zip(parts, state, strict=True):
            merged |= part.record(own, **context)
        return merged

    def epoch_end(state, **context):
        new, actions = [], []
        for part, own in zip(parts, state, strict=True):
            own, action = part.epoch_end(own, **context)
            new.append(own)
            actions.append(action)
        hyperparams: dict[str, float] = {}
        for action in actions:
            hyperparams |= action.hyperparams or {}
        stopping = [a for a in actions if a.stop]
        deciding = stopping or actions
        return tuple(new), Action(
            stop=bool(stopping),
            rollback_epochs=max((a.rollback_epochs for a in deciding), default=0),
            hyperparams=hyperparams or None,
        )

    return Regularizer(
        init=init,
        project=project if any(p.project is not _project for p in parts) else _project,
        transform=transform,
        rates=rates,
        penalty=penalty,
        gradients=gradients,
        observe=observe if any(part.observe is not None for part in parts) else None,
        epoch_end=epoch_end
        if any(p.epoch_end is not _epoch_end for p in parts)
        else _epoch_end,
        record=record,
        # The common divisor serves all: each looks at its own epochs.
        curvature_every=math.gcd(*(part.curvature_every for part in parts)),
        keeps_archs=max((part.keeps_archs for part in parts), default=0),
        keeps_states=max((part.keeps_states for part in parts), default=0),
    )
