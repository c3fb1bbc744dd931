"""Names and layouts of quark0/darts' convolutional networks.

Source: Liu et al., DARTS, ICLR 2019, the authors' ``cnn/model_search.py`` (search) and
``cnn/model.py`` (CIFAR and ImageNet), whose state dicts PC-DARTS' and P-DARTS' final
networks share.
"""

from collections.abc import Mapping

import jax
import numpy as np

from jnas.errors import JnasError
from jnas.interop import base
from jnas.interop.base import Entry
from jnas.interop.places import sorted_edges, stacked_norm, stacked_rows
from jnas.networks import Network
from jnas.networks.build import cell_kinds
from jnas.networks.cells import edge_name
from jnas.spaces import Group
from jnas.supernet import Supernet, Variables
from jnas.supernet.address import cell_name
from jnas.supernet.macro import reduction_positions

__all__ = [
    "dump",
    "load",
    "operation_norms",
    "operation_weights",
]

_POOLS = ("avg_pool_3x3", "max_pool_3x3")
_SEPARABLE = {
    "sep_conv_3x3": 2,
    "sep_conv_5x5": 2,
    "sep_conv_7x7": 2,
    "dil_conv_3x3": 1,
    "dil_conv_5x5": 1,
}
_KNOWN = ("none", "skip_connect", "conv_7x1_1x7", *_POOLS, *_SEPARABLE)

Part = tuple[str, str, base.Layout]


def operation_weights(operation: str, stride: int) -> list[Part]:
    """The weights of one edge's operation.

    Args:
      operation: its name.
      stride: 1 or 2.

    Returns:
      Of each: the module's name there, the leaf's name here, the layout.

    Example:
      >>> [(there, here) for there, here, _ in operation_weights("dil_conv_3x3", 1)]
      [('op.1', 'depthwise0'), ('op.2', 'pointwise0')]
    """
    if operation in _SEPARABLE:
        parts = []
        for i in range(_SEPARABLE[operation]):
            # (ReLU, depthwise, pointwise, norm) in one list of modules.
            parts += [
                (f"op.{4 * i + 1}", f"depthwise{i}", base.DEPTHWISE),
                (f"op.{4 * i + 2}", f"pointwise{i}", base.POINTWISE),
            ]
        return parts
    if operation == "conv_7x1_1x7":
        return [("1", "kernel0", base.KERNEL), ("2", "kernel1", base.KERNEL)]
    if operation == "skip_connect" and stride == 2:
        return [
            ("conv_1", "even", base.POINTWISE),
            ("conv_2", "odd", base.POINTWISE),
        ]
    return []


def operation_norms(operation: str, stride: int) -> list[tuple[str, str]]:
    """The normalisations of one edge's operation, besides those of pools.

    Args:
      operation: its name.
      stride: 1 or 2.

    Returns:
      Of each: the module's name there, its name here.

    Example:
      >>> operation_norms("skip_connect", 2), operation_norms("skip_connect", 1)
      ([('bn', 'norm')], [])
    """
    if operation in _SEPARABLE:
        repeats = _SEPARABLE[operation]
        return [(f"op.{4 * i + 3}", f"norm{i}") for i in range(repeats)]
    if operation == "conv_7x1_1x7":
        return [("3", "norm")]
    if operation == "skip_connect" and stride == 2:
        return [("bn", "norm")]
    return []


def _preprocess(name: str, path: tuple[str, ...], halved: bool, affine: bool):
    norm = base.affine_norm if affine else base.plain_norm
    if halved:
        return [
            *base.weight(f"{name}.conv_1", (*path, "even"), base.POINTWISE),
            *base.weight(f"{name}.conv_2", (*path, "odd"), base.POINTWISE),
            *norm(f"{name}.bn", (*path, "norm")),
        ]
    return [
        *base.weight(f"{name}.op.1", (*path, "conv", "kernel"), base.KERNEL),
        *norm(f"{name}.op.2", (*path, "norm")),
    ]


def _stem(stem: str) -> list[Entry]:
    if stem == "cifar":
        pairs = [("stem.0", "stem_conv", "stem.1", "stem_norm")]
    else:
        pairs = [
            ("stem0.0", "stem0_conv_a", "stem0.1", "stem0_norm_a"),
            ("stem0.3", "stem0_conv_b", "stem0.4", "stem0_norm_b"),
            ("stem1.1", "stem1_conv", "stem1.2", "stem1_norm"),
        ]
    entries = []
    for conv, our_conv, norm, our_norm in pairs:
        entries += base.weight(conv, ("skeleton", our_conv, "kernel"), base.KERNEL)
        entries += base.affine_norm(norm, ("skeleton", our_norm))
    return entries


def _linear(name: str, path: tuple[str, ...]) -> list[Entry]:
    return [
        Entry(f"{name}.weight", "params", (*path, "kernel"), base.LINEAR),
        Entry(f"{name}.bias", "params", (*path, "bias")),
    ]


