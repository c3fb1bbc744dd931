"""Loading and exporting the weights of DARTS' networks, whichever their kind."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jnas.errors import JnasError
from jnas.interop import base
from jnas.networks import Network
from jnas.supernet import Supernet, Variables

__all__ = ["arch_from_darts", "from_darts", "to_darts"]

# Names under which forks of the code register the architecture parameters.
_ARCH = {"alphas_normal": "normal", "alphas_reduce": "reduce"}


def _format(net: Any) -> Any:
    """The module that knows the network's table of names."""
    kind = base.family(net)
    if kind == "stages":
        raise JnasError(
            "this is a network of NAS-Bench-201's kind, not DARTS': use "
            "from_nasbench201 and to_nasbench201"
        )
    if kind == "recurrent":
        from jnas.interop import recurrent

        return recurrent
    from jnas.interop import convolutional

    return convolutional


def from_darts(arrays: Mapping[str, Any], net: Supernet | Network) -> Variables:
    """Loads a checkpoint of DARTS' code (quark0/darts).

    Args:
      arrays: the state dict, name -> NumPy array. A leading "module." is stripped;
        "num_batches_tracked" and architecture parameters are ignored. Running
        statistics are all given or none (then they are the initial ones).
      net: a search network or a final network of DARTS' kind, convolutional or
        recurrent, with the checkpoint's space or genotype, sizes and auxiliary head.

    Returns:
      The variables of the network, in the dtypes of its weights.

    Raises:
      JnasError: arrays are missing, extra or misshapen (each named) or no arrays of
        floating-point numbers; the network is not of DARTS' kind.

    Example:
      >>> import jnas
      >>> net = jnas.networks.build("DARTS_V2", channels=4, cells=3)
      >>> variables = net.init(jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32))
      >>> arrays = to_darts(variables, net)
      >>> arrays["cells.0._ops.0.op.1.weight"].shape
      (4, 1, 3, 3)
      >>> again = from_darts(arrays, net)
      >>> bool((again.weights["skeleton"]["stem_conv"]["kernel"]
      ...       == variables.weights["skeleton"]["stem_conv"]["kernel"]).all())
      True

    References:
      Liu, Simonyan, Yang, DARTS: Differentiable Architecture Search, ICLR 2019,
      https://arxiv.org/abs/1806.09055
    """
    own = _format(net)
    return own.load(base.checked_arrays(arrays, _ARCH), net)


def to_darts(variables: Variables, net: Supernet | Network) -> dict[str, np.ndarray]:
    """The inverse of `from_darts`: a state dict, exact in every bit.

    Args:
      variables: weights and model state. Any tree like the weights (a gradient, a
        momentum) is exported likewise; without model state (None or {}) no running
        statistics are.
      net: the network.

    Returns:
      name -> NumPy array; ``numpy.savez`` or ``torch.from_numpy`` take them.

    Raises:
      JnasError: the variables are not the network's, or the network is not of DARTS'
        kind.

    Example: see `from_darts`.
    """
    return _format(net).dump(variables, net)


def arch_from_darts(arrays: Mapping[str, Any]) -> dict[str, jax.Array]:
    """Architecture parameters of DARTS' convolutional search, as a search keeps them.

    Args:
      arrays: holds "alphas_normal" and "alphas_reduce", ``[edges, operations]``;
        other entries are ignored.

    Returns:
      ``{"normal": ..., "reduce": ...}``.

    Raises:
      JnasError: one is missing or no matrix of floating-point numbers.

    Example:
      >>> alpha = np.zeros((14, 8))
      >>> arch = arch_from_darts({"alphas_normal": alpha, "alphas_reduce": alpha})
      >>> arch["reduce"].shape
      (14, 8)
    """
    given = base.checked_arrays(arrays, only=_ARCH)
    return {group: base.matrix(given, name) for name, group in _ARCH.items()}
