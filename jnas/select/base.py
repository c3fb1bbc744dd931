"""The contract: from arch to a genotype."""

from collections.abc import Callable
from typing import NamedTuple

from jnas.spaces import Genotype

__all__ = ["Selector"]


class Selector(NamedTuple):
    """How a candidate is read off the architecture parameters.

    Attributes:
      select: ``(arch, mixture, *, space, evaluate=None, key=None, **context) ->
        Genotype``, on the host; ``mixture`` is the relaxation's deterministic view,
        ``evaluate(mixture) -> {"loss", "accuracy", ...}`` looks at validation data.
      needs_evaluation: whether it can't do without ``evaluate``.
    """

    select: Callable[..., Genotype]
    needs_evaluation: bool = False
