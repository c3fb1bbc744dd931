"""How presets are composed: a plan's figures, a space and the method's own parts."""

from collections.abc import Callable
from typing import Any

import optax

from jnas import bilevel, optimizers, regularizers, relax, search, select, supernet
from jnas.presets.figures import Plan
from jnas.spaces import Space

__all__ = ["compose", "without_never"]


def compose(
    plan: Plan,
    space: Space,
    *,
    relaxation: relax.Relaxation | None = None,
    hypergradient: bilevel.Hypergradient | None = None,
    regularizer: regularizers.Regularizer | None = None,
    selector: select.Selector | None = None,
    task: supernet.Task | None = None,
    schedule: Callable[[Any], Any] | None = None,
    decayed: Callable[[Any], Any] | None = None,
    partial_channels: int = 1,
    auxiliary_skip: bool = False,
    learns_arch: bool = True,
    arch_every: int = 1,
    inactive: str = "freeze",
    config: dict[str, Any] | None = None,
) -> search.Search:
    """Builds the supernet and the search of a plan.

    Args:
      plan: figures and options.
      space: what is searched.
      relaxation: as for `search.differentiable`.
      hypergradient: likewise.
      regularizer: the method's own; the caller's is chained behind.
      selector: likewise.
      task: likewise.
      schedule: of the weights' learning rate; default: the plan's.
      decayed: ``weights -> tree of booleans``, which of them L2 acts on; None for all.
      partial_channels: of the supernet.
      auxiliary_skip: whether the supernet has auxiliary skips.
      learns_arch: whether arch is ever updated.
      arch_every: as for `search.differentiable`.
      inactive: likewise.
      config: what else to record.

    Returns:
      The search.

    Raises:
      JnasError: an option does not fit the space.

    Example:
      >>> import jnas
      >>> from jnas.presets.figures import Published, plan
      >>> half = plan("mine", Published(warm_up=0.5), {"epochs": 4, "channels": 4})
      >>> search = compose(half, jnas.spaces.darts())
      >>> search.arch_from == 2 * 391
      True
    """
    published, options = plan.published, plan.options
    net = supernet.build(
        space,
        channels=options["channels"],
        cells=options["cells"],
        cells_per_stage=options["cells_per_stage"],
        num_classes=options["num_classes"],
        partial_channels=partial_channels,
        auxiliary_skip=auxiliary_skip,
        dtype=options["dtype"],
    )
    added = regularizer or options["regularizer"]
    if regularizer is not None and options["regularizer"] is not None:
        added = regularizers.chain(regularizer, options["regularizer"])
    arch_from = round(published.warm_up * plan.epochs) * plan.steps_per_epoch
    arch_tx = optimizers.coupled_adam(
        options["arch_learning_rate"],
        b1=published.arch_b1,
        weight_decay=published.arch_weight_decay,
    )
    if published.arch_clip is not None:
        clip = optimizers.clip_by_global_norm(published.arch_clip)
        arch_tx = optax.chain(clip, arch_tx)
    return search.differentiable(
        net,
        relaxation=relaxation,
        hypergradient=hypergradient,
        regularizer=added,
        selector=selector,
        task=task,
        weight_tx=optimizers.coupled_sgd(
            schedule or plan.schedule(),
            weight_decay=published.weight_decay,
            nesterov=published.nesterov,
            clip=published.clip,
            decayed=decayed,
        ),
        arch_tx=arch_tx,
        order=published.order,
        inactive=inactive,
        arch_from=arch_from if learns_arch else plan.steps,
        arch_every=arch_every,
        recent=10,
        recent_every=plan.steps_per_epoch,
        config={
            "method": plan.method,
            "epochs": plan.epochs,
            "steps_per_epoch": plan.steps_per_epoch,
            "published_batch_size": published.batch_size,
            "learning_rate": options["learning_rate"],
            "arch_learning_rate": options["arch_learning_rate"],
            **(config or {}),
        },
    )


def without_never(space: Space) -> Space:
    """The space without the candidates that it never selects ("none" of DARTS).

    Args:
      space: the space.

    Returns:
      The same space, if there are none.

    Example:
      >>> import jnas
      >>> [len(g.operations) for g in without_never(jnas.spaces.darts()).groups]
      [7, 7]
    """
    if not space.never:
        return space
    return space.restrict(
        {
            group.name: [
                [name for name in names if name not in space.never]
                for names in group.candidates or [group.operations] * group.num_edges
            ]
            for group in space.groups
        }
    )
