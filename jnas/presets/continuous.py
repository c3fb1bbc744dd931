"""Presets of methods that compute every candidate: DARTS and its continuous kin."""

import dataclasses
from collections.abc import Callable
from typing import Any, Unpack

import optax

from jnas import bilevel, optimizers, regularizers, relax, search, select
from jnas.errors import JnasError
from jnas.presets import base, figures
from jnas.spaces import Space

__all__ = [
    "darts",
    "darts_hypergradient",
    "drnas",
    "fair_darts",
    "milenas",
    "pc_darts",
    "published_darts",
]

DARTS = figures.Published()
# NAS-Bench-201's code searches as long with DARTS as its authors do.
DARTS_BENCHMARK = dataclasses.replace(figures.BENCHMARK, epochs=50)
PC_DARTS = figures.Published(
    steps_per_epoch=98,
    batch_size=256,
    learning_rate=0.1,
    final_rate=0.0,
    arch_learning_rate=6e-4,
    warm_up=15 / 50,
)
FAIR_DARTS = figures.Published(
    steps_per_epoch=196,
    batch_size=128,
    learning_rate=0.005,
    arch_learning_rate=3e-3,
    arch_b1=0.9,
)
DRNAS = figures.Published(learning_rate=0.1, final_rate=0.0, arch_learning_rate=6e-4)


def darts(
    space: Space,
    *,
    order: int = 1,
    second_order: str = "exact",
    **common: Unpack[figures.Common],
) -> search.Search:
    """DARTS, first or second order, with the optimizers of the space's own authors.

    On DARTS-like spaces: arch step first, SGD with momentum 0.9, L2 3e-4, gradients
    clipped at 5, cosine per epoch (Liu et al.'s code). On NAS-Bench-201: weight step
    first, Nesterov momentum, L2 5e-4, cosine per step (Dong & Yang's code). Both:
    50 epochs, learning rate 0.025 to 0.001, arch by Adam (0.5, 0.999) with learning
    rate 3e-4 and coupled L2 1e-3.

    Second order differentiates through one virtual weight step of the same optimizer
    without its clipping, as the authors' code does. Their code approximates it by a
    finite difference, which on these networks is far from the exact derivative
    (``docs/bilevel.md``): published second-order results are "finite_difference". The
    arch step comes first in every space then, as it looks ahead to the weight step.

    Deviation: NAS-Bench-201's per-algorithm code clips the norm of weights and arch
    together, with stale arch gradients in it; here only the weights' is clipped.

    Headline (paper, second order, 10 retrainings): 2.76 +- 0.09 % error on CIFAR-10.

    Args:
      space: the space.
      order: 1, or 2 for the gradient through one virtual weight step.
      second_order: "exact" or "finite_difference" (epsilon 0.01); for order 2.
      **common: see `Common`.

    Returns:
      The search; its supernet is ``search.supernet``.

    Raises:
      JnasError: an option is unknown, out of range or does not fit the space.

    Example:
      >>> import jnas
      >>> search = darts(jnas.spaces.darts(), channels=4, cells=3, epochs=1)
      >>> search.config["method"], search.config["order"]
      ('darts', 'arch_first')

    References:
      Liu, Simonyan, Yang, DARTS: Differentiable Architecture Search, ICLR 2019,
      https://arxiv.org/abs/1806.09055; Dong, Yang, NAS-Bench-201, ICLR 2020,
      https://arxiv.org/abs/2001.00326
    """
    plan = figures.plan("darts", published_darts(space, order), common)
    hypergradient, name = darts_hypergradient(plan, order, second_order)
    return base.compose(
        plan, space, hypergradient=hypergradient, config={"hypergradient": name}
    )


def published_darts(space: Space, order: int) -> figures.Published:
    """DARTS' figures on a space.

    Args:
      space: the space.
      order: 1 or 2.

    Returns:
      Those of the space's own authors.

    Raises:
      JnasError: there is no such order.
    """
    if order not in (1, 2):
        raise JnasError(f"order must be 1 or 2, got {order!r}")
    published = DARTS if space.is_darts_like else DARTS_BENCHMARK
    if order == 2:
        # A virtual step that looks ahead comes before the real one.
        published = dataclasses.replace(published, order="arch_first")
    return published


