"""The contract: from architecture parameters to a mixture; and what many share."""

import math
import numbers
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnas.errors import JnasError
from jnas.mixture import Mixture
from jnas.spaces import Space

__all__ = [
    "NEVER",
    "Relaxation",
    "allowed",
    "by_group",
    "check_scale",
    "gumbel",
    "is_number",
    "keep_updated",
    "log_probabilities",
    "normal_logits",
    "over_logits",
    "path_mixture",
    "probabilities",
    "softmax_mixture",
    "temperature_at",
]

# The logit of what can't be chosen: finite, so that no gradient is NaN, and far below
# every other, so that its probability is exactly 0.
NEVER = -1e30

Temperature = float | Callable[[jax.Array], jax.Array]


def keep_updated(old_arch: Any, new_arch: Any, mixture: Mixture) -> Any:
    """The default ``after_update``: the optimizer's result, unchanged.

    Args:
      old_arch: before the update.
      new_arch: after it.
      mixture: the sample that the update was computed on.

    Returns:
      ``new_arch``.
    """
    del old_arch, mixture
    return new_arch


class Relaxation(NamedTuple):
    """How arch becomes a mixture; all functions are pure.

    Attributes:
      init: ``(key, space) -> arch``, any pytree.
      sample: ``(arch, *, key, step, phase, space, **context) -> Mixture``; ``phase`` is
        "weights" or "arch". Drawn anew in each half-step; ``key`` is consumed.
      probabilities: ``(arch, *, space=None, **context) -> Mixture``, the deterministic
        view used for selection, curvature and reports.
      after_update: ``(old_arch, new_arch, mixture) -> arch``.

    Both get the space, for which edges end where and which candidates each can choose;
    a relaxation that needs neither takes None.
    """

    init: Callable[..., Any]
    sample: Callable[..., Mixture]
    probabilities: Callable[..., Mixture]
    after_update: Callable[[Any, Any, Mixture], Any] = keep_updated


def allowed(space: Space | None, group: str) -> np.ndarray | None:
    """What each edge of a group can choose.

    Args:
      space: the space, or None if it is not known.
      group: the group's name.

    Returns:
      Booleans ``[E, O]``, or None if every edge can choose everything.

    Example:
      >>> import jnas
      >>> allowed(jnas.spaces.nasbench201(), "cell") is None
      True
    """
    if space is None or space.group(group).candidates is None:
        return None
    return space.group(group).allowed


def log_probabilities(logits: jax.Array, mask: np.ndarray | None = None) -> jax.Array:
    """``log_softmax`` over what is allowed.

    Args:
      logits: ``[E, O]``.
      mask: booleans ``[E, O]``, or None.

    Returns:
      Finite ``[E, O]``; about `NEVER` where not allowed.

    Example:
      >>> log_p = log_probabilities(jnp.zeros((1, 2)), np.array([[True, False]]))
      >>> float(log_p[0, 0]), bool(log_p[0, 1] <= NEVER / 2)
      (0.0, True)
    """
    if mask is None:
        return jax.nn.log_softmax(logits)
    return jax.nn.log_softmax(jnp.where(mask, logits, NEVER))


def probabilities(logits: jax.Array, mask: np.ndarray | None = None) -> jax.Array:
    """Softmax over what is allowed, exactly 0 elsewhere.

    Args:
      logits: ``[E, O]``.
      mask: booleans ``[E, O]``, or None.

    Returns:
      ``[E, O]``, rows of sum 1.

    Example:
      >>> probabilities(jnp.zeros((1, 2)), np.array([[True, False]])).tolist()
      [[1.0, 0.0]]
    """
    if mask is None:
        return jax.nn.softmax(logits)
    return jax.nn.softmax(jnp.where(mask, logits, NEVER))


def normal_logits(
    key: jax.Array, space: Space, scale: float, mean: float = 0.0
) -> dict[str, jax.Array]:
    """Initial logits: ``mean + scale * N(0, 1)``, independent.

    Args:
      key: typed PRNG key.
      space: the space.
      scale: standard deviation.
      mean: of all.

    Returns:
      ``{group: [E, O]}``, float32 (float64 under x64).

    Example:
      >>> import jnas
      >>> space = jnas.spaces.nasbench201()
      >>> normal_logits(jax.random.key(0), space, 1e-3)["cell"].shape
      (6, 5)
    """
    keys = jax.random.split(key, len(space.groups))
    return {
        group.name: mean
        + scale * jax.random.normal(k, (group.num_edges, group.num_operations))
        for k, group in zip(keys, space.groups, strict=True)
    }


def softmax_mixture(
    arch: dict[str, jax.Array], space: Space | None, temperature: float = 1.0
) -> Mixture:
    """The softmax of each edge's logits, over what it can choose.

    Args:
      arch: ``{group: [E, O]}``.
      space: the space, or None if every edge can choose everything.
      temperature: what the logits are divided by.

    Returns:
      The mixture.

    Example:
      >>> softmax_mixture({"a": jnp.zeros((1, 2))}, None).weights["a"].tolist()
      [[0.5, 0.5]]
    """
    return Mixture(
        {
            name: probabilities(logits / temperature, allowed(space, name))
            for name, logits in arch.items()
        }
    )


