"""Loading and exporting the weights of NAS-Bench-201's networks.

Source: Dong & Yang, NAS-Bench-201, ICLR 2020, in the code of D-X-Y/AutoDL-Projects:
``models/cell_searchs`` (the search network that DARTS, GDAS, SETN, ENAS and the random
search share) and ``models/cell_infers`` (the benchmark's networks).
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jnas.errors import JnasError
from jnas.interop import base, places
from jnas.interop.base import Entry
from jnas.networks import Network
from jnas.networks.cells import edge_name
from jnas.supernet import Supernet, Variables
from jnas.supernet.address import cell_name

__all__ = ["arch_from_nasbench201", "from_nasbench201", "to_nasbench201"]

_CONVOLUTIONS = ("nor_conv_1x1", "nor_conv_3x3")
_KNOWN = ("none", "skip_connect", "avg_pool_3x3", "max_pool_3x3", *_CONVOLUTIONS)
# Architecture parameters are part of the search networks' state dicts.
_ARCH = ("arch_parameters", "_arch_parameters")


def from_nasbench201(arrays: Mapping[str, Any], net: Supernet | Network) -> Variables:
    """Loads a checkpoint of NAS-Bench-201's code (AutoDL-Projects).

    Args:
      arrays: the state dict, name -> NumPy array. A leading "module." is stripped;
        "num_batches_tracked" and architecture parameters are ignored. Running
        statistics are all given or none (then they are the initial ones).
      net: from `jnas.supernet.build` or `jnas.networks.build`, with the checkpoint's
        space or genotype, channels and depth.

    Returns:
      The variables of the network, in the dtypes of its weights.

    Raises:
      JnasError: arrays are missing, extra or misshapen (each named) or no arrays of
        floating-point numbers; the network is not of NAS-Bench-201's kind.

    Example:
      >>> import jax, jnas
      >>> net = jnas.networks.build(
      ...     jnas.spaces.nasbench201().decode([3] * 6), channels=4, cells_per_stage=1)
      >>> variables = net.init(jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32))
      >>> arrays = to_nasbench201(variables, net)
      >>> arrays["cells.0.layers.5.op.1.weight"].shape
      (4, 4, 3, 3)
      >>> again = from_nasbench201(arrays, net)
      >>> bool((again.weights["skeleton"]["stem_conv"]["kernel"]
      ...       == variables.weights["skeleton"]["stem_conv"]["kernel"]).all())
      True

    References:
      Dong, Yang, NAS-Bench-201, ICLR 2020, https://arxiv.org/abs/2001.00326
    """
    entries = _entries(net)
    given = base.checked_arrays(arrays, _ARCH)
    images = base.input_shape(given, "stem.0.weight", 8)
    template = jax.eval_shape(net.init, jax.random.key(0), images)
    return base.load(entries, given, template)


def to_nasbench201(
    variables: Variables, net: Supernet | Network
) -> dict[str, np.ndarray]:
    """The inverse of `from_nasbench201`: a state dict, exact in every bit.

    Args:
      variables: weights and model state. Any tree like the weights is exported
        likewise; without model state (None or {}) no running statistics are.
      net: the network.

    Returns:
      name -> NumPy array.

    Raises:
      JnasError: the variables are not the network's, or the network is not of
        NAS-Bench-201's kind.

    Example: see `from_nasbench201`.
    """
    return base.dump(_entries(net), variables)


def arch_from_nasbench201(arrays: Mapping[str, Any]) -> dict[str, jax.Array]:
    """The architecture parameters in a state dict of a search network.

    Args:
      arrays: the state dict; its entry is "arch_parameters".

    Returns:
      ``{"cell": [edges, operations]}``, as in a search's state.

    Raises:
      JnasError: there are none, or they are no matrix of floating-point numbers.

    Example:
      >>> arch_from_nasbench201({"arch_parameters": np.zeros((6, 5))})["cell"].shape
      (6, 5)
    """
    given = base.checked_arrays(arrays, only=_ARCH)
    name = next((name for name in _ARCH if name in given), _ARCH[0])
    return {"cell": base.matrix(given, name)}


def _norm_and_kernel(name: str, path: tuple[str, ...]) -> list[Entry]:
    return [
        *base.weight(f"{name}.op.1", (*path, "conv", "kernel"), base.KERNEL),
        *base.affine_norm(f"{name}.op.2", (*path, "norm")),
    ]


def _entries(net: Supernet | Network) -> list[Entry]:
    kind = base.family(net)
    if kind != "stages":
        raise JnasError(
            "this is a network of DARTS' kind, not NAS-Bench-201's: use from_darts and "
            "to_darts"
        )
    per_stage = (net.config or {})["cells_per_stage"]
    skeleton = ("skeleton",)
    stem = (*skeleton, "stem_conv", "kernel")
    classifier = (*skeleton, "classifier")
    entries = [
        *base.weight("stem.0", stem, base.KERNEL),
        *base.affine_norm("stem.1", (*skeleton, "stem_norm")),
        *base.affine_norm("lastact.0", (*skeleton, "last_norm")),
        *base.weight("classifier", (*classifier, "kernel"), base.LINEAR),
        Entry("classifier.bias", "params", (*classifier, "bias")),
    ]
    # Cells and the residual blocks between stages are one list there.
    block = 0
    for stage in range(3):
        if stage:
            path = (*skeleton, f"reduction_{stage}")
            for part in ("conv_a", "conv_b"):
                entries += _norm_and_kernel(f"cells.{block}.{part}", (*path, part))
            entries += base.weight(
                f"cells.{block}.downsample.1",
                (*path, "shortcut", "kernel"),
                base.KERNEL,
            )
            block += 1
        for index in range(per_stage):
            position = stage * per_stage + index
            if isinstance(net, Supernet):
                entries += _search_cell(net, f"cells.{block}", position)
            else:
                entries += _final_cell(net, f"cells.{block}", position)
            block += 1
    return entries


def _check_operation(operation: str) -> None:
    if operation not in _KNOWN:
        raise base.no_counterpart(
            f"operation {operation!r} in NAS-Bench-201's networks", _KNOWN
        )


def _search_cell(net: Supernet, prefix: str, position: int) -> list[Entry]:
    """Convolutions with biases, normalisations without scale and shift."""
    (group,) = net.space.groups
    entries = []
    for column, operation in enumerate(group.operations):
        _check_operation(operation)
        if operation not in _CONVOLUTIONS:
            continue
        rows = places.stacked_rows(group, operation, 2, False)
        path = (cell_name(position), operation)
        for edge, (source, target) in enumerate(group.edges):
            name = f"{prefix}.edges.{target}<-{source}.{column}.op"
            row = rows[edge]
            kernel, bias = (*path, "kernel"), (*path, "bias")
            entries += [
                Entry(f"{name}.1.weight", "params", kernel, base.KERNEL, row),
                Entry(f"{name}.1.bias", "params", bias, row=row),
                *places.stacked_norm(f"{name}.2", (*path, "norm"), row),
            ]
    return entries


def _final_cell(net: Network, prefix: str, position: int) -> list[Entry]:
    """Convolutions without biases, normalisations with scale and shift."""
    ((_, cell),) = net.genotype.cells
    entries = []
    for number, (place, _, operation) in enumerate(places.sorted_edges(cell)):
        _check_operation(operation)
        if operation in _CONVOLUTIONS:
            name = f"{prefix}.layers.{number}.op"
            path = (cell_name(position), edge_name(place, operation))
            entries += base.weight(f"{name}.1", (*path, "kernel"), base.KERNEL)
            entries += base.affine_norm(f"{name}.2", (*path, "norm"))
    return entries
