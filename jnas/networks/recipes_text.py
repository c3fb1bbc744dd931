"""`darts_rnn_recipe`: the training of final language models."""

import optax

from jnas import optimizers
from jnas.networks.base import Network
from jnas.networks.recipes_images import check_rates
from jnas.networks.training import Trainer, trainer
from jnas.supernet.language import language_modelling

__all__ = ["darts_rnn_recipe"]


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
    check_rates(
        learning_rate, weight_decay, epochs=epochs, steps_per_epoch=steps_per_epoch
    )
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
