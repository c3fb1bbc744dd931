"""Presets of methods that learn the architecture through samples of it."""

import dataclasses
from typing import Unpack

import optax

from jnas import bilevel, optimizers, regularizers, relax, search, supernet
from jnas.errors import JnasError
from jnas.presets import base, figures
from jnas.spaces import Space

__all__ = ["dsnas", "gdas", "gdas_frc", "proxyless", "snas"]

GDAS_FRC = dataclasses.replace(figures.BENCHMARK, steps_per_epoch=98, batch_size=256)
SNAS = figures.Published(epochs=150, steps_per_epoch=782, order="joint")
# ImageNet without 50,000 validation images, in batches of 256; the first 40 epochs
# train the weights only.
PROXYLESS = figures.Published(
    epochs=160,
    steps_per_epoch=4809,
    batch_size=256,
    final_rate=0.0,
    anneal="step",
    weight_decay=4e-5,
    nesterov=True,
    clip=None,
    arch_learning_rate=1e-3,
    arch_b1=0.0,
    arch_weight_decay=0.0,
    order="weights_first",
    warm_up=40 / 160,
)


def gdas(
    space: Space,
    *,
    temperature: tuple[float, float] = (10.0, 0.1),
    gradient: str | None = None,
    inactive: str = "freeze",
    **common: Unpack[figures.Common],
) -> search.Search:
    """GDAS: hard Gumbel samples, of which only the drawn candidates are computed.

    Composes `relax.gumbel_hard` (temperature falling linearly from epoch to epoch),
    sampled evaluation, first-order gradients and `select.argmax`. Weight step first;
    batch 64; SGD with Nesterov momentum 0.9, L2 5e-4, learning rate 0.025 to 0.001 by a
    cosine per step, weight gradients clipped at 5; arch by Adam 3e-4 (0.5, 0.999) with
    coupled L2 1e-3; 250 epochs.

    Deviations: the authors' code clips the norm of weights and arch together; here only
    the weights'. Weights of candidates that were never drawn are left alone by their
    optimizer; of those drawn before, their versions of it differ ("decay" or "freeze").

    Headline (paper): 2.93 % error on CIFAR-10, 2.82 % with a fixed reduction cell.

    Args:
      space: the space.
      temperature: in the first and in the last epoch.
      gradient: "all" or "selected", see `relax.gumbel_hard`; None is "all" in
        NAS-Bench-201-like spaces, "selected" in DARTS-like ones, as in the code.
      inactive: "freeze" or "decay", see `search.differentiable`.
      **common: see `Common`.

    Returns:
      The search; its supernet is ``search.supernet``.

    Raises:
      JnasError: an option is unknown, out of range or does not fit the space.

    Example:
      >>> import jnas
      >>> search = gdas(jnas.spaces.nasbench201(), channels=4, cells_per_stage=1)
      >>> search.config["method"], search.config["order"]
      ('gdas', 'weights_first')

    References:
      Dong, Yang, Searching for a Robust Neural Architecture in Four GPU Hours, CVPR
      2019, https://arxiv.org/abs/1910.04465; D-X-Y/AutoDL-Projects
    """
    plan = figures.plan("gdas", figures.BENCHMARK, common)
    return _gdas(plan, space, temperature, gradient, inactive)


