"""Presets of DARTS with a fix against its collapse, by what they add to a step.

All are DARTS with the optimizers of the space's own authors (`darts`) and one plug-in
of `jnas.regularizers`, on any relaxation and hypergradient.
"""

from typing import Unpack

from jnas import regularizers, search
from jnas.presets import figures, fixes
from jnas.regularizers import checks
from jnas.spaces import Space

__all__ = ["beta_darts", "darts_minus", "darts_plus", "lambda_darts", "oles"]


def darts_minus(
    space: Space, *, skip_weight: float = 1.0, **parts: Unpack[fixes.Parts]
) -> search.Search:
    """DARTS-: a skip beside the candidates of each edge, whose weight falls to 0.

    Composes a supernet with auxiliary skips, `regularizers.auxiliary_skip` and
    first-order gradients. The weight falls linearly from epoch to epoch.

    Headline (paper): 2.59 +- 0.08 % error on CIFAR-10.

    Args:
      space: the space.
      skip_weight: beta in the first epoch.
      **parts: see `fixes.Parts`.

    Returns:
      The search.

    Raises:
      JnasError: an option is unknown, out of range or does not fit the space.

    Example:
      >>> import jnas
      >>> search = darts_minus(jnas.spaces.nasbench201(), channels=4, cells_per_stage=1)
      >>> search.supernet.config["auxiliary_skip"]
      True

    References:
      Chu, Wang, Zhang, Lu, Wei, Yan, DARTS-: Robustly Stepping out of Performance
      Collapse Without Indicators, ICLR 2021, https://arxiv.org/abs/2009.01027;
      Meituan-AutoML/DARTS-
    """
    checks.number(skip_weight, "skip_weight")

    def beside(plan):
        if not skip_weight:
            return regularizers.identity()
        return regularizers.auxiliary_skip(
            regularizers.falling_weight(
                skip_weight, epochs=plan.epochs, steps_per_epoch=plan.steps_per_epoch
            )
        )

    return fixes.compose(
        "darts_minus",
        space,
        parts,
        beside,
        auxiliary_skip=True,
        config={"skip_weight": skip_weight},
    )


def beta_darts(
    space: Space, *, strength: float | None = None, **parts: Unpack[fixes.Parts]
) -> search.Search:
    """beta-DARTS: the logits of each edge are pulled down, the largest most.

    Composes `relax.softmax`, first-order gradients and `regularizers.beta_decay`, whose
    strength rises linearly from 0 by half a unit an epoch, as in the authors' code: to
    50 in the 100 epochs on NAS-Bench-201, to 25 in 50 epochs elsewhere, or as far in a
    search of another length. On NAS-Bench-201 with the optimizers of DARTS' own code
    (arch step first, no Nesterov, L2 3e-4, cosine per epoch), as there.

    Headline (paper): 2.53 +- 0.08 % error on CIFAR-10.

    Args:
      space: the space.
      strength: what it would be after the last epoch; None: as above.
      **parts: see `fixes.Parts`.

    Returns:
      The search.

    Raises:
      JnasError: an option is unknown, out of range or does not fit the space.

    Example:
      >>> import jnas
      >>> search = beta_darts(jnas.spaces.nasbench201(), channels=4, cells_per_stage=1)
      >>> search.config["strength"], search.config["epochs"]
      (50.0, 100)

    References:
      Ye, Li, Li, Tang, Ouyang, beta-DARTS: Beta-Decay Regularization for Differentiable
      Architecture Search, CVPR 2022, https://arxiv.org/abs/2203.01665;
      Sunshine-Ye/Beta-DARTS
    """
    changes = {"epochs": 50} if space.is_darts_like else fixes.BENCHMARK_OF_DARTS
    strength = 0.5 * changes["epochs"] if strength is None else strength
    checks.number(strength, "strength")

    def decay(plan):
        if not strength:
            return regularizers.identity()
        return regularizers.beta_decay(
            regularizers.linear_strength(
                strength, epochs=plan.epochs, steps_per_epoch=plan.steps_per_epoch
            )
        )

    return fixes.compose(
        "beta_darts",
        space,
        parts,
        decay,
        changes=changes,
        config={"strength": strength},
    )


