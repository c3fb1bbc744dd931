"""Presets of methods that compute one sampled candidate an edge."""

from typing import Any

import jax.numpy as jnp

from jnas import bilevel, optimizers, regularizers, relax, search, select, supernet
from jnas.presets_shared import check_rates, scaled_arch_rate
from jnas.spaces import Space

__all__ = ["gdas"]

_PUBLISHED_STEPS = 250 * 391


def gdas(
    space: Space,
    *,
    channels: int = 16,
    cells: int | None = None,
    cells_per_stage: int | None = None,
    num_classes: int = 10,
    epochs: int = 250,
    steps_per_epoch: int = 391,
    learning_rate: float = 0.025,
    arch_learning_rate: float | None = None,
    temperature: tuple[float, float] = (10.0, 0.1),
    gradient: str | None = None,
    inactive: str = "freeze",
    regularizer: regularizers.Regularizer | None = None,
    dtype: Any = jnp.float32,
) -> search.Search:
    """GDAS: hard Gumbel samples, of which only the drawn candidates are computed.

    Composes `relax.gumbel_hard` (temperature falling linearly from epoch to epoch),
    sampled evaluation, first-order gradients and `select.argmax`. Weight step first;
    SGD with Nesterov momentum 0.9, L2 5e-4, learning rate 0.025 to 0.001 by a cosine
    per step, weight gradients clipped at 5; arch by Adam (0.5, 0.999) with coupled L2
    1e-3.

    Deviations: the authors' code clips the norm of weights and arch together; here only
    the weights'. Weights of candidates that were never drawn are left alone by their
    optimizer; of those drawn before, their versions of it differ ("decay" or "freeze").

    Headline (paper): 2.93 % error on CIFAR-10, 2.82 % with a fixed reduction cell.

    Args:
      space: the space.
      channels: of the supernet.
      cells: of the supernet (DARTS-like spaces).
      cells_per_stage: of the supernet (NAS-Bench-201-like spaces).
      num_classes: outputs.
      epochs: length of the search; it sets the schedules.
      steps_per_epoch: steps of one epoch.
      learning_rate: of the weights, at the start.
      arch_learning_rate: of arch; None scales the published 3e-4 of 250 epochs to the
        length of the search, at most 0.02.
      temperature: in the first and in the last epoch.
      gradient: "all" or "selected", see `relax.gumbel_hard`; None is "all" in
        NAS-Bench-201-like spaces, "selected" in DARTS-like ones, as in the code.
      inactive: "freeze" or "decay", see `search.differentiable`.
      regularizer: a plug-in to add.
      dtype: compute dtype.

    Returns:
      The search; its supernet is ``search.supernet``.

    Raises:
      JnasError: an option is out of range or does not fit the space.

    Example:
      >>> import jnas
      >>> search = gdas(jnas.spaces.nasbench201(), channels=4, cells_per_stage=1)
      >>> search.config["method"], search.config["order"]
      ('gdas', 'weights_first')

    References:
      Dong, Yang, Searching for a Robust Neural Architecture in Four GPU Hours, CVPR
      2019, https://arxiv.org/abs/1910.04465
    """
    check_rates(learning_rate, arch_learning_rate)
    net = supernet.build(
        space,
        channels=channels,
        cells=cells,
        cells_per_stage=cells_per_stage,
        num_classes=num_classes,
        dtype=dtype,
    )
    if gradient is None:
        gradient = "selected" if "reduce" in space.names else "all"
    if arch_learning_rate is None:
        arch_learning_rate = scaled_arch_rate(
            epochs * steps_per_epoch, _PUBLISHED_STEPS
        )
    schedule = optimizers.cosine(
        learning_rate,
        min(0.001, learning_rate),
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
        per="step",
    )
    start, end = temperature
    return search.differentiable(
        net,
        relaxation=relax.gumbel_hard(
            relax.linear_temperature(
                start, end, epochs=epochs, steps_per_epoch=steps_per_epoch
            ),
            gradient,
        ),
        hypergradient=bilevel.first_order(),
        regularizer=regularizer,
        selector=select.argmax(),
        weight_tx=optimizers.coupled_sgd(
            schedule, weight_decay=5e-4, nesterov=True, clip=5.0
        ),
        arch_tx=optimizers.coupled_adam(arch_learning_rate),
        order="weights_first",
        inactive=inactive,
        recent=10,
        recent_every=steps_per_epoch,
        config={
            "method": "gdas",
            "epochs": epochs,
            "steps_per_epoch": steps_per_epoch,
            "learning_rate": learning_rate,
            "arch_learning_rate": arch_learning_rate,
            "hypergradient": "first_order",
            "temperature": [start, end],
            "gradient": gradient,
        },
    )