def gdas_frc(
    space: Space,
    *,
    temperature: tuple[float, float] = (10.0, 0.1),
    gradient: str | None = None,
    inactive: str = "freeze",
    **common: Unpack[figures.Common],
) -> search.Search:
    """GDAS with a fixed reduction cell: only the normal cell is searched.

    As `gdas`, in a space whose reduction cells are fixed (`spaces.darts_frc`), with
    batches of 256.

    Headline (paper): 2.82 % error on CIFAR-10.

    Args:
      space: a space with a fixed reduction cell.
      temperature: in the first and in the last epoch.
      gradient: as for `gdas`.
      inactive: likewise.
      **common: see `Common`.

    Returns:
      The search.

    Raises:
      JnasError: the reduction cell of the space is not fixed; an option is unknown or
        out of range.

    Example:
      >>> import jnas
      >>> gdas_frc(jnas.spaces.darts_frc(), channels=4, cells=3).supernet.cells
      {'normal': 1}

    References:
      Dong, Yang, Searching for a Robust Neural Architecture in Four GPU Hours, CVPR
      2019, section 3.3, https://arxiv.org/abs/1910.04465
    """
    if not space.fixed:
        raise JnasError(
            f"gdas_frc searches normal cells between fixed reduction cells, but space "
            f"{space.name!r} has none: use space darts_frc, or gdas"
        )
    plan = figures.plan("gdas_frc", GDAS_FRC, common)
    return _gdas(plan, space, temperature, gradient, inactive)


def _gdas(plan, space, temperature, gradient, inactive):
    if gradient is None:
        gradient = "selected" if space.is_darts_like else "all"
    start, end = temperature
    return base.compose(
        plan,
        space,
        relaxation=relax.gumbel_hard(plan.temperature(start, end), gradient),
        inactive=inactive,
        config={
            "hypergradient": "first_order",
            "temperature": [start, end],
            "gradient": gradient,
        },
    )


def snas(
    space: Space,
    *,
    temperature: tuple[float, float] = (1.0, 0.03),
    drop_path: float = 0.3,
    **common: Unpack[figures.Common],
) -> search.Search:
    """SNAS: concrete samples; weights and architecture learn from the same batch.

    Composes `relax.concrete` (temperature falling linearly by epoch),
    `bilevel.single_level` with joint steps on the whole training set, drop path and
    `select.argmax` over all edges: every edge stays in DARTS-like spaces, unless "none"
    is its strongest candidate. SGD 0.025 to 0.001 per epoch, momentum 0.9, L2 3e-4,
    clip 5; arch by Adam 3e-4 (0.5, 0.999), L2 1e-3; 150 epochs of batches of 64. Add
    `regularizers.expected_cost` for its resource constraint.

    Deviation: the distributed code's Adam moves arch, not the other path's SGD. Rows of
    metrics show losses of training batches under "val", as nothing else is looked at.

    Headline (paper, moderate constraint): 2.85 +- 0.02 % error on CIFAR-10.

    Args:
      space: the space.
      temperature: in the first and in the last epoch.
      drop_path: rate in the search; 0 for none.
      **common: see `Common`.

    Returns:
      The search; ``search.supernet.space`` is the space it searches.

    Raises:
      JnasError: an option is unknown, out of range or does not fit the space.

    Example:
      >>> import jnas
      >>> search = snas(jnas.spaces.nasbench201(), channels=4, cells_per_stage=1)
      >>> search.config["order"], search.config["data"]
      ('joint', 'full')

    References:
      Xie, Zheng, Liu, Lin, SNAS: Stochastic Neural Architecture Search, ICLR 2019,
      https://arxiv.org/abs/1812.09926; SNAS-Series
    """
    plan = figures.plan("snas", SNAS, common)
    start, end = temperature
    return base.compose(
        plan,
        _all_edges(space),
        relaxation=relax.concrete(plan.temperature(start, end)),
        hypergradient=bilevel.single_level(),
        regularizer=regularizers.drop_path(drop_path) if drop_path else None,
        config={
            "hypergradient": "single_level",
            "data": "full",
            "temperature": [start, end],
            "drop_path": drop_path,
        },
    )


