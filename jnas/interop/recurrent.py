"""DARTS' recurrent nets (quark0/darts, rnn): names and layouts of their arrays.

There, too, matrices act as ``x @ W``, so nothing is transposed. The embedding and the
decoder share one matrix; checkpoints may hold it under both names.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jnas.errors import JnasError
from jnas.interop import base
from jnas.networks import Network
from jnas.supernet import Supernet, Variables

__all__ = ["dump", "load"]

_TIED = "decoder.weight"


def _entries(net: Supernet | Network) -> list[base.Entry]:
    config = net.config or {}
    if config.get("model") != "recurrent":
        raise base.no_counterpart(
            f"a language model of the kind {config.get('model')!r}", ["recurrent"]
        )
    layer = "rnns.0"
    entries = [
        base.Entry("encoder.weight", "params", ("embedding",)),
        base.Entry("decoder.bias", "params", ("bias",)),
        base.Entry(f"{layer}._W0", "params", ("cell", "w0")),
    ]
    for i in range(config["nodes"]):
        entries.append(
            base.Entry(f"{layer}._Ws.{i}", "params", ("cell", "w"), row=i),
        )
    if isinstance(net, Supernet):
        entries += base.plain_norm(f"{layer}.bn", ())
    return entries


def load(arrays: Mapping[str, np.ndarray], net: Supernet | Network) -> Variables:
    """Loads a checkpoint of DARTS' recurrent code.

    Args:
      arrays: the state dict, from `jnas.interop.base.checked_arrays`.
      net: of `jnas.supernet.recurrent` or `jnas.networks.recurrent`.

    Returns:
      The variables, without a carried state: the first pass begins from zeros and gives
      one that fits its batch.

    Raises:
      JnasError: arrays are missing, extra or misshapen (each named), or the decoder's
        matrix is not the embedding's.

    Example:
      >>> import jnas
      >>> net = jnas.networks.recurrent("DARTS_RNN_V2", vocab_size=9, width=4)
      >>> tokens = {"tokens": np.zeros((1, 2), np.int32)}
      >>> arrays = dump(net.init(jax.random.key(0), tokens), net)
      >>> load(arrays, net).weights["cell"]["w"].shape
      (8, 4, 8)
    """
    arrays = dict(arrays)
    tied = arrays.pop(_TIED, None)
    embedding = arrays.get("encoder.weight")
    if tied is not None and embedding is not None:
        if not np.array_equal(tied, embedding):
            raise JnasError(
                f"{_TIED} must equal encoder.weight, for the two are one matrix here: "
                "this checkpoint was trained without tied weights"
            )
    elif tied is not None:
        arrays["encoder.weight"] = tied
    tokens = jax.ShapeDtypeStruct((2, 1), jnp.int32)
    template = jax.eval_shape(net.init, jax.random.key(0), {"tokens": tokens})
    state = {k: v for k, v in template.model_state.items() if k != "carry"}
    return base.load(_entries(net), arrays, Variables(template.weights, state))


def dump(variables: Any, net: Supernet | Network) -> dict[str, np.ndarray]:
    """The inverse of `load`; the carried state is left out.

    Args:
      variables: weights and model state.
      net: the network.

    Returns:
      name -> NumPy array.

    Raises:
      JnasError: the variables are not the network's.

    Example: see `load`.
    """
    state = getattr(variables, "model_state", None) or {}
    state = {k: v for k, v in state.items() if k != "carry"}
    weights = getattr(variables, "weights", None)
    return base.dump(_entries(net), Variables(weights, state or None))
