"""Training of final networks on images: SGD as in DARTS, NAS-Bench-201 and relatives.

The data's part of a recipe (batch size, augmentation, which images) belongs to
`jnas.networks.recipes`; each function's docstring says what its authors used.
"""

from typing import Any

import jax.numpy as jnp
import optax

from jnas import optimizers
from jnas.errors import JnasError, unknown_name
from jnas.networks import tasks
from jnas.networks.base import Network
from jnas.networks.training import Trainer, trainer
from jnas.supernet.build import check_positive

__all__ = [
    "SCHEDULES",
    "check_rates",
    "darts_recipe",
    "image_trainer",
    "nasbench201_recipe",
    "rate_schedule",
]

SCHEDULES = ("cosine_epoch", "cosine_step", "exponential")


def check_rates(learning_rate: float, weight_decay: float, **counts: int) -> None:
    """Raises `JnasError` unless the rates and counts of a training can be used.

    Args:
      learning_rate: positive.
      weight_decay: not negative.
      **counts: positive integers by the name of the option.

    Raises:
      JnasError: names the option and what was given.

    Example:
      >>> check_rates(0.1, 0.0, epochs=5)
    """
    check_positive(**counts)
    if not learning_rate > 0:
        raise JnasError(f"learning_rate must be positive, got {learning_rate!r}")
    if not weight_decay >= 0:
        raise JnasError(f"weight_decay must be >= 0, got {weight_decay!r}")


def rate_schedule(
    kind: str,
    learning_rate: float,
    *,
    epochs: int,
    steps_per_epoch: int,
    eta_min: float = 0.0,
    decay: float = 0.97,
) -> optax.Schedule:
    """The learning rate of each step.

    Args:
      kind: "cosine_epoch" or "cosine_step": from ``learning_rate`` to ``eta_min``,
        constant within an epoch or not; "exponential": times ``decay`` per epoch.
      learning_rate: of the first step.
      epochs: length of the training.
      steps_per_epoch: steps of one epoch.
      eta_min: where a cosine ends.
      decay: factor from epoch to epoch of "exponential".

    Returns:
      ``(step) -> learning rate``.

    Raises:
      JnasError: there is no such kind.

    Example:
      >>> s = rate_schedule("exponential", 0.1, epochs=9, steps_per_epoch=10, decay=0.5)
      >>> [round(float(s(step)), 6) for step in (0, 9, 10, 25)]
      [0.1, 0.1, 0.05, 0.025]
    """
    if kind not in SCHEDULES:
        raise unknown_name("schedule", kind, SCHEDULES)
    if kind == "exponential":

        def schedule(count):
            done = jnp.floor(jnp.asarray(count, float) / steps_per_epoch)
            return learning_rate * decay**done

        return schedule
    return optimizers.cosine(
        learning_rate,
        eta_min,
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
        per=kind.removeprefix("cosine_"),
    )


def image_trainer(
    network: Network,
    *,
    steps_per_epoch: int,
    epochs: int,
    learning_rate: float,
    momentum: float = 0.9,
    nesterov: bool = False,
    weight_decay: float = 3e-4,
    clip: float | None = 5.0,
    schedule: str = "cosine_epoch",
    eta_min: float = 0.0,
    decay: float = 0.97,
    drop_path: float = 0.0,
    auxiliary_weight: float = 0.4,
    label_smoothing: float = 0.0,
    mixup: float = 0.0,
    config: dict[str, Any] | None = None,
) -> Trainer:
    """SGD with coupled L2: what all the recipes for images are made of.

    Args:
      network: what is trained.
      steps_per_epoch: steps of one epoch.
      epochs: length of the training; it sets the schedules.
      learning_rate: at the start.
      momentum: of the velocity.
      nesterov: whether in Nesterov's form.
      weight_decay: coupled L2 on every parameter.
      clip: maximal global norm of the gradient, or None.
      schedule: of the learning rate, see `rate_schedule`.
      eta_min: where a cosine ends.
      decay: of the exponential schedule.
      drop_path: rate towards the end; it grows linearly from 0, per epoch, and never
        quite reaches this.
      auxiliary_weight: of the auxiliary head's loss, if the network has one.
      label_smoothing: of the training loss.
      mixup: parameter of the Beta distribution of `jnas.networks.mixup`; 0 for none.
      config: names and hyper-parameters, saved with runs.

    Returns:
      The trainer.

    Raises:
      JnasError: an option is out of range.

    Example:
      >>> import jnas
      >>> net = jnas.networks.build("DARTS_V2", channels=4, cells=3)
      >>> training = image_trainer(
      ...     net, steps_per_epoch=5, epochs=2, learning_rate=0.1, mixup=0.2)
    """
    check_rates(
        learning_rate, weight_decay, epochs=epochs, steps_per_epoch=steps_per_epoch
    )
    if not 0 <= drop_path < 1:
        raise JnasError(f"drop_path must be in [0, 1), got {drop_path!r}")
    rates = rate_schedule(
        schedule,
        learning_rate,
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
        eta_min=eta_min,
        decay=decay,
    )

    def ramp(step):
        return drop_path * jnp.floor(step / steps_per_epoch) / epochs

    return trainer(
        network,
        tx=optimizers.coupled_sgd(
            rates,
            momentum=momentum,
            weight_decay=weight_decay,
            nesterov=nesterov,
            clip=clip,
        ),
        task=tasks.classification(auxiliary_weight, label_smoothing),
        drop_path=ramp if drop_path else 0.0,
        mixup=mixup,
        config=config,
    )


