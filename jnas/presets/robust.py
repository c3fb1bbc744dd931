"""Presets of DARTS with a fix against its collapse, by RobustDARTS and SmoothDARTS.

All are DARTS with the optimizers of the space's own authors (`darts`) and one plug-in
of `jnas.regularizers`, on any relaxation and hypergradient.
"""

from typing import Any, Unpack

from jnas import regularizers, search
from jnas.errors import JnasError
from jnas.presets import figures, fixes
from jnas.regularizers import checks
from jnas.spaces import Space

__all__ = [
    "DROP_PATHS",
    "WEIGHT_DECAYS",
    "darts_ada",
    "darts_es",
    "hessian_darts",
    "r_darts_dp",
    "r_darts_l2",
    "sdarts_adv",
    "sdarts_rs",
]

# R-DARTS' grids; the best network on validation data is the result.
WEIGHT_DECAYS = (3e-4, 9e-4, 27e-4, 81e-4)
DROP_PATHS = (0.0, 0.2, 0.4, 0.6)


def sdarts_rs(
    space: Space,
    *,
    radius: float = 0.3,
    start_radius: float = 0.03,
    **parts: Unpack[fixes.Parts],
) -> search.Search:
    """SDARTS-RS: DARTS whose weights are trained at randomly perturbed mixtures.

    Composes `relax.softmax`, first-order gradients and `regularizers.random_smoothing`
    with the authors' radius, which grows linearly by epoch. On NAS-Bench-201 DARTS'
    figures there.

    Deviations: the authors' space s5 has no "none" (`spaces.get("darts").restrict`);
    their NAS-Bench-201 code clips weights and arch together.

    Headline (paper): 2.67 +- 0.03 % error on CIFAR-10.

    Args:
      space: the space.
      radius: epsilon that would be reached after the last epoch.
      start_radius: epsilon of the first epoch.
      **parts: see `fixes.Parts`.

    Returns:
      The search.

    Raises:
      JnasError: an option is unknown, out of range or does not fit the space.

    Example:
      >>> import jnas
      >>> search = sdarts_rs(jnas.spaces.nasbench201(), channels=4, cells_per_stage=1)
      >>> search.config["radius"]
      0.3

    References:
      Chen, Hsieh, Stabilizing Differentiable Architecture Search via Perturbation-based
      Regularization, ICML 2020, https://arxiv.org/abs/2002.05283;
      xiangning-chen/SmoothDARTS
    """

    def smooth(plan):
        return regularizers.random_smoothing(_radius(plan, start_radius, radius))

    return fixes.compose(
        "sdarts_rs",
        space,
        parts,
        smooth,
        config={"radius": radius, "start_radius": start_radius},
    )


def sdarts_adv(
    space: Space,
    *,
    radius: float = 0.3,
    start_radius: float = 0.03,
    steps: int = 7,
    **parts: Unpack[fixes.Parts],
) -> search.Search:
    """SDARTS-ADV: DARTS whose weights are trained at adversarially perturbed mixtures.

    Composes `relax.softmax`, first-order gradients and
    `regularizers.adversarial_smoothing`: 7 steps of signed gradient ascent with the
    running statistics, in a radius that grows linearly by epoch.

    Deviations: as of `sdarts_rs`.

    Headline (paper): 2.61 +- 0.02 % error on CIFAR-10.

    Args:
      space: the space.
      radius: epsilon that would be reached after the last epoch.
      start_radius: epsilon of the first epoch.
      steps: of the attack.
      **parts: see `fixes.Parts`.

    Returns:
      The search.

    Raises:
      JnasError: an option is unknown, out of range or does not fit the space.

    Example:
      >>> import jnas
      >>> search = sdarts_adv(jnas.spaces.nasbench201(), channels=4, cells_per_stage=1)
      >>> search.config["attack_steps"]
      7

    References:
      Chen, Hsieh, Stabilizing Differentiable Architecture Search via Perturbation-based
      Regularization, ICML 2020, https://arxiv.org/abs/2002.05283;
      xiangning-chen/SmoothDARTS
    """

    def smooth(plan):
        return regularizers.adversarial_smoothing(
            _radius(plan, start_radius, radius), steps=steps
        )

    return fixes.compose(
        "sdarts_adv",
        space,
        parts,
        smooth,
        config={
            "radius": radius,
            "start_radius": start_radius,
            "attack_steps": steps,
        },
    )


