"""The contract: what a final network is, and what it gives."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jnas.spaces import Genotype
from jnas.supernet.base import Variables
from jnas.supernet.sequence import SequenceOutputs

__all__ = ["Network", "Outputs", "logits_of"]


class Network(NamedTuple):
    """The final network of one genotype: pure functions and static data.

    Attributes:
      genotype: what it was built from.
      init: ``(key, inputs) -> Variables``; ``inputs`` is a batch or its shapes.
      apply: ``(weights, model_state, inputs, *, train, statistics=None, rates=None,
        key=None) -> (outputs, model_state)``. ``statistics`` is "batch" or "running"
        (default by ``train``); only "batch" updates the model state. ``rates`` may hold
        a (traced) "drop_path", which needs ``key`` and acts in training only. The
        outputs are the logits ``[B, num_classes]``, or `Outputs` where the network has
        an auxiliary head.
      config: how it was built, for the record.
    """

    genotype: Genotype
    init: Callable[..., Variables]
    apply: Callable[..., tuple[Any, Any]]
    config: dict[str, Any]


class Outputs(NamedTuple):
    """What a network with an auxiliary head gives.

    Attributes:
      logits: ``[B, num_classes]``.
      auxiliary: the auxiliary head's, likewise; None outside of training.
    """

    logits: jax.Array
    auxiliary: jax.Array | None = None


def logits_of(outputs: Any) -> jax.Array:
    """The logits of a network's outputs, whether or not it has an auxiliary head.

    Args:
      outputs: `Outputs`, `SequenceOutputs`, or the logits themselves.

    Returns:
      ``[B, num_classes]``, or of a language model ``[B, T, V]``.

    Example:
      >>> import jax.numpy as jnp
      >>> logits_of(Outputs(jnp.zeros((2, 10)))).shape
      (2, 10)
    """
    known = isinstance(outputs, Outputs | SequenceOutputs)
    return outputs.logits if known else outputs