def lambda_darts(
    space: Space,
    *,
    strength: float = 0.125,
    method: str = "exact",
    epsilon: float = 1e-3,
    **parts: Unpack[fixes.Parts],
) -> search.Search:
    """Lambda-DARTS: the weights learn to make all cells ask for the same architecture.

    Composes `relax.softmax`, first-order gradients and `regularizers.layer_alignment`
    of the normal cells, whose strength rises linearly to its value in the last epoch.
    On NAS-Bench-201 100 epochs and an arch learning rate of 1e-4.

    Deviation: the derivative is exact; the authors' finite difference is
    ``method="finite_difference"``.

    Headline (paper): 2.66 +- 0.09 % error on CIFAR-10, mean of the searches.

    Args:
      space: the space.
      strength: lambda in the last epoch; 0.125 is the code's default, its scripts have
        0.25.
      method: "exact" or "finite_difference".
      epsilon: of "finite_difference".
      **parts: see `fixes.Parts`.

    Returns:
      The search.

    Raises:
      JnasError: an option is unknown, out of range or does not fit the space.

    Example:
      >>> import jnas
      >>> space = jnas.spaces.nasbench201()
      >>> search = lambda_darts(space, channels=4, cells_per_stage=1)
      >>> search.config["arch_learning_rate"]
      0.0001

    References:
      Movahedi, Adabinejad, Imani, Keshavarz, Dehghani, Shakery, Araabi, Lambda-DARTS:
      Mitigating Performance Collapse by Harmonizing Operation Selection Among Cells,
      ICLR 2023, https://arxiv.org/abs/2210.07998; dr-faustus/Lambda-DARTS
    """
    checks.number(strength, "strength")
    changes = {"epochs": 100, "arch_learning_rate": 1e-4}

    def align(plan):
        if not strength:
            return regularizers.identity()
        rising = regularizers.linear_strength(
            strength,
            epochs=max(plan.epochs - 1, 1),
            steps_per_epoch=plan.steps_per_epoch,
        )
        return regularizers.layer_alignment(rising, method=method, epsilon=epsilon)

    return fixes.compose(
        "lambda_darts",
        space,
        parts,
        align,
        changes={} if space.is_darts_like else changes,
        config={"strength": strength, "method_of_alignment": method},
    )


def oles(
    space: Space,
    *,
    threshold: float = 0.4,
    every: int = 20,
    **parts: Unpack[fixes.Parts],
) -> search.Search:
    """OLES: operations whose gradients on both halves disagree are trained no further.

    Composes `relax.softmax`, first-order gradients and
    `regularizers.operation_early_stop`.

    Headline: 2.41 +- 0.11 % error on CIFAR-10, as the paper is quoted.

    Args:
      space: the space.
      threshold: mean cosine below which an operation is frozen.
      every: steps that are averaged.
      **parts: see `fixes.Parts`.

    Returns:
      The search.

    Raises:
      JnasError: an option is unknown, out of range or does not fit the space.

    Example:
      >>> import jnas
      >>> search = oles(jnas.spaces.nasbench201(), channels=4, cells_per_stage=1)
      >>> search.config["threshold"]
      0.4

    References:
      Jiang, Ji, Zhu, Pan, Yang, Operation-Level Early Stopping for Robustifying
      Differentiable NAS, NeurIPS 2023, https://arxiv.org/abs/2312.06768; as written in
      automl/ConfigurableOptimizer
    """

    def freeze(plan):
        del plan
        return regularizers.operation_early_stop(threshold, every)

    return fixes.compose(
        "oles", space, parts, freeze, config={"threshold": threshold, "every": every}
    )


def darts_plus(
    space: Space,
    *,
    limit: int | None = 2,
    stable: int | None = None,
    earliest: int | None = None,
    **parts: Unpack[fixes.Parts],
) -> search.Search:
    """DARTS+: DARTS that ends when the derived normal cell has two skip connections.

    Composes `relax.softmax`, first-order gradients and `regularizers.skip_stop`; the
    result is the architecture of the epoch before.

    Deviation: the first fifth of the epochs never stops. Arch begins at random, and a
    cell of NAS-Bench-201 has two skips by chance in a third of the cases.

    Headline: 2.50 +- 0.11 % error on CIFAR-10, as the paper is quoted.

    Args:
      space: the space.
      limit: skips that stop, or None.
      stable: epochs without a change of ranking that stop, 10 in the paper's other
        rule, or None.
      earliest: the first epoch that may stop; 1 is the published rule.
      **parts: see `fixes.Parts`.

    Returns:
      The search.

    Raises:
      JnasError: an option is unknown, out of range or does not fit the space.

    Example:
      >>> import jnas
      >>> search = darts_plus(jnas.spaces.nasbench201(), channels=4, cells_per_stage=1)
      >>> search.config["limit"], search.config["earliest"]
      (2, 10)

    References:
      Liang, Zhang, Sun, He, Huang, Zhuang, Li, DARTS+: Improved Differentiable
      Architecture Search with Early Stopping, 2019, https://arxiv.org/abs/1909.06035
    """

    def first(plan: figures.Plan) -> int:
        return max(1, plan.epochs // 5) if earliest is None else earliest

    def stop(plan):
        return regularizers.skip_stop(limit, stable=stable, earliest=first(plan))

    return fixes.compose(
        "darts_plus",
        space,
        parts,
        stop,
        config=lambda plan: {
            "limit": limit,
            "stable": stable,
            "earliest": first(plan),
        },
    )
