"""Trained weights for exported modules: our arrays under their names and shapes."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jnas.errors import JnasError, unknown_name
from jnas.networks import cells as cell_modules
from jnas.networks import export_cells, export_fixed
from jnas.networks.build import cell_kinds
from jnas.spaces import Genotype
from jnas.supernet import address, macro

__all__ = ["export_variables", "write_arrays"]

_STEM = {
    "stem0_conv_a": "conv0",
    "stem0_norm_a": "norm0",
    "stem0_conv_b": "conv1",
    "stem0_norm_b": "norm1",
    "stem1_conv": "conv2",
    "stem1_norm": "norm2",
}
_LEAVES = ("kernel", "scale", "bias", "mean", "var")


def export_variables(
    genotype: Genotype | str,
    weights: Any,
    model_state: Any = None,
    *,
    style: str = "linen",
    auxiliary: bool = False,
) -> dict[str, Any]:
    """Maps trained weights to the variables of `export_module`'s module.

    Args:
      genotype: what the network was built from.
      weights: of `jnas.networks.build` or `recurrent`, trained.
      model_state: likewise.
      style: "linen" or "nnx".
      auxiliary: whether the module has the auxiliary head; else its weights are left
        out.

    Returns:
      Nested dicts of NumPy arrays: for Linen ``{"params": ..., "batch_stats": ...}``,
      for NNX all of them by the model's attributes.

    Raises:
      JnasError: the weights are not of such a network.

    Example:
      >>> import jax, jnas
      >>> net = jnas.networks.build("DARTS_V2", channels=4, cells=3)
      >>> shape = jax.ShapeDtypeStruct((2, 8, 8, 3), "float32")
      >>> weights, state = jax.eval_shape(net.init, jax.random.key(0), shape)
      >>> weights["cell_0"]["edge0_sep_conv_3x3"]["depthwise0"].shape
      (3, 3, 4)
      >>> variables = export_variables("DARTS_V2", weights, state)
      >>> variables["params"]["cell_0"]["edge0"]["depthwise0"]["kernel"].shape
      (3, 3, 1, 4)
    """
    if style not in ("linen", "nnx"):
        raise unknown_name("style", style, ("linen", "nnx"))
    if isinstance(genotype, str):
        genotype = Genotype.parse(genotype)
    statistics = (model_state or {}).get("batch_stats", {})
    names = _Names(genotype, weights, auxiliary)
    variables: dict[str, Any] = {}
    for collection, tree in (("params", weights), ("batch_stats", statistics)):
        for path, leaf in _leaves(tree):
            place = names.place(path)
            if place is None:
                continue
            if style == "linen":
                place = [collection, *place]
            elif place[0].startswith("cell_"):
                place = ["cells", place[0].removeprefix("cell_"), *place[1:]]
            _put(variables, place, _value(path[-1], leaf))
    return variables


def write_arrays(path: str | os.PathLike[str], variables: Mapping[str, Any]) -> None:
    """Writes variables to an .npz file, which ``load`` of an exported module reads.

    Args:
      path: of the file; its name ends in ".npz".
      variables: nested dicts of arrays, such as of `export_variables`.

    Raises:
      JnasError: the name ends otherwise.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     file = Path(folder, "w.npz")
      ...     write_arrays(file, {"params": {"bias": np.zeros(3)}})
      ...     with np.load(file) as arrays:
      ...         arrays.files
      ['params/bias']
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise JnasError(f"weights are written to an .npz file, got {path.name!r}")
    flat = {"/".join(keys): np.asarray(leaf) for keys, leaf in _leaves(variables)}
    part = path.with_name(f".{path.stem}.part.npz")
    try:
        np.savez(part, **flat)  # pyrefly: ignore[bad-argument-type]
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _leaves(tree: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[list[str], Any]]:
    if not isinstance(tree, Mapping):
        yield list(path), tree
        return
    for name, below in tree.items():
        yield from _leaves(below, (*path, str(name)))


