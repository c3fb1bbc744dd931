"""The preset of DARTS' recurrent search; `jnas.presets` lists it."""

from typing import Any

import jax.numpy as jnp
import optax

from jnas import bilevel, optimizers, regularizers, relax, search, select, supernet
from jnas.errors import JnasError
from jnas.presets import figures
from jnas.spaces import Space

__all__ = ["darts_rnn"]

# Penn Treebank: 929,589 tokens in 256 columns and windows of 35, 50 epochs.
_PUBLISHED_STEPS = 50 * 106
_PUBLISHED_ARCH_RATE = 3e-3
_MOST = 0.05
# The authors' dropouts in their search.
PUBLISHED_DROPOUTS = supernet.Dropouts(
    output=0.75, hidden=0.25, inputs=0.75, embedding=0.2, words=0.0
)


def darts_rnn(
    space: Space,
    *,
    vocab_size: int,
    width: int = 300,
    bptt: int = 35,
    epochs: int = 50,
    steps_per_epoch: int = 106,
    learning_rate: float = 20.0,
    arch_learning_rate: float | None = None,
    dropouts: supernet.Dropouts | None = None,
    weight_decay: float = 5e-7,
    clip: float = 0.25,
    activation: float = 0.0,
    slowness: float = 1e-3,
    order: int = 1,
    second_order: str = "exact",
    regularizer: regularizers.Regularizer | None = None,
    dtype: Any = jnp.float32,
) -> search.Search:
    """DARTS' search for recurrent cells, with its authors' optimizers.

    Arch step first. Weights: SGD without momentum, learning rate 20, coupled L2 5e-7,
    gradients clipped at 0.25, the step of a shortened window scaled by its length,
    slowness penalty. Arch: Adam (0.9, 0.999) with coupled L2 1e-3, its rate scaled up
    for short searches. Training and validation text have carried states of their own.

    Deviation: no dropout by default, for the authors' rates
    (``presets.recurrent.PUBLISHED_DROPOUTS``) belong to width 300 and words.

    In the authors' unrolled step the tied embedding keeps its old value by accident;
    that is not reproduced.

    Headline: 55.68 test perplexity on Penn Treebank (second order; released weights,
    the authors' README).

    Args:
      space: a recurrent space, e.g. `jnas.spaces.darts_rnn`.
      vocab_size: tokens of the corpus.
      width: of the embedding and the hidden state.
      bptt: times of a full window.
      epochs: length of the search.
      steps_per_epoch: steps of one epoch.
      learning_rate: of the weights, on a full window; constant.
      arch_learning_rate: of arch; None scales the published 3e-3 to the length of the
        search, at most 0.05.
      dropouts: rates; default none.
      weight_decay: of the weights.
      clip: maximal global norm of the weights' gradient.
      activation: weight of the activation penalty.
      slowness: weight of the slowness penalty.
      order: 1 or 2, of the hypergradient.
      second_order: of order 2: "exact", through the real step with its clipping, or
        "finite_difference", the authors' own rule (`jnas.bilevel.unrolled`).
      regularizer: a plug-in to add.
      dtype: compute dtype.

    Returns:
      The search.

    Raises:
      JnasError: an option is out of range or does not fit the space.

    Example:
      >>> import jnas
      >>> found = darts_rnn(jnas.spaces.darts_rnn(), vocab_size=65, width=16)
      >>> found.config["method"], found.supernet.per_stream
      ('darts_rnn', ('carry',))

    References:
      Liu, Simonyan, Yang, DARTS: Differentiable Architecture Search, ICLR 2019,
      https://arxiv.org/abs/1806.09055
    """
    for name, value in (
        ("learning_rate", learning_rate),
        ("arch_learning_rate", arch_learning_rate),
    ):
        if value is not None and not value > 0:
            raise JnasError(f"{name} must be positive, got {value!r}")
    if not weight_decay >= 0:
        raise JnasError(f"weight_decay must be >= 0, got {weight_decay!r}")
    for name, value in (("epochs", epochs), ("steps_per_epoch", steps_per_epoch)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise JnasError(f"{name} must be a positive integer, got {value!r}")
    if order not in (1, 2):
        raise JnasError(f"order must be 1 or 2, got {order!r}")
    net = supernet.recurrent(
        space, vocab_size=vocab_size, width=width, dropouts=dropouts, dtype=dtype
    )
    if arch_learning_rate is None:
        arch_learning_rate = figures.scaled_arch_rate(
            epochs * steps_per_epoch, _PUBLISHED_STEPS, _PUBLISHED_ARCH_RATE, _MOST
        )

    def sgd(clip):
        return optax.chain(
            optimizers.coupled_sgd(
                learning_rate, momentum=0.0, weight_decay=weight_decay, clip=clip
            ),
            optimizers.scale_by_window(bptt),
        )

    if order == 1:
        hypergradient = bilevel.first_order()
    elif second_order == "finite_difference":
        hypergradient = bilevel.unrolled(
            method=second_order, inner_tx=sgd(None), clip=clip
        )
    else:
        hypergradient = bilevel.unrolled(method=second_order)
    return search.differentiable(
        net,
        relaxation=relax.softmax(),
        hypergradient=hypergradient,
        regularizer=regularizer,
        selector=select.argmax(),
        task=supernet.language_modelling(activation, slowness),
        weight_tx=sgd(clip),
        arch_tx=optimizers.coupled_adam(arch_learning_rate, b1=0.9, b2=0.999),
        order="arch_first",
        recent=10,
        recent_every=steps_per_epoch,
        config={
            "method": "darts_rnn",
            "epochs": epochs,
            "steps_per_epoch": steps_per_epoch,
            "bptt": bptt,
            "learning_rate": learning_rate,
            "arch_learning_rate": arch_learning_rate,
            "weight_decay": weight_decay,
            "clip": clip,
            "activation": activation,
            "slowness": slowness,
            "hypergradient": "first_order"
            if order == 1
            else f"unrolled {second_order}",
        },
    )