def r_darts_l2(
    space: Space, *, weight_decay: float = 81e-4, **parts: Unpack[fixes.Parts]
) -> search.Search:
    """R-DARTS (L2): second-order DARTS with more weight decay.

    One search of the grid `WEIGHT_DECAYS`, all of which `jnas.run.grid` runs: it
    retrains what each found and chooses by validation, as the authors do.

    Headline (paper, over the grid): 2.95 +- 0.21 % error on CIFAR-10.

    Args:
      space: the space.
      weight_decay: coupled L2 of the weights; 3e-4 is DARTS'.
      **parts: see `fixes.Parts`; order 2 by default.

    Returns:
      The search.

    Raises:
      JnasError: an option is unknown, out of range or does not fit the space.

    Example:
      >>> import jnas
      >>> search = r_darts_l2(jnas.spaces.nasbench201(), channels=4, cells_per_stage=1)
      >>> search.config["weight_decay"]
      0.0081

    References:
      Zela, Elsken, Saikia, Marrakchi, Brox, Hutter, Understanding and Robustifying
      Differentiable Architecture Search, ICLR 2020, https://arxiv.org/abs/1909.09656;
      automl/RobustDARTS
    """
    checks.number(weight_decay, "weight_decay")
    return fixes.compose(
        "r_darts_l2",
        space,
        parts,
        order=2,
        changes={"weight_decay": weight_decay},
        config={"weight_decay": weight_decay},
    )


def r_darts_dp(
    space: Space, *, drop_path: float = 0.6, **parts: Unpack[fixes.Parts]
) -> search.Search:
    """R-DARTS (DP): second-order DARTS with drop path in the search.

    One search of the grid `DROP_PATHS`, all of which `jnas.run.grid` runs: it retrains
    what each found and chooses by validation, as the authors do. The rate rises
    linearly from 0 in the first to ``drop_path`` in the last epoch, and acts on whole
    mixed edges.

    Deviation: the authors' code switches cutout on with drop path; augmentation belongs
    to the data here.

    Headline: the paper's table is of the spaces S1 to S4.

    Args:
      space: the space.
      drop_path: rate in the last epoch.
      **parts: see `fixes.Parts`; order 2 by default.

    Returns:
      The search.

    Raises:
      JnasError: an option is unknown, out of range or does not fit the space.

    Example:
      >>> import jnas
      >>> search = r_darts_dp(jnas.spaces.nasbench201(), channels=4, cells_per_stage=1)
      >>> search.config["drop_path"]
      0.6

    References:
      Zela, Elsken, Saikia, Marrakchi, Brox, Hutter, Understanding and Robustifying
      Differentiable Architecture Search, ICLR 2020, https://arxiv.org/abs/1909.09656;
      automl/RobustDARTS
    """
    checks.rate(drop_path)

    def drop(plan):
        if not drop_path:
            return regularizers.identity()
        rate = regularizers.linear_rate(
            drop_path,
            epochs=max(plan.epochs - 1, 1),
            steps_per_epoch=plan.steps_per_epoch,
        )
        return regularizers.drop_path(rate)

    return fixes.compose(
        "r_darts_dp", space, parts, drop, order=2, config={"drop_path": drop_path}
    )


def darts_es(
    space: Space, *, ratio: float = 1.3, every: int = 2, **parts: Unpack[fixes.Parts]
) -> search.Search:
    """DARTS-ES: second-order DARTS that stops where the curvature rises.

    Composes `regularizers.eigenvalue_stop` with the authors' figures: lambda_max after
    every second epoch, averages of 5, lag of 4, the architecture of 12 epochs before.

    Headline: the paper's table is of the spaces S1 to S4.

    Args:
      space: the space.
      ratio: of the averages, above which it stops.
      every: epochs from measurement to measurement.
      **parts: see `fixes.Parts`; order 2 by default.

    Returns:
      The search.

    Raises:
      JnasError: an option is unknown, out of range or does not fit the space.

    Example:
      >>> import jnas
      >>> search = darts_es(jnas.spaces.nasbench201(), channels=4, cells_per_stage=1)
      >>> search.regularizer.keeps_archs
      12

    References:
      Zela, Elsken, Saikia, Marrakchi, Brox, Hutter, Understanding and Robustifying
      Differentiable Architecture Search, ICLR 2020, https://arxiv.org/abs/1909.09656;
      automl/RobustDARTS
    """

    def stop(plan):
        return regularizers.eigenvalue_stop(
            every=every,
            ratio=ratio,
            offset=plan.published.arch_weight_decay,
            epochs=plan.epochs,
        )

    return fixes.compose(
        "darts_es", space, parts, stop, order=2, config={"ratio": ratio, "every": every}
    )


