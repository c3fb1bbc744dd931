"""Stopping by curvature: DARTS-ES and DARTS-ADA of Zela et al., ICLR 2020, section 4.

lambda_max, the largest eigenvalue of the validation loss' Hessian by arch, is measured
after the epochs e = 0, 2, 4, ... (counted from 0) and averaged over the last 5
measurements. The average belongs to the middle of its window, epoch e - 4. A search is
collapsing where that average is over 1.3 times the one of 4 measurements before, but
never before epoch 10 could be the answer:

    trigger at e  if  e - 12 >= 10  and  mean(k-4..k) > 1.3 * mean(k-8..k-4)

and the architecture of epoch e - 12, where the earlier window has its middle, is the
result (ES), or everything goes back there and on with more weight decay (ADA). (The
paper states the same as a ratio below 0.75; the figures here are the code's.)
"""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnas.errors import JnasError
from jnas.regularizers import base, checks

__all__ = ["Curve", "eigenvalue_adaptive", "eigenvalue_stop"]


class Curve(NamedTuple):
    """The last measurements; a pytree, so it is saved with the search.

    Attributes:
      values: float32 ``[K]``, the newest last, NaN where there are none yet; K is
        ``window + lag``, and what may be forgotten again.
      raised: int32, how often the weight decay was raised.
    """

    values: jax.Array
    raised: jax.Array


