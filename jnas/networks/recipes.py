"""The papers' recipes of retraining, as trainers.

The data's part of a recipe (batch size, augmentation, which images) belongs to
`jnas.data`; each recipe's docstring says what its authors used.
"""

import jax.numpy as jnp
import optax

from jnas import optimizers
from jnas.errors import JnasError
from jnas.networks import tasks
from jnas.networks.base import Network
from jnas.networks.training import Trainer, trainer
from jnas.supernet.build import check_positive
from jnas.supernet.language import language_modelling

__all__ = ["darts_recipe", "darts_rnn_recipe", "nasbench201_recipe"]


def _check(learning_rate: float, weight_decay: float, **counts: int) -> None:
    check_positive(**counts)
    if not learning_rate > 0:
        raise JnasError(f"learning_rate must be positive, got {learning_rate!r}")
    if not weight_decay >= 0:
        raise JnasError(f"weight_decay must be >= 0, got {weight_decay!r}")


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
    _check(learning_rate, weight_decay, epochs=epochs, steps_per_epoch=steps_per_epoch)
    if not 0 <= drop_path < 1:
        raise JnasError(f"drop_path must be in [0, 1), got {drop_path!r}")
    schedule = optimizers.cosine(
        learning_rate, 0.0, epochs=epochs, steps_per_epoch=steps_per_epoch, per="epoch"
    )

    def ramp(step):
        return drop_path * jnp.floor(step / steps_per_epoch) / epochs

    return trainer(
        network,
        tx=optimizers.coupled_sgd(
            schedule, momentum=momentum, weight_decay=weight_decay, clip=clip
        ),
        task=tasks.classification(auxiliary_weight, label_smoothing),
        drop_path=ramp if drop_path else 0.0,
        config={
            "recipe": "darts",
            "epochs": epochs,
            "steps_per_epoch": steps_per_epoch,
            "learning_rate": learning_rate,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "clip": clip,
            "drop_path": drop_path,
            "auxiliary_weight": auxiliary_weight,
            "label_smoothing": label_smoothing,
        },
    )


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
    _check(learning_rate, weight_decay, epochs=epochs, steps_per_epoch=steps_per_epoch)
    schedule = optimizers.cosine(
        learning_rate, 0.0, epochs=epochs, steps_per_epoch=steps_per_epoch, per="step"
    )
    return trainer(
        network,
        tx=optimizers.coupled_sgd(
            schedule,
            momentum=momentum,
            weight_decay=weight_decay,
            nesterov=True,
            clip=None,
        ),
        config={
            "recipe": "nasbench201",
            "epochs": epochs,
            "steps_per_epoch": steps_per_epoch,
            "learning_rate": learning_rate,
            "momentum": momentum,
            "weight_decay": weight_decay,
        },
    )


def darts_rnn_recipe(
    network: Network,
    *,
    steps_per_epoch: int,
    epochs: int = 100,
    bptt: int = 35,
    learning_rate: float = 20.0,
    weight_decay: float = 8e-7,
    clip: float | None = 0.25,
    activation: float = 0.0,
    slowness: float = 1e-3,
) -> Trainer:
    """Training of a language model, after DARTS on Penn Treebank.

    SGD without momentum, coupled L2, gradients clipped at 0.25, steps of a shortened
    window scaled by its length, slowness penalty. The authors' network is
    ``recurrent(genotype, vocab_size=10_000, width=850)`` with dropouts 0.75 (output),
    0.25 (hidden), 0.75 (inputs), 0.2 (embedding) and 0.1 (words), on batches of 64.

    Deviation: the authors keep the learning rate until the validation loss stalls and
    then average the weights (ASGD), for thousands of epochs. Here it follows a cosine
    to 0, which needs no validation text and suits short trainings.

    Headline (paper): 55.7 test perplexity on Penn Treebank for DARTS_RNN_V2.

    Args:
      network: what is trained, of `jnas.networks.recurrent` or `language_model`.
      steps_per_epoch: steps of one epoch.
      epochs: length of the training; it sets the schedule.
      bptt: times of a full window.
      learning_rate: at the start, of a full window.
      weight_decay: coupled L2 on every parameter.
      clip: maximal global norm of the gradient, or None.
      activation: weight of the activation penalty.
      slowness: weight of the slowness penalty.

    Returns:
      The trainer.

    Raises:
      JnasError: an option is out of range.

    Example:
      >>> import jnas
      >>> net = jnas.networks.recurrent("DARTS_RNN_V2", vocab_size=65, width=64)
      >>> darts_rnn_recipe(net, steps_per_epoch=400).config["learning_rate"]
      20.0

    References:
      Liu, Simonyan, Yang, DARTS: Differentiable Architecture Search, ICLR 2019,
      https://arxiv.org/abs/1806.09055
    """
    _check(learning_rate, weight_decay, epochs=epochs, steps_per_epoch=steps_per_epoch)
    schedule = optimizers.cosine(
        learning_rate, 0.0, epochs=epochs, steps_per_epoch=steps_per_epoch, per="step"
    )
    return trainer(
        network,
        tx=optax.chain(
            optimizers.coupled_sgd(
                schedule, momentum=0.0, weight_decay=weight_decay, clip=clip
            ),
            optimizers.scale_by_window(bptt),
        ),
        task=language_modelling(activation, slowness),
        config={
            "recipe": "darts_rnn",
            "epochs": epochs,
            "steps_per_epoch": steps_per_epoch,
            "bptt": bptt,
            "learning_rate": learning_rate,
            "weight_decay": weight_decay,
            "clip": clip,
            "activation": activation,
            "slowness": slowness,
        },
    )
