"""A progressive search as data: its stages, and how each becomes a search.

`jnas.run.progressive` runs one; `presets.p_darts` and `presets.drnas_progressive` make
some.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jnas import search as searches
from jnas.errors import JnasError
from jnas.mixture import Mixture
from jnas.progressive import pruning
from jnas.spaces import Space

__all__ = ["Progressive", "Stage"]


@dataclasses.dataclass(frozen=True)
class Stage:
    """One search among the stages.

    Attributes:
      epochs: its length.
      size: the options of `supernet.build` that set its network's size, such as
        ``{"cells": 5, "channels": 16, "partial_channels": 4}``.
      keep: how many candidates each edge keeps after it; None for all, as after the
        last stage.
      options: what else the method needs to know of it, of JSON's types.

    Raises:
      JnasError: a number is out of range.

    Example:
      >>> Stage(25, {"cells": 5}, keep=5, options={"dropout": 0.4}).epochs
      25
    """

    epochs: int
    size: Mapping[str, int]
    keep: int | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        for name, value in (("epochs", self.epochs), ("keep", self.keep)):
            if name == "keep" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise JnasError(
                    f"{name} of a stage must be a whole number >= 1, got {value!r}"
                )


class Progressive(NamedTuple):
    """A search in stages.

    Attributes:
      space: what the first stage searches; genotypes are of this space.
      stages: in their order.
      compose: ``(number, space) -> Search`` of the stage with that number, from 0.
      prune: ``(space, mixture, keep) -> Candidates``, what is left after a stage, of
        the deterministic view of its last architecture.
      carry: ``(search before, state before, search after) -> start``, what a stage
        takes over from the one before; ``start`` is a `jax.tree_util.Partial` of
        ``(key, initial state) -> state``. None begins each stage anew.
      config: names and hyper-parameters, for the record.

    Example:
      >>> import jnas
      >>> plan = jnas.presets.p_darts(jnas.spaces.darts())
      >>> [stage.size["cells"] for stage in plan.stages]
      [5, 11, 17]
    """

    space: Space
    stages: tuple[Stage, ...]
    compose: Callable[[int, Space], searches.Search]
    prune: Callable[[Space, Mixture, int], pruning.Candidates] = pruning.strongest
    carry: Callable[..., Any] | None = None
    config: dict[str, Any] | None = None