def _put(tree: dict[str, Any], path: list[str], value: Any) -> None:
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = value


def _value(name: str, leaf: Any) -> Any:
    """A leaf in the shape of Flax' layers; shapes stand for arrays as well."""
    shape = tuple(leaf.shape)
    if name.startswith("depthwise"):
        shape = (*shape[:2], 1, shape[2])
    elif name in ("even", "odd") or name.startswith("pointwise"):
        shape = (1, 1, *shape)
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct(shape, leaf.dtype)
    return np.asarray(leaf).reshape(shape)


class _Names:
    """The names of a network's weights in the exported module."""

    def __init__(self, genotype: Genotype, weights: Any, auxiliary: bool):
        self._auxiliary = auxiliary
        self._plans: list[export_cells.Plan] = []
        self._recurrent = genotype.names == ("recurrent",)
        if self._recurrent:
            self._check({"cell", "embedding", "bias"} <= set(weights))
            return
        self._check("skeleton" in weights)
        skeleton = weights["skeleton"]
        stages = not genotype.is_darts_like
        if stages:
            # Cells without weights leave no trace; more plans than cells do no harm.
            count = 1 + max(
                [int(name[5:]) for name in weights if name[:5] == "cell_"], default=0
            )
            kinds = genotype.names * count
        else:
            cells = sum(name.startswith("preprocess1_") for name in skeleton)
            self._check(cells > 2)
            kinds = cell_kinds(genotype.names, cells, None)
        self._check(("last_norm" in skeleton) == stages)
        places = macro.reduction_positions(len(kinds))
        for position, kind in enumerate(kinds):
            if kind not in genotype.names:
                own = weights.get(address.cell_name(position), {})
                self._check("halving0" in own)
                self._plans.append(export_fixed.PLAN)
                continue
            plan = export_cells.plan(genotype[kind], 1 if stages else 2)
            self._plans.append(plan)
            for node in plan.nodes:
                for index, edge in node.edges:
                    stride = export_cells.stride(
                        edge, 2, not stages and position in places
                    )
                    if export_cells.has_layer(edge, stride):
                        name = cell_modules.edge_name(index, edge.operation)
                        self._check(
                            name in weights.get(address.cell_name(position), {})
                        )

    def _check(self, fits: bool) -> None:
        if not fits:
            raise JnasError(
                "the weights are not those of this genotype's network: pass the "
                "genotype that they were trained with"
            )

    def place(self, path: list[str]) -> list[str] | None:
        """The path in a Linen module; None for what it does not have."""
        if self._recurrent:
            return path
        first, *rest = path
        if first == "auxiliary":
            return self._layer(path) if self._auxiliary else None
        if first.startswith("cell_"):
            if rest[0].startswith("edge"):
                return self._edge(first, *rest)
            return self._layer(path)
        name, *rest = rest  # below "skeleton"
        if name in _STEM:
            return ["stem", _STEM[name], *rest]
        if not name.startswith("preprocess"):
            return [name, *rest]
        name, position = name.split("_")
        if (
            int(name.removeprefix("preprocess"))
            not in self._plans[int(position)].inputs
        ):
            return None
        return self._layer([address.cell_name(int(position)), name, *rest])

    def _edge(self, cell: str, edge: str, *rest: str) -> list[str] | None:
        number = int(edge.removeprefix("edge").split("_")[0])
        plan = self._plans[int(cell.removeprefix("cell_"))]
        if all(number != i for node in plan.nodes for i, _ in node.edges):
            return None
        if rest[0].startswith("kernel"):
            rest = (rest[0].replace("kernel", "conv"),)
        return self._layer([cell, export_cells.edge_name(number), *rest])

    def _layer(self, path: list[str]) -> list[str]:
        """Adds the name of the array where ours is the layer's."""
        return path if path[-1] in _LEAVES else [*path, "kernel"]
