"""What presets share: their common options, and the published figures filled in."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, TypedDict

import jax
import jax.numpy as jnp
import optax

from jnas import optimizers, regularizers, relax
from jnas.errors import JnasError, unknown_name

__all__ = [
    "BENCHMARK",
    "PUBLISHED_STEPS",
    "Common",
    "Plan",
    "Published",
    "check_rates",
    "plan",
    "scaled_arch_rate",
]

# The published arch learning rate belongs to this many steps: 50 epochs of 25,000
# images in batches of 64 (Liu et al., ICLR 2019, appendix A.1.1).
PUBLISHED_STEPS = 50 * 391
_PUBLISHED_ARCH_RATE = 3e-4
_MAX_ARCH_RATE = 0.02


class Common(TypedDict, total=False):
    """The options that every preset for images takes, by keyword.

    Attributes:
      channels: of the supernet; 16.
      cells: of the supernet (DARTS-like spaces); 8.
      cells_per_stage: of the supernet (NAS-Bench-201-like spaces); 5.
      num_classes: outputs; 10.
      epochs: length of the search, which sets the schedules; default: the published.
      steps_per_epoch: steps of one epoch; default: the published.
      learning_rate: of the weights, at the start; default: the published.
      arch_learning_rate: of arch; default: the published one, scaled up for searches of
        fewer steps (`scaled_arch_rate`).
      regularizer: a plug-in to add to the method's own.
      dtype: compute dtype; float32.
    """

    channels: int
    cells: int | None
    cells_per_stage: int | None
    num_classes: int
    epochs: int
    steps_per_epoch: int
    learning_rate: float | None
    arch_learning_rate: float | None
    regularizer: regularizers.Regularizer | None
    dtype: Any


@dataclasses.dataclass(frozen=True)
class Published:
    """A method's published figures.

    Attributes:
      epochs: of the search.
      steps_per_epoch: of one epoch, with the published batch and data.
      batch_size: the published one, for the record; whoever runs the search sets it.
      learning_rate: of the weights, SGD with momentum 0.9.
      final_rate: at the end.
      anneal: "epoch" or "step" for a cosine that moves so often, or "linear".
      weight_decay: coupled L2.
      nesterov: whether the momentum is Nesterov's.
      clip: of the norm of the weights' gradient, or None.
      arch_learning_rate: of Adam.
      arch_b1: its first decay.
      arch_weight_decay: coupled L2 of arch.
      arch_clip: of the norm of the architecture's gradient, or None.
      order: of the half-steps.
      warm_up: share of the epochs before arch learns.
    """

    epochs: int = 50
    steps_per_epoch: int = 391
    batch_size: int = 64
    learning_rate: float = 0.025
    final_rate: float = 0.001
    anneal: str = "epoch"
    weight_decay: float = 3e-4
    nesterov: bool = False
    clip: float | None = 5.0
    arch_learning_rate: float = _PUBLISHED_ARCH_RATE
    arch_b1: float = 0.5
    arch_weight_decay: float = 1e-3
    arch_clip: float | None = None
    order: str = "arch_first"
    warm_up: float = 0.0


# NAS-Bench-201's code trains all its methods so (Dong & Yang, ICLR 2020).
BENCHMARK = Published(
    epochs=250, anneal="step", weight_decay=5e-4, nesterov=True, order="weights_first"
)


class Plan(NamedTuple):
    """A method's figures for one search; made by `plan`.

    Attributes:
      method: its name.
      published: the published figures.
      options: all of `Common`, with what was not given filled in.
    """

    method: str
    published: Published
    options: dict[str, Any]

    @property
    def epochs(self) -> int:
        """Of the search."""
        return self.options["epochs"]

    @property
    def steps_per_epoch(self) -> int:
        """Of one epoch."""
        return self.options["steps_per_epoch"]

    @property
    def steps(self) -> int:
        """Of the whole search."""
        return self.epochs * self.steps_per_epoch

    def temperature(self, start: float, end: float) -> Callable[[Any], jax.Array]:
        """Falling linearly from the first to the last epoch."""
        return relax.linear_temperature(
            start, end, epochs=self.epochs, steps_per_epoch=self.steps_per_epoch
        )

    def schedule(self, scale: float = 1.0) -> Callable[[Any], Any]:
        """The weights' learning rate by step, from ``scale`` times the option."""
        start = scale * self.options["learning_rate"]
        end = min(self.published.final_rate, start)
        if self.published.anneal == "linear":
            return optax.linear_schedule(start, end, self.steps)
        return optimizers.cosine(
            start,
            end,
            epochs=self.epochs,
            steps_per_epoch=self.steps_per_epoch,
            per=self.published.anneal,
        )


def plan(method: str, published: Published, common: Common) -> Plan:
    """Fills in what a caller left out.

    Args:
      method: name of the preset.
      published: its figures.
      common: the caller's options.

    Returns:
      The plan.

    Raises:
      JnasError: an option is unknown or out of range.

    Example:
      >>> plan("darts", Published(), {"epochs": 25}).options["arch_learning_rate"]
      0.0006
    """
    given: dict[str, Any] = dict(common)
    for name in given:
        if name not in Common.__annotations__:
            raise unknown_name(f"option of {method}", name, Common.__annotations__)
    options: dict[str, Any] = {
        "channels": 16,
        "cells": None,
        "cells_per_stage": None,
        "num_classes": 10,
        "epochs": published.epochs,
        "steps_per_epoch": published.steps_per_epoch,
        "learning_rate": None,
        "arch_learning_rate": None,
        "regularizer": None,
        "dtype": jnp.float32,
        **given,
    }
    for name in ("epochs", "steps_per_epoch"):
        value = options[name]
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise JnasError(f"{name} must be a positive whole number, got {value!r}")
    check_rates(options["learning_rate"], options["arch_learning_rate"])
    if options["learning_rate"] is None:
        options["learning_rate"] = published.learning_rate
    if options["arch_learning_rate"] is None:
        options["arch_learning_rate"] = scaled_arch_rate(
            options["epochs"] * options["steps_per_epoch"],
            published.epochs * published.steps_per_epoch,
            published.arch_learning_rate,
        )
    return Plan(method, published, options)


def scaled_arch_rate(
    steps: int,
    published_steps: int = PUBLISHED_STEPS,
    published_rate: float = _PUBLISHED_ARCH_RATE,
    most: float = _MAX_ARCH_RATE,
) -> float:
    """The arch learning rate for a search of ``steps`` steps.

    Adam moves alpha by about its learning rate a step, so a short search at the
    published 3e-4 ends where it began. The rate is scaled so that steps x rate stays
    what it was in the paper, up to a limit.

    Args:
      steps: of the whole search.
      published_steps: those of the paper's search.
      published_rate: the paper's.
      most: the limit; a published rate above it stays.

    Returns:
      The learning rate, the published one at the published number of steps or more.

    Example:
      >>> scaled_arch_rate(19550), scaled_arch_rate(100)
      (0.0003, 0.02)
    """
    scaled = published_rate * published_steps / max(steps, 1)
    return max(published_rate, min(most, scaled))


def check_rates(learning_rate: float | None, arch_learning_rate: float | None) -> None:
    """Raises unless the learning rates are positive.

    Args:
      learning_rate: of the weights; None is fine.
      arch_learning_rate: of arch; None is fine.

    Raises:
      JnasError: names the one that is not.

    Example:
      >>> check_rates(0.025, None)
    """
    for name, value in (
        ("learning_rate", learning_rate),
        ("arch_learning_rate", arch_learning_rate),
    ):
        if value is not None and not value > 0:
            raise JnasError(f"{name} must be positive, got {value!r}")
