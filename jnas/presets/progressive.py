"""Presets of methods that search in stages; `jnas.run.progressive` runs them."""

from typing import Unpack

from jnas import progressive, regularizers, relax, search, select
from jnas.errors import JnasError
from jnas.presets import base, figures
from jnas.progressive import Stage
from jnas.spaces import Space

__all__ = ["drnas_progressive", "p_darts"]

P_DARTS = figures.Published(
    epochs=25,
    steps_per_epoch=261,
    batch_size=96,
    final_rate=0.0,
    arch_learning_rate=6e-4,
    arch_clip=5.0,
    warm_up=10 / 25,
)
DRNAS = figures.Published(
    epochs=25,
    learning_rate=0.1,
    final_rate=0.0,
    arch_learning_rate=6e-4,
    warm_up=10 / 25,
)
_DEPTHS = (5, 11, 17)  # where a network of this framework's default has 8


def p_darts(
    space: Space,
    *,
    dropouts: tuple[float, ...] = (0.0, 0.4, 0.7),
    kept: tuple[int, ...] | None = None,
    skip_limit: int = 2,
    **common: Unpack[figures.Common],
) -> progressive.Progressive:
    """P-DARTS: three stages of deeper networks with fewer candidates.

    Each stage begins anew with networks of 5, 11 and 17 cells; what it takes over is
    which candidates are left on each edge: 8, then 5, then 3. Dropout behind skip
    connections, from the stage's rate on, falls within it
    (`regularizers.skip_dropout`); at the end the normal cell keeps at most two skip
    connections (`select.skip_limit`). In each stage: first-order DARTS, arch from epoch
    10 of 25 on (that share of any length); batch 96; SGD 0.025 to 0 per epoch, momentum
    0.9, L2 3e-4; arch by Adam 6e-4 (0.5, 0.999), L2 1e-3; both gradients clipped at 5.

    Deviations: where ``cells`` is not 8 the depths are scaled with it (a space like
    NAS-Bench-201's: ``cells_per_stage``), and where there are not 8 operations, the
    numbers of candidates. The authors' instructions begin with dropouts 0.1, 0.4, 0.7;
    the paper with 0, 0.4, 0.7, as here. They choose among the genotypes of several
    limits by hand.

    Headline (paper): 2.50 % error on CIFAR-10, 0.3 GPU days.

    Args:
      space: the space.
      dropouts: initial rate of each stage.
      kept: candidates of an edge from the second stage on; None: 5 and 3 of 8.
      skip_limit: skip connections that the (normal) cell may have.
      **common: see `Common`; epochs are those of each stage.

    Returns:
      The stages.

    Raises:
      JnasError: an option is unknown, out of range or does not fit the space.

    Example:
      >>> import jnas
      >>> plan = p_darts(jnas.spaces.darts())
      >>> [(stage.size["cells"], stage.keep) for stage in plan.stages]
      [(5, 5), (11, 3), (17, None)]

    References:
      Chen, Xie, Wu, Tian, Progressive Differentiable Architecture Search: Bridging the
      Depth Gap between Search and Evaluation, ICCV 2019,
      https://arxiv.org/abs/1904.12760; chenxin061/pdarts
    """
    plan = figures.plan("p_darts", P_DARTS, common)
    if kept is None:
        most = max(group.num_operations for group in space.groups)
        kept = tuple(max(2, round(most * n / 8)) for n in (5, 3))
    if len(dropouts) != len(_DEPTHS) or len(kept) != len(_DEPTHS) - 1:
        raise JnasError(
            f"p_darts has {len(_DEPTHS)} stages: expected as many dropouts and one "
            f"number of kept candidates less, got {dropouts} and {kept}"
        )
    stages = tuple(
        Stage(plan.epochs, _depth(space, plan, depth), keep, {"dropout": rate})
        for depth, keep, rate in zip(_DEPTHS, (*kept, None), dropouts, strict=True)
    )
    warm = round(P_DARTS.warm_up * plan.epochs)
    limited = space.names[0]  # the normal cell, or the only one

    def compose(number: int, part: Space) -> search.Search:
        stage = stages[number]
        rate = regularizers.decaying_rate(
            stage.options["dropout"],
            epochs=plan.epochs,
            steps_per_epoch=plan.steps_per_epoch,
            arch_from_epoch=warm,
        )
        selector = select.argmax()
        if number == len(stages) - 1:
            selector = select.skip_limit(skip_limit, limited, _nothing(part))
        return base.compose(
            _at(plan, stage),
            part,
            regularizer=regularizers.skip_dropout(rate),
            selector=selector,
            config={
                "hypergradient": "first_order",
                "stage": number + 1,
                "dropout": stage.options["dropout"],
                "skip_limit": skip_limit,
            },
        )

    return progressive.Progressive(
        space, stages, compose, config=_config(plan, skip_limit=skip_limit)
    )


