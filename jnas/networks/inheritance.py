"""Weight inheritance: a final network that begins with a supernet's weights.

Deviation to know of: in a supernet the normalisations have no scale and shift and those
of NAS-Bench-201's convolutions are preceded by a bias, in the final network it is the
other way round. So scales and shifts stay as initialised and the biases are dropped,
which changes nothing under the batch's own statistics: these remove any bias.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import traverse_util

from jnas.errors import JnasError
from jnas.networks.base import Network
from jnas.networks.build import cell_kinds
from jnas.networks.cells import edge_name
from jnas.spaces import Group
from jnas.supernet import address, operations
from jnas.supernet.base import Supernet, Variables
from jnas.supernet.stacked import operation_rows

__all__ = ["inherit"]

_SAME = ("channels", "cells", "cells_per_stage")
_SAME_RECURRENT = ("width", "vocab_size")
Flat = dict[tuple[str, ...], Any]


def inherit(
    variables: Variables, network: Network, supernet: Supernet, weights: Any
) -> Variables:
    """Copies the weights that a genotype's network shares with its supernet.

    Copied are the operations of the genotype, and of stem, preprocessing, reductions
    and classifier what has the same shape in both; of recurrent networks everything.
    Running statistics are not: those of a supernet belong to its mixture of operations.

    Args:
      variables: of the network, from ``network.init``.
      network: the final network, with the supernet's channels and depth.
      supernet: what was searched, from `jnas.supernet.build` or `recurrent`.
      weights: the supernet's weights.

    Returns:
      The network's variables, in their own dtypes.

    Raises:
      JnasError: the two differ in channels or depth, or the genotype is not in the
        supernet's space.

    Example:
      >>> import jax, jnas
      >>> space = jnas.spaces.nasbench201()
      >>> search = jnas.supernet.build(space, channels=4, cells_per_stage=1)
      >>> final = jnas.networks.build(
      ...     space.decode([3] * 6), channels=4, cells_per_stage=1)
      >>> image, key = jnp.zeros((1, 8, 8, 1)), jax.random.key(0)
      >>> shared = search.init(key, image).weights
      >>> new = inherit(final.init(key, image), final, search, shared).weights
      >>> kernel = new["cell_0"]["edge5_nor_conv_3x3"]["kernel"]
      >>> rows = shared["cell_0"]["nor_conv_3x3"]["kernel"]
      >>> any(bool(jnp.array_equal(kernel, row)) for row in rows)
      True
    """
    if network.config.get("model") == "recurrent":
        return _inherit_recurrent(variables, network, supernet, weights)
    _check(network, supernet)
    genotype, own = network.genotype, network.config
    flat: Flat = traverse_util.flatten_dict(variables.weights)
    shared: Flat = traverse_util.flatten_dict(weights)
    copies: Flat = {
        path: shared[path]
        for path, leaf in flat.items()
        if path[0] == "skeleton" and path in shared and shared[path].shape == leaf.shape
    }
    kinds = cell_kinds(genotype.names, own["cells"], own["cells_per_stage"])
    for position, kind in enumerate(kinds):
        reduction = kind == "reduce" and own["cells"] is not None
        prefix = address.cell_name(position)
        if kind not in genotype.names:  # a fixed cell
            copies |= {p: v for p, v in shared.items() if p[0] == prefix}
            continue
        for index, edge in enumerate(genotype[kind].edges):
            source = _edge_weights(
                shared,
                prefix,
                supernet.space.group(kind),
                edge,
                channels=own["channels"],
                reduction=reduction,
            )
            name = edge_name(index, edge.operation)
            for path, value in source.items():
                copies[(prefix, name, *path)] = value
    for path, value in copies.items():
        if path not in flat or flat[path].shape != value.shape:
            expected = flat[path].shape if path in flat else "nothing"
            raise JnasError(
                f"weight {'/'.join(path)} does not fit: the supernet has "
                f"{value.shape}, the network {expected}: the operations of this "
                "supernet are not those of the final network"
            )
        flat[path] = jnp.asarray(value, flat[path].dtype)
    return Variables(traverse_util.unflatten_dict(flat), variables.model_state)


def _inherit_recurrent(variables, network, supernet, weights) -> Variables:
    """All weights: a node's matrix serves every operation of the supernet."""
    _check(network, supernet, _SAME_RECURRENT)
    copied = jax.tree.map(
        lambda own, shared: jnp.asarray(shared, own.dtype), variables.weights, weights
    )
    return Variables(copied, variables.model_state)


def _check(
    network: Network, supernet: Supernet, names: tuple[str, ...] = _SAME
) -> None:
    config = supernet.config or {}
    for name in names:
        if name not in config:
            raise JnasError(
                "weights are inherited from supernets made by jnas.supernet.build, and "
                "recurrent ones from jnas.supernet.recurrent; this one's config has no "
                f"{name!r}"
            )
        if config[name] != network.config[name]:
            raise JnasError(
                f"{name} must be those of the supernet to inherit its weights, got "
                f"{network.config[name]} and {config[name]}: build both alike"
            )
    supernet.space.one_hot(network.genotype)  # raises unless it is in the space


def _edge_weights(
    shared: Flat,
    prefix: str,
    group: Group,
    edge: Any,
    *,
    channels: int,
    reduction: bool,
) -> Flat:
    """The supernet's weights of one edge's operation, by path below the edge."""
    operation = operations.get_operation(edge.operation)
    number = group.edges.index((edge.source, edge.target))
    if operation is None:
        return {}
    if not isinstance(operation, operations.Operation):
        start = (prefix, f"{edge.operation}_{number}")
        return {p[2:]: v for p, v in shared.items() if p[:2] == start}
    stride = 2 if reduction and edge.source < group.inputs else 1
    rows = operation_rows(group, edge.operation, channels, reduction).edges
    result: Flat = {}
    for name in operation.parameters(channels, stride, True):
        path = (prefix, edge.operation, name)
        if path not in shared:
            raise JnasError(
                f"the supernet's weights have no {'/'.join(path)}: pass the weights "
                "that belong to this supernet"
            )
        result[(name,)] = shared[path][rows.index(number)]
    return result
