"""The contract: from architecture parameters to a mixture."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jnas.mixture import Mixture

__all__ = ["Relaxation", "keep_updated"]


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
      sample: ``(arch, *, key, step, phase, **context) -> Mixture``; ``phase`` is
        "weights" or "arch". Drawn anew in each half-step; ``key`` is consumed.
      probabilities: ``(arch) -> Mixture``, the deterministic view used for selection,
        curvature and reports.
      after_update: ``(old_arch, new_arch, mixture) -> arch``.
    """

    init: Callable[..., Any]
    sample: Callable[..., Mixture]
    probabilities: Callable[[Any], Mixture]
    after_update: Callable[[Any, Any, Mixture], Any] = keep_updated