def darts_recipe(
    network: Network,
    *,
    steps_per_epoch: int,
    epochs: int = 600,
    learning_rate: float = 0.025,
    momentum: float = 0.9,
    weight_decay: float = 3e-4,
    clip: float | None = 5.0,
    drop_path: float = 0.2,
    auxiliary_weight: float = 0.4,
    label_smoothing: float = 0.0,
) -> Trainer:
    """Retraining as in DARTS on CIFAR-10.

    SGD with momentum, coupled L2, clipped gradients, cosine per epoch to 0; drop path
    grows linearly from 0, per epoch, and never quite reaches its final rate. The
    authors' network is ``build(genotype, channels=36, cells=20, auxiliary=True)``, on
    batches of 96 of all 50,000 training images (521 steps an epoch) with random crops,
    flips and cutout 16; they report the test error after the last epoch.

    Headline (paper): 2.76 +- 0.09 % error for DARTS_V2, 3.00 +- 0.14 for DARTS_V1.

    Args:
      network: what is trained.
      steps_per_epoch: steps of one epoch.
      epochs: length of the training; it sets the schedules.
      learning_rate: at the start.
      momentum: of the velocity.
      weight_decay: coupled L2 on every parameter.
      clip: maximal global norm of the gradient, or None.
      drop_path: rate towards the end.
      auxiliary_weight: of the auxiliary head's loss, if the network has one.
      label_smoothing: of the training loss.

    Returns:
      The trainer.

    Raises:
      JnasError: an option is out of range.

    Example:
      >>> import jnas
      >>> net = jnas.networks.build("DARTS_V2", auxiliary=True)
      >>> darts_recipe(net, steps_per_epoch=521).config["epochs"]
      600

    References:
      Liu, Simonyan, Yang, DARTS: Differentiable Architecture Search, ICLR 2019,
      https://arxiv.org/abs/1806.09055
    """
    options: dict[str, Any] = {
        "epochs": epochs,
        "steps_per_epoch": steps_per_epoch,
        "learning_rate": learning_rate,
        "momentum": momentum,
        "weight_decay": weight_decay,
        "clip": clip,
        "drop_path": drop_path,
        "auxiliary_weight": auxiliary_weight,
        "label_smoothing": label_smoothing,
    }
    return image_trainer(network, **options, config={"recipe": "darts", **options})


def nasbench201_recipe(
    network: Network,
    *,
    steps_per_epoch: int,
    epochs: int = 200,
    learning_rate: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
) -> Trainer:
    """Training as in NAS-Bench-201.

    SGD with Nesterov momentum, coupled L2, cosine per step to 0, no clipping. The
    authors' network is ``build(genotype, channels=16, cells_per_stage=5)``, on batches
    of 256 with random crops and flips, no cutout.

    Args:
      network: what is trained.
      steps_per_epoch: steps of one epoch.
      epochs: length of the training (the benchmark's short version: 12).
      learning_rate: at the start.
      momentum: of the velocity.
      weight_decay: coupled L2 on every parameter.

    Returns:
      The trainer.

    Raises:
      JnasError: an option is out of range.

    Example:
      >>> import jnas
      >>> net = jnas.networks.build(jnas.spaces.nasbench201().decode([3] * 6),
      ...                           channels=16)
      >>> nasbench201_recipe(net, steps_per_epoch=98).config["learning_rate"]
      0.1

    References:
      Dong, Yang, NAS-Bench-201: Extending the Scope of Reproducible Neural
      Architecture Search, ICLR 2020, https://arxiv.org/abs/2001.00326
    """
    options: dict[str, Any] = {
        "epochs": epochs,
        "steps_per_epoch": steps_per_epoch,
        "learning_rate": learning_rate,
        "momentum": momentum,
        "weight_decay": weight_decay,
    }
    return image_trainer(
        network,
        **options,
        nesterov=True,
        clip=None,
        schedule="cosine_step",
        config={"recipe": "nasbench201", **options},
    )