def darts_hypergradient(
    plan: figures.Plan,
    order: int,
    second_order: str,
    schedule: Callable[[Any], Any] | None = None,
) -> tuple[bilevel.Hypergradient, str]:
    """DARTS' hypergradient and its name.

    Args:
      plan: of the search.
      order: 1 or 2.
      second_order: "exact" or "finite_difference".
      schedule: of the weights' learning rate; None: the plan's.

    Returns:
      Both.

    Raises:
      JnasError: ``second_order`` is another.
    """
    if order == 1:
        return bilevel.first_order(), "first_order"
    inner_tx: optax.GradientTransformation = optimizers.coupled_sgd(
        schedule or plan.schedule(),
        weight_decay=plan.published.weight_decay,
        nesterov=plan.published.nesterov,
        clip=None,
    )
    return (
        bilevel.unrolled(method=second_order, inner_tx=inner_tx),
        f"unrolled {second_order}",
    )


def milenas(
    space: Space, *, lambda_train: float = 1.0, **common: Unpack[figures.Common]
) -> search.Search:
    """MiLeNAS: DARTS whose architecture learns from both losses, first order.

    Composes `relax.softmax`, `bilevel.mixed_level` and `select.argmax` with DARTS'
    optimizers: arch first; SGD 0.025 to 0.001 per epoch, momentum 0.9, L2 3e-4, clip 5;
    arch by Adam 3e-4 (0.5, 0.999), L2 1e-3; 50 epochs of batches of 64.

    Headline (paper): 2.51 +- 0.11 % error on CIFAR-10.

    Args:
      space: the space.
      lambda_train: weight of the training loss; 1 in the authors' code, 0 is DARTS.
      **common: see `Common`.

    Returns:
      The search.

    Raises:
      JnasError: an option is unknown, out of range or does not fit the space.

    Example:
      >>> import jnas
      >>> search = milenas(jnas.spaces.nasbench201(), channels=4, cells_per_stage=1)
      >>> search.config["lambda_train"]
      1.0

    References:
      He, Ye, Shen, Zhang, MiLeNAS: Efficient Neural Architecture Search via Mixed-Level
      Reformulation, CVPR 2020, https://arxiv.org/abs/2003.12238;
      chaoyanghe/MiLeNAS
    """
    return base.compose(
        figures.plan("milenas", DARTS, common),
        space,
        hypergradient=bilevel.mixed_level(lambda_train),
        config={"hypergradient": "mixed_level", "lambda_train": lambda_train},
    )


def pc_darts(
    space: Space, *, partial_channels: int = 4, **common: Unpack[figures.Common]
) -> search.Search:
    """PC-DARTS: a part of the channels through the candidates, and weighted edges.

    Composes a supernet with partial channels, `relax.edge_normalised` over the softmax,
    first-order gradients and `select.argmax`, whose strengths are products of candidate
    and edge weights. Arch first, from epoch 15 of 50 on (that share of any length);
    batch 256; SGD 0.1 to 0 per epoch, momentum 0.9, L2 3e-4, clip 5; arch (edges, too)
    by Adam 6e-4 (0.5, 0.999), L2 1e-3.

    Headline (paper): 2.57 +- 0.07 % error on CIFAR-10, 0.1 GPU days.

    Args:
      space: the space.
      partial_channels: K; one K-th of the channels is searched.
      **common: see `Common`; the learning rate belongs to batches of 256.

    Returns:
      The search.

    Raises:
      JnasError: an option is unknown, out of range or does not fit the space; K does
        not divide the channels.

    Example:
      >>> import jnas
      >>> search = pc_darts(jnas.spaces.nasbench201(), channels=4, cells_per_stage=1)
      >>> search.arch_from == 15 * 98
      True

    References:
      Xu, Xie, Zhang, Chen, Qi, Tian, Xiong, PC-DARTS: Partial Channel Connections for
      Memory-Efficient Architecture Search, ICLR 2020, https://arxiv.org/abs/1907.05737;
      yuhuixu1993/PC-DARTS
    """
    return base.compose(
        figures.plan("pc_darts", PC_DARTS, common),
        space,
        relaxation=relax.edge_normalised(),
        partial_channels=partial_channels,
        config={"hypergradient": "first_order"},
    )