class _Rule(NamedTuple):
    """When a curve triggers."""

    every: int
    window: int
    lag: int
    ratio: float
    earliest: int
    offset: float
    epochs: int | None

    @property
    def way_back(self) -> int:
        """Epochs from a trigger to the middle of the earlier window."""
        return (self.window // 2 + self.lag) * self.every

    def begin(self, more: int = 0) -> Curve:
        """No measurement yet; place for ``more`` than are needed."""
        values = jnp.full(self.window + self.lag + more, jnp.nan, jnp.float32)
        return Curve(values, jnp.zeros([], jnp.int32))

    def look(self, curve: Curve, diagnostics, epoch: int) -> tuple[Curve, bool]:
        """Takes in what was measured after an epoch; whether it triggers."""
        last = epoch - 1  # the published counting begins at 0
        if last % self.every:
            return curve, False
        value = getattr(diagnostics, "lambda_max", None)
        if value is None:
            raise JnasError(
                "eigenvalue_stop and eigenvalue_adaptive need diagnostics with "
                "lambda_max: search.inspect(state, batch, curvature=True)"
            )
        # On the host and in NumPy: nothing here is worth a compilation.
        values = np.append(np.asarray(curve.values)[1:], np.float32(value))
        curve = curve._replace(values=jnp.asarray(values))
        if last - self.way_back < self.earliest or last + 1 == self.epochs:
            return curve, False
        values = values[-(self.window + self.lag) :]
        if not np.isfinite(values).all():
            return curve, False
        now = values[-self.window :].mean() + self.offset
        before = values[: self.window].mean() + self.offset
        return curve, bool(before > 0 and now > self.ratio * before)


def _rule(every, window, lag, ratio, earliest, offset, epochs) -> _Rule:
    """The rule, checked."""
    for name, value in (("every", every), ("window", window), ("lag", lag)):
        checks.count(value, name)
    checks.number(ratio, "ratio", positive=True)
    checks.number(earliest, "earliest")
    checks.number(offset, "offset")
    if epochs is not None:
        checks.count(epochs, "epochs")
    return _Rule(every, window, lag, ratio, earliest, offset, epochs)


def eigenvalue_stop(
    *,
    every: int = 2,
    window: int = 5,
    lag: int = 4,
    ratio: float = 1.3,
    earliest: int = 10,
    offset: float = 0.0,
    epochs: int | None = None,
) -> base.Regularizer:
    """Ends a search when its curvature rises, with the architecture of before.

    Args:
      every: epochs from measurement to measurement.
      window: measurements of an average.
      lag: measurements from the earlier average to the later one.
      ratio: a larger one stops.
      earliest: the first epoch, counted from 0, whose architecture may be the result.
      offset: added to every eigenvalue; the authors' has the weight decay of arch.
      epochs: of the search, in whose last one nothing is stopped; None: unknown.

    Returns:
      The regularizer; its state is a `Curve`. `search.differentiable` must keep
      ``recent = keeps_archs + 1`` archs at ``recent_every`` one epoch.

    Raises:
      JnasError: an argument is out of range; ``epoch_end``: it gets no lambda_max.

    Example:
      >>> import types
      >>> part = eigenvalue_stop()
      >>> state = part.init(None, None)
      >>> for epoch in range(1, 24, 2):  # flat, then rising
      ...     seen = types.SimpleNamespace(lambda_max=0.1 if epoch < 17 else 0.5)
      ...     state, action = part.epoch_end(state, epoch=epoch, diagnostics=seen)
      >>> action.stop, action.rollback_epochs
      (True, 12)

    References:
      Zela, Elsken, Saikia, Marrakchi, Brox, Hutter, Understanding and Robustifying
      Differentiable Architecture Search, ICLR 2020, https://arxiv.org/abs/1909.09656;
      automl/RobustDARTS
    """
    rule = _rule(every, window, lag, ratio, earliest, offset, epochs)

    def init(supernet, arch, **context):
        del supernet, arch, context
        return rule.begin()

    def epoch_end(state, *, diagnostics, epoch, **context):
        del context
        state, triggered = rule.look(state, diagnostics, epoch)
        if not triggered:
            return state, base.Action()
        return state, base.Action(stop=True, rollback_epochs=rule.way_back)

    return base.Regularizer(
        init=init,
        epoch_end=epoch_end,
        curvature_every=every,
        keeps_archs=rule.way_back,
    )


def eigenvalue_adaptive(
    *,
    weight_decay: float = 3e-4,
    factor: float = 10.0,
    most: float = 0.03,
    every: int = 2,
    window: int = 5,
    lag: int = 4,
    ratio: float = 1.3,
    earliest: int = 10,
    offset: float = 0.0,
    epochs: int | None = None,
) -> base.Regularizer:
    """Goes back and raises the weights' decay when the curvature rises.

    On a trigger of `eigenvalue_stop` the search goes back to its checkpoint of that
    epoch and on from there with the decay times ``factor``, as often as the decay stays
    below ``most``; then it runs to its end. What was measured after that epoch is
    forgotten.

    Args:
      weight_decay: coupled L2 of the weights at the start.
      factor: what it is multiplied by; 10 in the authors' script.
      most: no decay above this one; 0.03 there, that of the last raise is cut to it.
      every: as in `eigenvalue_stop`, and so on.
      window: likewise.
      lag: likewise.
      ratio: likewise.
      earliest: likewise.
      offset: likewise.
      epochs: likewise.

    Returns:
      The regularizer; its state is a `Curve`. The weights' optimizer needs the
      hyper-parameter ``weight_decay`` (`optimizers.coupled_sgd` has it).

    Raises:
      JnasError: an argument is out of range; ``epoch_end``: it gets no lambda_max.

    Example:
      >>> eigenvalue_adaptive().keeps_states  # twice 12 epochs
      24

    References:
      As `eigenvalue_stop`.
    """
    checks.number(weight_decay, "weight_decay", positive=True)
    checks.number(factor, "factor", positive=True)
    checks.number(most, "most", positive=True)
    if factor <= 1:
        raise JnasError(f"factor must be > 1, got {factor!r}: it raises the decay")
    rule = _rule(every, window, lag, ratio, earliest, offset, epochs)
    gone = rule.way_back // rule.every  # measurements since the epoch gone back to

    def init(supernet, arch, **context):
        del supernet, arch, context
        return rule.begin(more=gone)

    def decay_after(raises: int) -> float:
        return min(weight_decay * factor**raises, most)

    # The next trigger may come soon after going back, and then goes back further.
    most_raises = next(n for n in itertools.count() if decay_after(n) >= most)

    def epoch_end(state, *, diagnostics, epoch, **context):
        del context
        state, triggered = rule.look(state, diagnostics, epoch)
        raises = int(state.raised)
        if not triggered or decay_after(raises) >= most:
            return state, base.Action()
        kept = np.asarray(state.values)[:-gone]
        values = np.concatenate([np.full(gone, np.nan, np.float32), kept])
        state = Curve(jnp.asarray(values), jnp.asarray(raises + 1, jnp.int32))
        return state, base.Action(
            rollback_epochs=rule.way_back,
            hyperparams={"weight_decay": decay_after(raises + 1)},
        )

    return base.Regularizer(
        init=init,
        epoch_end=epoch_end,
        curvature_every=every,
        keeps_states=rule.way_back * most_raises,
    )