def drnas_progressive(
    space: Space,
    *,
    partial_channels: tuple[int, int] | None = None,
    kept: int | None = None,
    **common: Unpack[figures.Common],
) -> progressive.Progressive:
    """DrNAS in its two stages: fewer candidates, then more channels through each.

    Composes `drnas`' parts with partial channels, 6 then 4 in DARTS' space (4 then 2
    elsewhere), and 7 candidates an edge, then 4 (of NAS-Bench-201's 5: 3). The second
    stage goes on with the weights, the momentum and the architecture of the first
    (`progressive.widen`). In each stage: arch from epoch 10 of 25 on (that share of any
    length), batch 64, SGD 0.1 to 0 per epoch, momentum 0.9, L2 3e-4, clip 5, arch by
    Adam 6e-4 (0.5, 0.999), L2 1e-3. The published network has 36 channels and 20 cells.

    The cosine of the learning rate runs through both stages, as the second goes on.
    Deviations: see `progressive.widen`. The authors search NAS-Bench-201 for 50 epochs
    a stage.

    Headline (paper): 2.46 +- 0.03 % error on CIFAR-10, 0.6 GPU days.

    Args:
      space: the space.
      partial_channels: K of the first and of the second stage.
      kept: candidates of an edge in the second stage.
      **common: see `Common`; epochs are those of each stage.

    Returns:
      The stages.

    Raises:
      JnasError: an option is unknown, out of range or does not fit the space.

    Example:
      >>> import jnas
      >>> plan = drnas_progressive(jnas.spaces.darts(), channels=36, cells=20)
      >>> [(stage.size["partial_channels"], stage.keep) for stage in plan.stages]
      [(6, 4), (4, None)]

    References:
      Chen, Wang, Cheng, Tang, Hsieh, DrNAS: Dirichlet Neural Architecture Search, ICLR
      2021, https://arxiv.org/abs/2006.10355; xiangning-chen/DrNAS
    """
    plan = figures.plan("drnas_progressive", DRNAS, common)
    darts_like = space.is_darts_like
    if partial_channels is None:
        partial_channels = (6, 4) if darts_like else (4, 2)
    if kept is None:
        kept = 4 if darts_like else 3
    first, second = partial_channels
    if second > first:
        raise JnasError(
            "partial_channels must not grow, as channels can only be added, got "
            f"{partial_channels}"
        )
    stages = tuple(
        Stage(plan.epochs, {**_depth(space, plan), "partial_channels": k}, keep)
        for k, keep in ((first, kept), (second, None))
    )

    options = {**plan.options, "epochs": len(stages) * plan.epochs}
    schedule = plan._replace(options=options).schedule()

    def compose(number: int, part: Space) -> search.Search:
        stage = stages[number]
        done = number * plan.epochs * plan.steps_per_epoch
        return base.compose(
            _at(plan, stage),
            part,
            relaxation=relax.dirichlet(),
            schedule=lambda step: schedule(step + done),
            partial_channels=stage.size["partial_channels"],
            config={"hypergradient": "first_order", "stage": number + 1},
        )

    return progressive.Progressive(
        base.without_never(space),
        stages,
        compose,
        carry=progressive.widen,
        config=_config(plan),
    )


def _nothing(space: Space) -> tuple[str, ...]:
    """What the last stage of P-DARTS drops first, if each edge has something else."""
    lists = [
        names
        for group in space.groups
        for names in group.candidates or [group.operations]
    ]
    spare = all(any(name != "none" for name in names) for names in lists)
    return ("none",) if spare and any("none" in names for names in lists) else ()


def _depth(space: Space, plan: figures.Plan, depth: int | None = None):
    """The size of a stage's network; a depth is for the default of 8 cells."""
    darts_like = space.is_darts_like
    name, least = ("cells", 3) if darts_like else ("cells_per_stage", 1)
    other = "cells_per_stage" if darts_like else "cells"
    if plan.options[other] is not None:
        raise JnasError(f"space {space.name!r} takes {name}=..., not {other}")
    number = plan.options[name] or (8 if darts_like else 5)
    if depth is not None:
        number = max(least, round(number * depth / 8))
    return {"channels": plan.options["channels"], name: number}


def _at(plan: figures.Plan, stage: Stage) -> figures.Plan:
    """The plan of one stage."""
    size = {k: v for k, v in stage.size.items() if k != "partial_channels"}
    return plan._replace(options={**plan.options, **size})


def _config(plan: figures.Plan, **more):
    return {
        "method": plan.method,
        "epochs": plan.epochs,
        "steps_per_epoch": plan.steps_per_epoch,
        "published_batch_size": plan.published.batch_size,
        "learning_rate": plan.options["learning_rate"],
        "arch_learning_rate": plan.options["arch_learning_rate"],
        **more,
    }