def dsnas(space: Space, **common: Unpack[figures.Common]) -> search.Search:
    """DSNAS: one drawn path computed; the loss's gradient by it rewards its choice.

    Composes `relax.dsnas`, sampled evaluation, `bilevel.single_level` with joint steps
    on the whole training set, and `select.argmax` over all edges. There is no
    temperature. Optimizers as for `snas`, the space's figures of which are published.

    Deviation: the paper searches a shuffle-net space on ImageNet; in cell spaces these
    figures are SNAS' and not the paper's.

    Headline (paper): 25.7 % error on ImageNet.

    Args:
      space: the space.
      **common: see `Common`.

    Returns:
      The search; ``search.supernet.space`` is the space it searches.

    Raises:
      JnasError: an option is unknown, out of range or does not fit the space.

    Example:
      >>> import jnas
      >>> search = dsnas(jnas.spaces.nasbench201(), channels=4, cells_per_stage=1)
      >>> search.config["hypergradient"]
      'single_level'

    References:
      Hu, Xie, Zheng, Liu, Shi, Liu, Lin, DSNAS: Direct Neural Architecture Search
      without Parameter Retraining, CVPR 2020, https://arxiv.org/abs/2002.09128
    """
    return base.compose(
        figures.plan("dsnas", SNAS, common),
        _all_edges(space),
        relaxation=relax.dsnas(),
        hypergradient=bilevel.single_level(),
        config={"hypergradient": "single_level", "data": "full"},
    )


def _all_edges(space: Space) -> Space:
    """The space in which every edge can stay, or fall away as its "none" is best."""
    if space.keep is None:
        return space
    return dataclasses.replace(space, keep=None, optional=True)


def proxyless(
    space: Space,
    *,
    paths: int | None = 2,
    label_smoothing: float = 0.1,
    arch_every: int = 5,
    **common: Unpack[figures.Common],
) -> search.Search:
    """ProxylessNAS: binary gates; one path for the weights, two for the architecture.

    Composes `relax.binary_gates`, sampled evaluation, first-order gradients, label
    smoothing and `select.argmax`. In the first quarter of the epochs the weights alone
    learn, on random paths, with twice the learning rate by a cosine of its own; then
    arch learns at every fifth step. SGD with Nesterov momentum 0.9, 0.025 to 0 by a
    cosine per step, L2 4e-5, batch 256; arch by Adam 1e-3 (0, 0.999) without L2; 40
    epochs, then 120, of ImageNet. Add `regularizers.expected_cost` for its latency.

    Deviation: warm-up paths are drawn from the initial distribution, which is uniform
    up to the initial alpha of about 1e-3.

    Headline (paper): 74.6 % accuracy on ImageNet at 78 ms on a phone.

    Args:
      space: the space.
      paths: 2, or None for the gates of all paths (the code's other mode).
      label_smoothing: in [0, 1).
      arch_every: weight steps per arch step.
      **common: see `Common`.

    Returns:
      The search.

    Raises:
      JnasError: an option is unknown, out of range or does not fit the space.

    Example:
      >>> import jnas
      >>> search = proxyless(
      ...     jnas.spaces.nasbench201(), channels=4, cells_per_stage=1, epochs=8)
      >>> search.arch_from == 2 * 4809, search.arch_every
      (True, 5)

    References:
      Cai, Zhu, Han, ProxylessNAS: Direct Neural Architecture Search on Target Task and
      Hardware, ICLR 2019, https://arxiv.org/abs/1812.00332; mit-han-lab/proxylessnas
    """
    plan = figures.plan("proxyless", PROXYLESS, common)
    return base.compose(
        plan,
        space,
        relaxation=relax.binary_gates(paths),
        task=supernet.classification(label_smoothing),
        schedule=_warm_up_then_cosine(plan),
        arch_every=arch_every,
        config={
            "hypergradient": "first_order",
            "paths": paths,
            "label_smoothing": label_smoothing,
        },
    )


def _warm_up_then_cosine(plan: figures.Plan) -> optax.Schedule:
    """Two cosines to 0, the first from twice the learning rate."""
    rate = plan.options["learning_rate"]
    warm = round(plan.published.warm_up * plan.epochs)
    parts = [
        optimizers.cosine(
            start, 0.0, epochs=epochs, steps_per_epoch=plan.steps_per_epoch, per="step"
        )
        for start, epochs in ((2 * rate, warm), (rate, plan.epochs - warm))
        if epochs
    ]
    return optax.join_schedules(parts, [warm * plan.steps_per_epoch] * (len(parts) - 1))
