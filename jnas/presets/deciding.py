"""Presets that decide edge by edge while they search: DARTS-PT and SGAS."""

from typing import Any, Unpack

import optax

from jnas import regularizers, search
from jnas.presets import base, figures, fixes
from jnas.regularizers.greedy_decisions import decisions_needed
from jnas.regularizers.projection import projections
from jnas.spaces import Space

__all__ = ["darts_pt", "sgas"]


def darts_pt(
    space: Space,
    *,
    learn_arch: bool = True,
    metric: str | None = None,
    sequential: bool = False,
    **parts: Unpack[fixes.Parts],
) -> search.Search:
    """DARTS-PT: DARTS, then edge by edge the operation whose removal hurts most.

    Composes `relax.softmax`, first-order gradients and `regularizers.projection` on the
    space without "none" (which NAS-Bench-201 keeps). The search proper is followed by
    tuning at a tenth of the learning rate, with a projection every 5 epochs (4 before
    the last one on NAS-Bench-201) and one epoch after the last: 50 + 81 epochs with
    DARTS' cells (14 edges and 3 nodes in each), 100 + 25 on NAS-Bench-201 (6 edges). A
    search of another length is divided alike. NAS-Bench-201 is searched with the
    optimizers of DARTS' own code (arch step first, no Nesterov, L2 3e-4, cosine per
    epoch), as there.

    Deviations: the momentum goes on from the search, where the authors' optimizer
    begins anew; removals are measured on full batches of the validation images as they
    are, there on augmented ones and the rest of the last batch, too; in RobustDARTS' S3
    "none" is no candidate, there it is one.

    Headline (paper): 2.61 +- 0.08 % error on CIFAR-10.

    Args:
      space: the space.
      learn_arch: False for the paper's variant with fixed alpha: arch stays as it
        begins, nearly uniform.
      metric: what removals are measured by; None: accuracy.
      sequential: as in `select.perturbation`.
      **parts: see `fixes.Parts`; ``epochs`` are those of search and tuning together.

    Returns:
      The search; ``search.supernet.space`` is the space it searches.

    Raises:
      JnasError: an option is unknown, out of range or does not fit the space.

    Example:
      >>> import jnas
      >>> search = darts_pt(jnas.spaces.nasbench201(), channels=4, cells_per_stage=1)
      >>> search.config["epochs"], search.config["search_epochs"]
      (125, 100)

    References:
      Wang, Cheng, Chen, Tang, Hsieh, Rethinking Architecture Selection in
      Differentiable NAS, ICLR 2021, https://arxiv.org/abs/2108.04392;
      ruocwang/darts-pt
    """
    space = base.without_never(space)
    if space.is_darts_like:
        searching, tuning, changes = 50, 5 * (projections(space) - 1) + 1, {}
    else:
        searching, tuning, changes = 100, 25, fixes.BENCHMARK_OF_DARTS
    whole = searching + tuning

    def first(plan: figures.Plan) -> int:
        return max(1, round(plan.epochs * searching / whole))

    def last(plan: figures.Plan) -> int:
        return max(first(plan), plan.epochs - 1)

    def project(plan):
        return regularizers.projection(
            first(plan), last(plan), metric=metric, sequential=sequential
        )

    def schedule(plan: figures.Plan) -> Any:
        shorter = plan._replace(options={**plan.options, "epochs": first(plan)})
        return optax.join_schedules(
            [
                shorter.schedule(),
                optax.constant_schedule(plan.options["learning_rate"] / 10),
            ],
            [first(plan) * plan.steps_per_epoch],
        )

    return fixes.compose(
        "darts_pt",
        space,
        parts,
        project,
        changes={**changes, "epochs": whole},
        schedule=schedule,
        learns_arch=learn_arch,
        config=lambda plan: {
            "search_epochs": first(plan),
            "last_projection": last(plan),
            "learn_arch": learn_arch,
            "metric": metric,
            "sequential": sequential,
        },
    )


def sgas(
    space: Space, *, criterion: int = 1, **parts: Unpack[fixes.Parts]
) -> search.Search:
    """SGAS: DARTS that decides its surest edge for good every few epochs.

    Composes `relax.softmax`, first-order gradients and
    `regularizers.greedy_decisions`: in each cell the first decision after 10 of 50
    epochs, the last 5 before the end, or as in a search of another length.

    Deviation: the authors enlarge the batch by 8 with each decision; here its size
    stays, for every other one is another program.

    Headline (authors' code): 2.66 +- 0.24 % (criterion 1), 2.67 +- 0.21 % (2) error on
    CIFAR-10, mean of the searches.

    Args:
      space: the space.
      criterion: 1, or 2 with the stability of the distribution.
      **parts: see `fixes.Parts`.

    Returns:
      The search.

    Raises:
      JnasError: an option is unknown, out of range or does not fit the space.

    Example:
      >>> import jnas
      >>> search = sgas(jnas.spaces.darts(), channels=4, cells=3)
      >>> search.config["first_decision"], search.config["last_decision"]
      (10, 45)

    References:
      Li, Qian, Delgadillo, Mueller, Thabet, Ghanem, SGAS: Sequential Greedy
      Architecture Search, CVPR 2020, https://arxiv.org/abs/1912.00195; lightaime/sgas
    """
    count = decisions_needed(space)

    def span(plan: figures.Plan) -> tuple[int, int]:
        first = max(1, round(plan.epochs / 5))
        interval = (plan.epochs - first) / count
        return first, max(first, round(plan.epochs - interval))

    def decide(plan):
        return regularizers.greedy_decisions(*span(plan), criterion=criterion)

    return fixes.compose(
        "sgas",
        space,
        parts,
        decide,
        config=lambda plan: {
            "criterion": criterion,
            "first_decision": span(plan)[0],
            "last_decision": span(plan)[1],
        },
    )