def over_logits(
    sample: Callable[..., Mixture],
    init_scale: float,
    init_mean: float = 0.0,
    *,
    temperature: float = 1.0,
    check: Callable[[Space], None] | None = None,
    after_update: Callable[[Any, Any, Mixture], Any] = keep_updated,
) -> Relaxation:
    """A relaxation of logits whose deterministic view is their softmax.

    Args:
      sample: of the relaxation.
      init_scale: standard deviation of the initial logits.
      init_mean: their mean.
      temperature: of the deterministic view.
      check: raises for a space that it is not for.
      after_update: of the relaxation.

    Returns:
      The relaxation; arch is ``{group: [E, O]}``.

    Example:
      >>> import jnas
      >>> space = jnas.spaces.nasbench201()
      >>> relaxation = over_logits(lambda arch, **context: None, 1e-3)
      >>> relaxation.init(jax.random.key(0), space)["cell"].shape
      (6, 5)
    """

    def init(key: jax.Array, space: Space):
        if check is not None:
            check(space)
        return normal_logits(key, space, init_scale, init_mean)

    def view(arch, *, space=None, **context):
        del context
        return softmax_mixture(arch, space, temperature)

    return Relaxation(init, sample, view, after_update)


def check_scale(init_scale: float) -> None:
    """Raises unless a standard deviation is a finite number, not negative.

    Args:
      init_scale: the standard deviation.

    Raises:
      JnasError: if it is not.

    Example:
      >>> check_scale(0.0)
    """
    if not (is_number(init_scale) and init_scale >= 0):
        raise JnasError(f"init_scale must be a number >= 0, got {init_scale!r}")


def check_temperature(temperature: Temperature, schedule: bool = False) -> None:
    """Raises unless a temperature is positive or, where it may, a schedule.

    Args:
      temperature: a number, or a function of the step.
      schedule: whether it may be a function.

    Raises:
      JnasError: if it is neither.

    Example:
      >>> check_temperature(1.0)
    """
    if schedule and callable(temperature):
        return
    value: Any = temperature
    if not (is_number(value) and value > 0):
        raise JnasError(
            f"temperature must be a positive number"
            f"{' or a function of the step' if schedule else ''}, got {temperature!r}"
        )


def is_number(value: Any) -> bool:
    """Whether a value is a finite real number.

    Args:
      value: anything.

    Returns:
      Whether it is; a boolean is none.

    Example:
      >>> is_number(0.5), is_number("0.5"), is_number(math.nan)
      (True, False, False)
    """
    known = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return known and math.isfinite(value)


def temperature_at(temperature: Temperature, step: Any) -> Any:
    """The temperature at a step.

    Args:
      temperature: a number, or a function of the step.
      step: the number of finished weight steps.

    Returns:
      A number or a scalar array.

    Example:
      >>> float(temperature_at(lambda step: 10.0 - step, 3))
      7.0
    """
    if not callable(temperature):
        return temperature
    # Never of more precision than arch, which would turn the mixture into float64.
    return jnp.asarray(temperature(step), jnp.float32)


def gumbel(key: jax.Array, like: jax.Array) -> jax.Array:
    """Standard Gumbel noise of an array's shape and dtype (always finite).

    Args:
      key: typed PRNG key.
      like: any shape.

    Returns:
      The noise.

    Example:
      >>> gumbel(jax.random.key(0), jnp.zeros((2, 3))).shape
      (2, 3)
    """
    return jax.random.gumbel(key, like.shape, like.dtype)


def by_group(
    function: Callable[..., Any], key: jax.Array, logits: dict[str, jax.Array]
) -> dict[str, Any]:
    """Applies ``function(key, name, logits)`` to each group with a key of its own.

    Args:
      function: what to apply.
      key: typed PRNG key, consumed.
      logits: ``{group: [E, O]}``.

    Returns:
      ``{group: result}``.

    Example:
      >>> by_group(lambda key, name, x: x.shape, jax.random.key(0), {"a": jnp.ones(2)})
      {'a': (2,)}
    """
    keys = jax.random.split(key, len(logits))
    return {
        name: function(k, name, x)
        for k, (name, x) in zip(keys, logits.items(), strict=True)
    }


def path_mixture(
    samples: dict[str, tuple[jax.Array, jax.Array]], **fields: Any
) -> Mixture:
    """The mixture of ``{group: (weights [E, O], active [E, A])}``.

    Args:
      samples: by group.
      **fields: further fields of the mixture.

    Returns:
      The mixture.

    Example:
      >>> path_mixture({"a": (jnp.ones((1, 2)), jnp.zeros((1, 1), int))}).active["a"]
      Array([[0]], dtype=int32)
    """
    return Mixture(
        {name: weights for name, (weights, _) in samples.items()},
        active={
            name: active.astype(jnp.int32) for name, (_, active) in samples.items()
        },
        **fields,
    )
