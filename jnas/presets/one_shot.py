"""Presets of methods that train weights on random paths and then compare candidates."""

from typing import Unpack

import jax

from jnas import relax, search, select, supernet
from jnas.presets import base, figures
from jnas.spaces import Space

__all__ = ["rsps", "setn", "spos"]

SPOS = figures.Published(
    epochs=120,
    steps_per_epoch=1250,
    batch_size=1024,
    learning_rate=0.5,
    final_rate=0.0,
    anneal="linear",
    weight_decay=4e-5,
    clip=None,
    order="weights_first",
)


def spos(
    space: Space,
    *,
    fair: bool = False,
    candidates: int = 100,
    label_smoothing: float = 0.1,
    **common: Unpack[figures.Common],
) -> search.Search:
    """SPOS: the weights learn on one uniformly drawn path a step (supernet phase).

    Composes `relax.uniform_path`, sampled evaluation (candidates that are not drawn
    keep weights and optimizer state, bit by bit), label smoothing and
    `select.validated` over uniform candidates; arch is never updated. 150,000 steps of
    batches of 1024; SGD with momentum 0.9, 0.5 to 0 linearly by step, L2 4e-5 on
    kernels only.

    Deviations: the published second phase, an evolutionary search with statistics of
    its own for each candidate, is replaced by the best of some random candidates with
    batch statistics. The authors' code draws paths inside windows of FLOPs; here they
    are uniform, as in the paper.

    Headline (paper): 25.7 % error on ImageNet.

    Args:
      space: the space.
      fair: whether every candidate is drawn once in each block of steps (the idea of
        FairNAS, see `relax.uniform_path`).
      candidates: how many random candidates are compared at the end.
      label_smoothing: in [0, 1).
      **common: see `Common`; the learning rate belongs to batches of 1024.

    Returns:
      The search; ``derive`` needs ``evaluate`` and ``key``.

    Raises:
      JnasError: an option is unknown, out of range or does not fit the space.

    Example:
      >>> import jnas
      >>> search = spos(
      ...     jnas.spaces.nasbench201(), channels=4, cells_per_stage=1, epochs=3)
      >>> search.arch_from == 3 * 1250  # never, that is
      True

    References:
      Guo, Zhang, Mu, Heng, Liu, Wei, Sun, Single Path One-Shot Neural Architecture
      Search with Uniform Sampling, ECCV 2020, https://arxiv.org/abs/1904.00420;
      megvii-model/SinglePathOneShot
    """
    return base.compose(
        figures.plan("spos", SPOS, common),
        space,
        relaxation=relax.uniform_path(fair=fair),
        selector=select.validated(candidates, "uniform"),
        task=supernet.classification(label_smoothing),
        decayed=lambda weights: jax.tree.map(lambda x: x.ndim > 1, weights),
        learns_arch=False,
        config={
            "hypergradient": "none",
            "fair": fair,
            "candidates": candidates,
            "label_smoothing": label_smoothing,
        },
    )


def setn(
    space: Space, *, candidates: int = 100, **common: Unpack[figures.Common]
) -> search.Search:
    """SETN: weights learn on uniform paths, the architecture through the softmax.

    Composes `relax.phased` of `uniform_path` and `softmax`, first-order gradients and
    `select.validated`: of the candidates of the highest probability (all of
    NAS-Bench-201 are ranked, exactly) the best on validation data. Weight step first;
    optimizers as for `gdas`; 250 epochs of batches of 64 (NAS-Bench-201's code).

    Deviations: candidates are compared on all validation batches that are full, not on
    one of 512 images. The learned template evaluator of the paper is not in
    NAS-Bench-201's code, and not here.

    Headline (paper, DARTS' space): 2.69 % error on CIFAR-10.

    Args:
      space: the space.
      candidates: how many are compared at the end.
      **common: see `Common`.

    Returns:
      The search; ``derive`` needs ``evaluate``.

    Raises:
      JnasError: an option is unknown, out of range or does not fit the space.

    Example:
      >>> import jnas
      >>> search = setn(jnas.spaces.nasbench201(), channels=4, cells_per_stage=1)
      >>> search.selector.needs_evaluation
      True

    References:
      Dong, Yang, One-Shot Neural Architecture Search via Self-Evaluated Template
      Network, ICCV 2019, https://arxiv.org/abs/1910.05733; D-X-Y/AutoDL-Projects
    """
    return base.compose(
        figures.plan("setn", figures.BENCHMARK, common),
        space,
        relaxation=relax.phased(relax.uniform_path(), relax.softmax()),
        selector=select.validated(candidates, "top"),
        config={"hypergradient": "first_order", "candidates": candidates},
    )


def rsps(
    space: Space, *, candidates: int = 100, **common: Unpack[figures.Common]
) -> search.Search:
    """RSPS: random search with shared weights.

    Composes `relax.uniform_path` (a node all of whose edges are "none" is drawn again)
    and `select.validated` over uniform candidates; arch is never updated. Optimizers as
    for `gdas`; 250 epochs of batches of 64 (NAS-Bench-201's code).

    Deviation: candidates are compared on all validation batches that are full, not on
    one.

    Headline (paper, DARTS' space): 2.85 +- 0.08 % error on CIFAR-10.

    Args:
      space: the space.
      candidates: how many are compared at the end.
      **common: see `Common`.

    Returns:
      The search; ``derive`` needs ``evaluate`` and ``key``.

    Raises:
      JnasError: an option is unknown, out of range or does not fit the space.

    Example:
      >>> import jnas
      >>> search = rsps(jnas.spaces.nasbench201(), channels=4, cells_per_stage=1)
      >>> search.selector.needs_evaluation
      True

    References:
      Li, Talwalkar, Random Search and Reproducibility for Neural Architecture Search,
      UAI 2019, https://arxiv.org/abs/1902.07638; D-X-Y/AutoDL-Projects
    """
    return base.compose(
        figures.plan("rsps", figures.BENCHMARK, common),
        space,
        relaxation=relax.uniform_path(resample_none=True),
        selector=select.validated(candidates, "uniform"),
        learns_arch=False,
        config={"hypergradient": "none", "candidates": candidates},
    )