def _head(stem: str) -> list[Entry]:
    name, path = "auxiliary_head", ("auxiliary",)
    return [
        *base.weight(f"{name}.features.2", (*path, "conv_a", "kernel"), base.KERNEL),
        *base.affine_norm(f"{name}.features.3", (*path, "norm_a")),
        *base.weight(f"{name}.features.5", (*path, "conv_b"), base.KERNEL),
        # The ImageNet head lacks the second normalisation.
        *(
            base.affine_norm(f"{name}.features.6", (*path, "norm_b"))
            if stem == "cifar"
            else []
        ),
        *_linear(f"{name}.classifier", (*path, "classifier")),
    ]


def _check_operation(operation: str) -> None:
    if operation not in _KNOWN:
        raise base.no_counterpart(f"operation {operation!r} in DARTS' networks", _KNOWN)


def _skeleton(cells: int, stem: str, affine: bool) -> list[Entry]:
    entries, halved = _stem(stem), stem == "imagenet"
    for position in range(cells):
        for which, half in ((0, halved), (1, False)):
            name = f"cells.{position}.preprocess{which}"
            path = ("skeleton", f"preprocess{which}_{position}")
            entries += _preprocess(name, path, half, affine)
        halved = position in reduction_positions(cells)
    return entries + _linear("classifier", ("skeleton", "classifier"))


def _search_cell(group: Group, position: int, reduction: bool) -> list[Entry]:
    entries = []
    sources = sorted({source for source, _ in group.edges})
    for column, operation in enumerate(group.operations):
        path = (cell_name(position), operation)
        rows = stacked_rows(group, operation, 2, reduction)
        for edge, (source, _) in enumerate(group.edges):
            name = f"cells.{position}._ops.{edge}._ops.{column}"
            stride = 2 if reduction and source < group.inputs else 1
            if operation in _POOLS:
                # One normalisation per state, which all edges leaving it share.
                row = sources.index(source)
                entries += stacked_norm(f"{name}.1", (*path, "norm"), row)
            for module, leaf, layout in operation_weights(operation, stride):
                own = f"{name}.{module}.weight"
                place = (*path, leaf)
                entries.append(Entry(own, "params", place, layout, rows[edge]))
            for module, norm in operation_norms(operation, stride):
                row = rows[edge]
                entries += stacked_norm(f"{name}.{module}", (*path, norm), row)
    return entries


def _search_entries(net: Supernet) -> list[Entry]:
    """The table of DARTS' search network."""
    cells = (net.config or {})["cells"]
    for group in net.space.groups:
        for operation in group.operations:
            _check_operation(operation)
        nodes = sorted({target for _, target in group.edges})
        full = tuple((source, node) for node in nodes for source in range(node))
        if group.edges != full:
            raise JnasError(
                f"the papers' code has no counterpart of group {group.name!r}: its "
                f"edges must be {full}, got {group.edges}"
            )
    entries = _skeleton(cells, "cifar", affine=False)
    for position in range(cells):
        reduction = position in reduction_positions(cells)
        group = net.space.group("reduce" if reduction else "normal")
        entries += _search_cell(group, position, reduction)
    return entries


def _final_entries(net: Network) -> list[Entry]:
    """The table of a final network of DARTS' kind."""
    config, genotype = net.config, net.genotype
    entries = _skeleton(config["cells"], config["stem"], affine=True)
    kinds = cell_kinds(genotype.names, config["cells"], None)
    for position, kind in enumerate(kinds):
        edges = sorted_edges(genotype[kind])
        for number, (place, source, operation) in enumerate(edges):
            _check_operation(operation)
            name = f"cells.{position}._ops.{number}"
            path = (cell_name(position), edge_name(place, operation))
            stride = 2 if kind == "reduce" and source < 2 else 1
            for module, leaf, layout in operation_weights(operation, stride):
                entries += base.weight(f"{name}.{module}", (*path, leaf), layout)
            for module, norm in operation_norms(operation, stride):
                entries += base.affine_norm(f"{name}.{module}", (*path, norm))
    return entries + (_head(config["stem"]) if config["auxiliary"] else [])


def _entries(net: Supernet | Network) -> list[Entry]:
    return _search_entries(net) if isinstance(net, Supernet) else _final_entries(net)


def load(arrays: Mapping[str, np.ndarray], net: Supernet | Network) -> Variables:
    """Loads a state dict into a network with DARTS' skeleton.

    Args:
      arrays: from `jnas.interop.base.checked_arrays`.
      net: the network.

    Returns:
      Its variables.

    Raises:
      JnasError: see `jnas.interop.from_darts`.
    """
    entries = _entries(net)
    config = net.config or {}
    imagenet = config.get("stem") == "imagenet"
    stem = "stem0.0.weight" if imagenet else "stem.0.weight"
    # The smallest images that every network takes; weights don't depend on them.
    images = base.input_shape(arrays, stem, 224 if imagenet else 32)
    template = jax.eval_shape(net.init, jax.random.key(0), images)
    return base.load(entries, arrays, template)


def dump(variables: Variables, net: Supernet | Network) -> dict[str, np.ndarray]:
    """Makes a state dict of the variables of a network with DARTS' skeleton.

    Args:
      variables: weights and model state, the latter may be None.
      net: the network.

    Returns:
      name -> array.

    Raises:
      JnasError: see `jnas.interop.to_darts`.
    """
    return base.dump(_entries(net), variables)
