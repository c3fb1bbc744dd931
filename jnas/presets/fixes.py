"""What the presets of fixes share: DARTS with one part changed, on any other parts."""

import dataclasses
from collections.abc import Callable
from typing import Any

from jnas import bilevel, relax, search
from jnas.errors import unknown_name
from jnas.presets import base, continuous, figures
from jnas.spaces import Space

__all__ = ["BENCHMARK_OF_DARTS", "Parts", "compose"]

# How the code of DARTS-PT and beta-DARTS, which comes from DARTS' own, searches
# NAS-Bench-201; as `changes` of its authors' figures.
BENCHMARK_OF_DARTS: dict[str, Any] = {
    "epochs": 100,
    "order": "arch_first",
    "nesterov": False,
    "weight_decay": 3e-4,
    "anneal": "epoch",
}


class Parts(figures.Common, total=False):
    """The options of these presets: those of `Common`, and the parts to protect.

    Attributes:
      relaxation: in place of the softmax.
      hypergradient: in place of the method's.
      order: 1, or 2 for the gradient through one virtual weight step.
      second_order: "exact" or "finite_difference", for order 2.
    """

    relaxation: relax.Relaxation | None
    hypergradient: bilevel.Hypergradient | None
    order: int
    second_order: str


def compose(
    method: str,
    space: Space,
    parts: Any,
    regularizer: Any = None,
    *,
    order: int = 1,
    changes: dict[str, Any] | None = None,
    schedule: Callable[[figures.Plan], Any] | None = None,
    config: dict[str, Any] | Callable[[figures.Plan], dict[str, Any]],
    **options: Any,
) -> search.Search:
    """DARTS on a space with a regularizer made of the plan.

    Args:
      method: the preset's name.
      space: the space.
      parts: what the caller gave, of `Parts`.
      regularizer: ``(plan) -> regularizer``, or None.
      order: of the hypergradient, by default.
      changes: of DARTS' figures on the space.
      schedule: ``(plan) -> schedule`` of the weights' learning rate, or None.
      config: what to record, or ``(plan) ->`` that.
      **options: of `base.compose`.

    Returns:
      The search.

    Raises:
      JnasError: an option is unknown, out of range or does not fit the space.
    """
    given: Any = dict(parts)
    for name in given:
        if name not in Parts.__annotations__:
            raise unknown_name(f"option of {method}", name, Parts.__annotations__)
    order = given.pop("order", order)
    second_order = given.pop("second_order", "exact")
    relaxation = given.pop("relaxation", None)
    hypergradient = given.pop("hypergradient", None)
    published = continuous.published_darts(space, order)
    published = dataclasses.replace(published, **(changes or {}))
    plan = figures.plan(method, published, given)
    name = "the caller's"
    rate = None if schedule is None else schedule(plan)
    if hypergradient is None:
        hypergradient, name = continuous.darts_hypergradient(
            plan, order, second_order, rate
        )
    return base.compose(
        plan,
        space,
        relaxation=relaxation,
        hypergradient=hypergradient,
        regularizer=None if regularizer is None else regularizer(plan),
        schedule=rate,
        config={
            "hypergradient": name,
            **(config(plan) if callable(config) else config),
        },
        **options,
    )
