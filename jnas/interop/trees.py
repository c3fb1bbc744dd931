"""Between a state dict and our trees, by a table of names."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jnas.errors import JnasError
from jnas.interop.layouts import Entry
from jnas.supernet import Variables

__all__ = ["dump", "load"]

_LISTED = 8  # names of each kind in an error
# Pools of edges that share an input have one set of statistics here: the reference's
# copies are equal up to the rounding of parallel sums.
_SHARED_TOLERANCE = 1e-4


def _flatten(tree: Any, prefix: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    if not isinstance(tree, Mapping):
        return {prefix: tree}
    flat = {}
    for key, value in tree.items():
        flat |= _flatten(value, (*prefix, key))
    return flat


def _flatten_variables(variables: Any) -> dict[tuple[str, ...], Any]:
    return _flatten({"params": variables.weights, **(variables.model_state or {})})


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_LISTED])
    more = len(names) - _LISTED
    return f"{shown} and {more} more" if more > 0 else shown


def load(
    entries: Sequence[Entry], arrays: Mapping[str, np.ndarray], template: Variables
) -> Variables:
    """Fills our tree from a state dict.

    Args:
      entries: the table; it covers every leaf of the template.
      arrays: from `checked_arrays`.
      template: shapes and dtypes of our tree.

    Returns:
      The variables; without any running statistics in ``arrays`` they are the initial
      ones (mean 0, variance 1).

    Raises:
      JnasError: arrays are missing, extra or misshapen, each named; or statistics that
        are one here differ.

    Example:
      >>> import jax
      >>> from jnas.interop.layouts import LINEAR
      >>> shape = jax.ShapeDtypeStruct((2, 3), jnp.float32)
      >>> entries = [Entry("fc.weight", "params", ("kernel",), LINEAR)]
      >>> arrays = {"fc.weight": np.ones((3, 2), np.float32)}
      >>> variables = load(entries, arrays, Variables({"kernel": shape}, {}))
      >>> variables.weights["kernel"].shape
      (2, 3)
    """
    flat = _flatten_variables(template)
    with_state = any(e.name in arrays for e in entries if e.collection != "params")
    needed = [e for e in entries if with_state or e.collection == "params"]
    _check_names(needed, arrays, flat)
    filled: dict[tuple[str, ...], np.ndarray] = {}
    written: dict[tuple[Any, ...], tuple[str, np.ndarray]] = {}
    for entry in needed:
        place = (entry.collection, *entry.path)
        leaf = flat[place]
        target = filled.setdefault(place, np.empty(leaf.shape, leaf.dtype))
        value = entry.layout.load(arrays[entry.name])
        earlier = written.setdefault((place, entry.row), (entry.name, value))
        if earlier[1] is not value:
            _check_shared(earlier, (entry.name, value))
        elif entry.row is None:
            target[...] = value
        else:
            target[entry.row] = value
    for place, leaf in flat.items():
        if place not in filled:  # only statistics: the table covers all weights
            fill = 1 if place[-1].endswith("var") else 0
            filled[place] = np.full(leaf.shape, fill, leaf.dtype)
    tree: dict[str, Any] = {"params": {}}
    for place, value in filled.items():
        node = tree
        for key in place[:-1]:
            node = node.setdefault(key, {})
        node[place[-1]] = jnp.asarray(value)
    return Variables(tree.pop("params"), tree)


def _check_names(
    entries: Sequence[Entry],
    arrays: Mapping[str, np.ndarray],
    flat: Mapping[tuple[str, ...], Any],
) -> None:
    shapes = {}
    for entry in entries:
        shape = flat[entry.collection, *entry.path].shape
        shape = shape if entry.row is None else shape[1:]
        # The layout of an array that takes no memory.
        shapes[entry.name] = entry.layout.dump(np.broadcast_to(0.0, shape)).shape
    problems = {
        "missing": [name for name in shapes if name not in arrays],
        "extra": [name for name in arrays if name not in shapes],
        "misshapen": [
            f"{name} (got {list(arrays[name].shape)}, expected {list(shape)})"
            for name, shape in shapes.items()
            if name in arrays and arrays[name].shape != shape
        ],
    }
    told = [f"{kind}: {_listed(names)}" for kind, names in problems.items() if names]
    if told:
        raise JnasError(
            f"the arrays do not fit this network; {'; '.join(told)}. Build the network "
            "with the checkpoint's space or genotype, channels, depth, classes and "
            "auxiliary head"
        )


def _check_shared(
    first: tuple[str, np.ndarray], second: tuple[str, np.ndarray]
) -> None:
    scale = np.max(np.abs(first[1]), initial=1.0)
    # Written so that a NaN is refused, too.
    if not np.all(np.abs(first[1] - second[1]) <= _SHARED_TOLERANCE * scale):
        raise JnasError(
            f"arrays {first[0]} and {second[0]} must be equal, they are statistics of "
            "one pool of one state: this checkpoint is not the reference's"
        )


def dump(entries: Sequence[Entry], variables: Any) -> dict[str, np.ndarray]:
    """Makes a state dict of our tree.

    Args:
      entries: the table.
      variables: as from ``net.init``, or anything with the weights' structure in their
        place (gradients, momentum). Without model state (None or {}) there are no
        running statistics in the result.

    Returns:
      name -> array, with the dtypes of the leaves, in the order of the table.

    Raises:
      JnasError: the tree is not that of the network.

    Example:
      >>> from jnas.interop.layouts import LINEAR
      >>> entries = [Entry("fc.weight", "params", ("kernel",), LINEAR)]
      >>> tree = Variables({"kernel": jnp.ones((2, 3))}, None)
      >>> dump(entries, tree)["fc.weight"].shape
      (3, 2)
    """
    if not hasattr(variables, "weights") or not hasattr(variables, "model_state"):
        raise JnasError(
            "variables must have weights and model_state, as from net.init or a search "
            f"state, got {type(variables).__name__}: use Variables(weights, None)"
        )
    flat = _flatten_variables(variables)
    if not variables.model_state:
        entries = [e for e in entries if e.collection == "params"]
    places = {(e.collection, *e.path): None for e in entries}
    names = {place: "/".join(place) for place in [*places, *flat]}
    missing = [names[place] for place in places if place not in flat]
    extra = [names[place] for place in flat if place not in places]
    if missing or extra:
        told = [f"missing: {_listed(missing)}"] if missing else []
        told += [f"extra: {_listed(extra)}"] if extra else []
        raise JnasError(
            f"the variables are not this network's; {'; '.join(told)}. Pass what its "
            "init or from_... gave"
        )
    leaves = {place: np.asarray(flat[place]) for place in places}
    result = {}
    for entry in entries:
        place = (entry.collection, *entry.path)
        leaf = leaves[place]
        if entry.row is not None and (not leaf.ndim or entry.row >= len(leaf)):
            raise JnasError(
                f"variable {names[place]} has too few rows for this network, got shape "
                f"{list(leaf.shape)}: pass what its init or from_... gave"
            )
        own = leaf if entry.row is None else leaf[entry.row]
        result[entry.name] = np.ascontiguousarray(entry.layout.dump(own))
    return result