def darts_ada(
    space: Space,
    *,
    ratio: float = 1.3,
    every: int = 2,
    factor: float = 10.0,
    most: float = 0.03,
    **parts: Unpack[fixes.Parts],
) -> search.Search:
    """DARTS-ADA: second-order DARTS that goes back and decays more as curvature rises.

    Composes `regularizers.eigenvalue_adaptive` with the authors' figures. It needs a
    workdir, for it goes back to checkpoints.

    Deviation: the momentum is that of the checkpoint; the authors' optimizer begins
    anew.

    Headline: the paper's table is of the spaces S1 to S4.

    Args:
      space: the space.
      ratio: of the averages, above which it goes back.
      every: epochs from measurement to measurement.
      factor: what the weight decay is multiplied by.
      most: no decay above this.
      **parts: see `fixes.Parts`; order 2 by default.

    Returns:
      The search.

    Raises:
      JnasError: an option is unknown, out of range or does not fit the space.

    Example:
      >>> import jnas
      >>> search = darts_ada(jnas.spaces.nasbench201(), channels=4, cells_per_stage=1)
      >>> search.regularizer.keeps_states  # 12 epochs back, twice
      24

    References:
      Zela, Elsken, Saikia, Marrakchi, Brox, Hutter, Understanding and Robustifying
      Differentiable Architecture Search, ICLR 2020, https://arxiv.org/abs/1909.09656;
      automl/RobustDARTS
    """

    def adapt(plan):
        return regularizers.eigenvalue_adaptive(
            weight_decay=plan.published.weight_decay,
            factor=factor,
            most=most,
            every=every,
            ratio=ratio,
            offset=plan.published.arch_weight_decay,
            epochs=plan.epochs,
        )

    return fixes.compose(
        "darts_ada",
        space,
        parts,
        adapt,
        order=2,
        config={"ratio": ratio, "every": every, "factor": factor, "most": most},
    )


def hessian_darts(
    space: Space,
    *,
    kind: str = "spectral",
    strength: float = 1.0,
    products: int = 8,
    **parts: Unpack[fixes.Parts],
) -> search.Search:
    """Hessian-regularised DARTS: a penalty on the curvature itself.

    Composes `relax.softmax`, first-order gradients and `regularizers.hessian_norm`. A
    method of this package, in the sense of Zela et al., who control the same curvature
    by other means; so there is no published figure.

    Headline: none published.

    Args:
      space: the space.
      kind: "spectral", "frobenius" or "trace".
      strength: of the penalty.
      products: Lanczos steps of "spectral".
      **parts: see `fixes.Parts`.

    Returns:
      The search.

    Raises:
      JnasError: an option is unknown, out of range or does not fit the space.

    Example:
      >>> import jnas
      >>> space = jnas.spaces.nasbench201()
      >>> search = hessian_darts(space, channels=4, cells_per_stage=1)
      >>> search.config["kind"]
      'spectral'

    References:
      Zela, Elsken, Saikia, Marrakchi, Brox, Hutter, Understanding and Robustifying
      Differentiable Architecture Search, ICLR 2020, https://arxiv.org/abs/1909.09656
    """

    def flatten(plan):
        del plan
        return regularizers.hessian_norm(kind, strength, products=products)

    return fixes.compose(
        "hessian_darts",
        space,
        parts,
        flatten,
        config={"kind": kind, "strength": strength, "products": products},
    )


def _radius(plan: figures.Plan, start: float, end: float) -> Any:
    """The growing radius; the number 0 if it never is another."""
    for name, value in (("start_radius", start), ("radius", end)):
        checks.number(value, name)
    if start > end:
        raise JnasError(
            f"start_radius must be <= radius, got {start!r} and {end!r}: it grows"
        )
    if end == 0:
        return 0.0
    return regularizers.growing_radius(
        start, end, epochs=plan.epochs, steps_per_epoch=plan.steps_per_epoch
    )