def fair_darts(
    space: Space,
    *,
    zero_one: float = 10.0,
    zero_one_kind: str = "l2",
    threshold: float = 0.85,
    **common: Unpack[figures.Common],
) -> search.Search:
    """FairDARTS: a gate of its own for each candidate, pushed towards 0 or 1.

    Composes `relax.sigmoid` (alpha begins at 0), `regularizers.zero_one`, first-order
    gradients and `select.threshold` on the space without "none", whose genotypes may
    leave edges out: of each node the two strongest edges, if they reach the threshold.
    Arch first; batch 128; SGD 0.005 to 0.001 per epoch, momentum 0.9, L2 3e-4, clip 5;
    arch by Adam 3e-3 (0.9, 0.999), L2 1e-3; 50 epochs.

    In spaces that can select "none", such as NAS-Bench-201, it stays a candidate, and
    is written where an edge is left out.

    Headline (authors' code, 7 searches): 97.46 +- 0.05 % accuracy on CIFAR-10.

    Args:
      space: the space.
      zero_one: strength of the zero-one loss.
      zero_one_kind: "l2", or "l1" as another published form.
      threshold: gate that an edge must reach.
      **common: see `Common`.

    Returns:
      The search; ``search.supernet.space`` is the space it searches.

    Raises:
      JnasError: an option is unknown, out of range or does not fit the space.

    Example:
      >>> import jnas
      >>> search = fair_darts(jnas.spaces.darts(), channels=4, cells=3)
      >>> len(search.supernet.space.groups[0].operations)
      7

    References:
      Chu, Zhou, Zhang, Li, Fair DARTS: Eliminating Unfair Advantages in Differentiable
      Architecture Search, ECCV 2020, https://arxiv.org/abs/1911.12126;
      xiaomi-automl/FairDARTS
    """
    searched = base.without_never(space)
    if space.never or space.keep is not None:
        searched = dataclasses.replace(searched, optional=True)
    return base.compose(
        figures.plan("fair_darts", FAIR_DARTS, common),
        searched,
        relaxation=relax.sigmoid(),
        regularizer=regularizers.zero_one(zero_one, zero_one_kind),
        selector=select.threshold(threshold),
        config={
            "hypergradient": "first_order",
            "zero_one": zero_one,
            "zero_one_kind": zero_one_kind,
            "threshold": threshold,
        },
    )


def drnas(
    space: Space,
    *,
    partial_channels: int = 1,
    anchor: str = "l2",
    anchor_strength: float = 1e-3,
    **common: Unpack[figures.Common],
) -> search.Search:
    """DrNAS: mixtures drawn from a learned Dirichlet distribution, pathwise gradients.

    Composes `relax.dirichlet` on the space without "none" (which NAS-Bench-201 keeps),
    first-order gradients and `select.argmax`; one stage (`drnas_progressive` has the
    published two). Arch first; batch 64; SGD 0.1 to 0 per epoch, momentum 0.9, L2 3e-4,
    clip 5; arch by Adam 6e-4 (0.5, 0.999).

    Deviation: the authors' search on NAS-Bench-201 takes 100 epochs.

    Headline (paper, progressive): 2.46 +- 0.03 % error on CIFAR-10.

    Args:
      space: the space.
      partial_channels: K; one K-th of the channels is searched. The published stages
        on DARTS' space have 6 and 4.
      anchor: what keeps the concentration near 1: "l2" of alpha by Adam's decay, the
        code's default, or "kl", the divergence from the flat distribution.
      anchor_strength: of either; 1e-3.
      **common: see `Common`.

    Returns:
      The search; ``search.supernet.space`` is the space it searches.

    Raises:
      JnasError: an option is unknown, out of range or does not fit the space.

    Example:
      >>> import jnas
      >>> search = drnas(jnas.spaces.nasbench201(), channels=4, cells_per_stage=1)
      >>> search.config["anchor"]
      'l2'

    References:
      Chen, Wang, Cheng, Tang, Hsieh, DrNAS: Dirichlet Neural Architecture Search, ICLR
      2021, https://arxiv.org/abs/2006.10355; xiangning-chen/DrNAS
    """
    if anchor not in ("l2", "kl"):
        raise JnasError(f"anchor must be 'l2' or 'kl', got {anchor!r}")
    decay = anchor_strength if anchor == "l2" else 0.0
    penalty = None
    if anchor == "kl":
        penalty = regularizers.dirichlet_anchor(anchor_strength)
    published = dataclasses.replace(DRNAS, arch_weight_decay=decay)
    return base.compose(
        figures.plan("drnas", published, common),
        base.without_never(space),
        relaxation=relax.dirichlet(),
        regularizer=penalty,
        partial_channels=partial_channels,
        config={
            "hypergradient": "first_order",
            "anchor": anchor,
            "anchor_strength": anchor_strength,
        },
    )
