"""What a run does when a loss is not finite: stop, skip such steps, or roll back.

``stop`` ends the run with the place and the last good checkpoint. ``skip`` keeps the
state of before such a step (its counter moves on), inside the compiled step, so nothing
has to be undone. ``rollback`` goes back to the last checkpoint and on with the data in
another order, a few times at most: the same order would meet the same batch again.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jnas.errors import JnasError
from jnas.run import metrics

__all__ = ["MOST_ROLLBACKS", "POLICIES", "SKIPPED", "NonFiniteError", "Skipping"]

POLICIES = ("stop", "skip", "rollback")
MOST_ROLLBACKS = 3
SKIPPED = "steps_skipped"


class NonFiniteError(JnasError):
    """A watched metric is not finite."""


class Skipping(NamedTuple):
    """A step that changes nothing where its outcome is not finite.

    A named tuple, so that two of the same step are equal and share their program.

    Attributes:
      step_fn: ``(state, train_batch, val_batch) -> (state, info)``.
      watch: metrics that must be finite.

    Example:
      >>> def step_fn(w, train_batch, val_batch):
      ...     return w / train_batch, {"train_loss": w / train_batch}
      >>> step = Skipping(step_fn, ("train_loss",))
      >>> state, info = step(jnp.float32(6), jnp.float32(0), None)
      >>> float(state), {name: float(value) for name, value in sorted(info.items())}
      (6.0, {'steps_skipped': 1.0, 'train_loss': 0.0})
    """

    step_fn: Callable[..., Any]
    watch: tuple[str, ...]

    def __call__(self, state: Any, train_batch: Any, val_batch: Any) -> Any:
        """One step; its ``info`` is flat, and 0 where it was skipped."""
        after, info = self.step_fn(state, train_batch, val_batch)
        info = metrics.flatten(info)
        good = jnp.asarray(True)
        for name in self.watch:
            if name in info:
                good &= jnp.all(jnp.isfinite(info[name]))
        # A gradient that overflows breaks the weights while the loss is still good.
        for old, new in zip(
            jax.tree.leaves(state), jax.tree.leaves(after), strict=True
        ):
            if jnp.issubdtype(jnp.result_type(new), jnp.inexact):
                good &= jnp.all(jnp.isfinite(new) | ~jnp.isfinite(old))
        kept = state
        if hasattr(state, "skipping"):
            kept = state.skipping(after)
        elif hasattr(state, "_replace") and hasattr(state, "step"):
            kept = state._replace(step=after.step)
        # What moves on anyway is not chosen: a counter that seeds share stays shared.
        after = jax.tree.map(
            lambda old, new: new if new is old else jnp.where(good, new, old),
            kept,
            after,
        )
        info = {n: jnp.where(good, x, jnp.zeros_like(x)) for n, x in info.items()}
        return after, {**info, SKIPPED: 1.0 - good.astype(jnp.float32)}
