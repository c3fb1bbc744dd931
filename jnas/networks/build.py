"""`build`: the final network of a genotype.

Sources: Liu et al., DARTS, ICLR 2019, appendix A.2 and A.3 (networks for CIFAR-10 and
ImageNet), Dong & Yang, NAS-Bench-201, ICLR 2020, section 2; details as in the authors'
code. Reduction cells of genotypes without one: `jnas.supernet.fixed_reduction`. Drop
path: Larsson et al., FractalNet, ICLR 2017, per operation and sample as in
Zoph et al., CVPR 2018; it also acts on pools and on the skip connections of stride 2.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jnas.errors import JnasError, unknown_name
from jnas.networks import auxiliary as auxiliary_heads
from jnas.networks import base
from jnas.networks import cells as cell_modules
from jnas.spaces import Cell, Genotype
from jnas.supernet import address, fixed_reduction, initial, layers, macro, operations
from jnas.supernet.base import Variables
from jnas.supernet.build import check_positive

__all__ = ["build", "cell_kinds"]

_STEMS = ("cifar", "imagenet")
_RATES = ("drop_path",)


class _GenotypeNetwork(nn.Module):
    """A skeleton whose cells are those of a genotype."""

    genotype: Genotype
    kinds: tuple[str, ...]  # per position: name of the cell
    channels: int
    num_classes: int
    stages: bool
    auxiliary: bool
    stem: str
    dtype: Any

    @nn.compact
    def __call__(self, images, statistics, train, scales):
        def make_cell(position, channels, reduction):
            own = None if scales is None else scales[position]
            if self.kinds[position] not in self.genotype.names:
                fixed = fixed_reduction.FixedReduction(
                    True, parent=self, name=address.cell_name(position)
                )
                return lambda states: fixed(states, statistics, own)
            cell = cell_modules.GenotypeCell(
                self.genotype[self.kinds[position]],
                1 if self.stages else 2,
                channels,
                reduction,
                parent=self,
                name=address.cell_name(position),
            )
            return lambda states: cell(states, statistics, train, own)

        if self.stages:
            skeleton = macro.StagesSkeleton(
                make_cell,
                self.channels,
                len(self.kinds) // 3,
                self.num_classes,
                dtype=self.dtype,
                name="skeleton",
            )
        else:
            skeleton = macro.DartsSkeleton(
                make_cell,
                self.channels,
                len(self.kinds),
                self.num_classes,
                affine=True,
                dtype=self.dtype,
                imagenet_stem=self.stem == "imagenet",
                name="skeleton",
            )
        logits, middle = skeleton(images, statistics)
        if not self.auxiliary:
            return logits
        head = None
        if train or self.is_initializing():
            head = auxiliary_heads.AuxiliaryHead(
                self.num_classes, self.stem, name="auxiliary"
            )(middle, statistics)
        return base.Outputs(logits, head)


def cell_kinds(
    names: tuple[str, ...], num_cells: int | None, cells_per_stage: int | None
) -> tuple[str, ...]:
    """Which of a genotype's cells stands at each position of the network.

    Args:
      names: of the genotype's cells.
      num_cells: number of cells, of genotypes with "normal" and "reduce", or with
        "normal" alone, between fixed reduction cells.
      cells_per_stage: cells in each of three stages, of genotypes with one cell.

    Returns:
      A name for each position.

    Raises:
      JnasError: the depth is given wrongly, or no network is known for the cells.

    Example:
      >>> cell_kinds(("normal", "reduce"), 4, None)
      ('normal', 'reduce', 'reduce', 'normal')
    """
    if set(names) in ({"normal", "reduce"}, {"normal"}):
        if cells_per_stage is not None:
            raise JnasError(
                f"a genotype with cells {list(names)} takes cells=..., got "
                f"cells_per_stage={cells_per_stage!r}"
            )
        num_cells = 20 if num_cells is None else num_cells
        check_positive(cells=num_cells)
        if num_cells < 3:
            raise JnasError(
                f"cells must be at least 3 (two of them reduce), got {num_cells}"
            )
        places = macro.reduction_positions(num_cells)
        return tuple("reduce" if i in places else "normal" for i in range(num_cells))
    if len(names) != 1:
        raise JnasError(
            f"no network is known for a genotype with cells {list(names)}: expected "
            "['normal', 'reduce'] or ['normal'] (DARTS) or one other cell "
            "(NAS-Bench-201)"
        )
    if num_cells is not None:
        raise JnasError(
            "a genotype with one cell takes cells_per_stage=..., got "
            f"cells={num_cells!r}"
        )
    cells_per_stage = 5 if cells_per_stage is None else cells_per_stage
    check_positive(cells_per_stage=cells_per_stage)
    return names * (3 * cells_per_stage)


def _check_cell(name: str, cell: Cell, inputs: int, stages: bool) -> None:
    """Refuses cells that can't be evaluated in this network."""
    for edge in cell.edges:
        operations.get_operation(edge.operation)
        if edge.target < inputs:
            raise JnasError(
                f"cell {name!r} has an edge into state {edge.target}: states "
                f"0..{inputs - 1} are the cell's inputs in this network"
            )
    known = {*range(inputs), *(edge.target for edge in cell.edges)}
    for state in (*(edge.source for edge in cell.edges), *cell.concat):
        if state not in known:
            raise JnasError(
                f"cell {name!r} reads state {state}, into which no edge leads: add "
                "one, or leave the state out"
            )
    if name == "reduce" and min(cell.concat) < inputs:
        raise JnasError(
            f"cell 'reduce' puts out its input state {min(cell.concat)}, which is "
            "larger than its nodes: leave it out of concat"
        )
    if stages and len(cell.concat) != 1:
        raise JnasError(
            f"cell {name!r} must put out one state in this network, got concat "
            f"{list(cell.concat)}"
        )


def build(
    genotype: Genotype | str,
    *,
    channels: int = 36,
    cells: int | None = None,
    cells_per_stage: int | None = None,
    num_classes: int = 10,
    auxiliary: bool = False,
    stem: str = "cifar",
    dtype: Any = jnp.float32,
) -> base.Network:
    """Builds the final network of a genotype.

    Genotypes with the cells "normal" and "reduce", of any number of nodes, get DARTS'
    evaluation network: ``cells`` cells with reductions at 1/3 and 2/3; with "normal"
    alone, the reduction cells are the fixed ones of GDAS (FRC). Genotypes with another
    cell get NAS-Bench-201's: three stages of ``cells_per_stage`` cells (there the
    authors' ``channels`` is 16). Normalisations have a scale and a shift; pools are
    not normalised.

    Args:
      genotype: the genotype, or a text that `Genotype.parse` understands.
      channels: of the first cells.
      cells: number of cells (default 20), for DARTS-like genotypes.
      cells_per_stage: cells per stage (default 5), for NAS-Bench-201-like genotypes.
      num_classes: outputs.
      auxiliary: whether there is an auxiliary head; then the outputs are `Outputs`.
      stem: "cifar" (images of 8x8 and more, the sizes multiples of 4), or "imagenet"
        (three convolutions of stride 2; multiples of 32).
      dtype: compute dtype; parameters, statistics and logits are at least float32.

    Returns:
      The network.

    Raises:
      JnasError: an option is out of range or does not fit the genotype.

    Example:
      >>> import jax
      >>> net = build("DARTS_V2", channels=4, cells=3)
      >>> shape = jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.float32)
      >>> variables = jax.eval_shape(net.init, jax.random.key(0), shape)
      >>> variables.weights["skeleton"]["stem_conv"]["kernel"].shape
      (3, 3, 1, 12)
    """
    if isinstance(genotype, str):
        genotype = Genotype.parse(genotype)
    if not isinstance(genotype, Genotype):
        raise JnasError(
            f"genotype must be a jnas.Genotype or its text, got "
            f"{type(genotype).__name__}"
        )
    check_positive(channels=channels, num_classes=num_classes)
    if stem not in _STEMS:
        raise unknown_name("stem", stem, _STEMS)
    dtype = layers.check_dtype(dtype)
    kinds = cell_kinds(genotype.names, cells, cells_per_stage)
    stages = not genotype.is_darts_like
    if stages and (auxiliary or stem != "cifar"):
        raise JnasError(
            "a network of one kind of cell (NAS-Bench-201) has no auxiliary head and "
            f"no stem but 'cifar', got auxiliary={auxiliary!r}, stem={stem!r}"
        )
    if stem == "imagenet" and channels % 2:
        raise JnasError(
            f"channels must be even with the imagenet stem, got {channels}: its first "
            "convolution has half of them"
        )
    for name, cell in genotype.cells:
        _check_cell(name, cell, 1 if stages else 2, stages)
    used = {edge.operation for _, cell in genotype.cells for edge in cell.edges}
    most_edges = max(len(cell.edges) for _, cell in genotype.cells)
    if not set(kinds) <= set(genotype.names):
        most_edges = max(most_edges, fixed_reduction.PATHS)
    module = _GenotypeNetwork(
        genotype, kinds, channels, num_classes, stages, bool(auxiliary), stem, dtype
    )
    config = {
        "genotype": genotype.to_text(),
        "channels": channels,
        "cells": None if stages else len(kinds),
        "cells_per_stage": len(kinds) // 3 if stages else None,
        "num_classes": num_classes,
        "auxiliary": bool(auxiliary),
        "stem": stem,
        "dtype": dtype.name,
    }

    def check(inputs, head):
        macro.check_images(inputs, 32 if stem == "imagenet" else 4)
        if head:
            height, width = inputs.shape[1:3]
            auxiliary_heads.check_size(height, width, stem)

    def init(key, inputs):
        check(inputs, auxiliary)
        images = jnp.zeros((1, *inputs.shape[1:]), inputs.dtype)
        variables = initial.initial_variables(
            lambda key: module.init(key, images, "batch", False, None), key
        )
        state = {k: v for k, v in variables.items() if k != "params"}
        return Variables(variables["params"], state)

    def apply(
        weights,
        model_state,
        inputs,
        *,
        train,
        statistics=None,
        rates=None,
        key=None,
        **context,
    ):
        del context
        statistics = address.check_statistics(statistics, train)
        check(inputs, auxiliary and train)
        _check_colours(weights, inputs)
        shape = (len(kinds), most_edges, inputs.shape[0])
        scales = _drop_path(rates if train else None, key, shape, dtype)
        outputs, changed = module.apply(
            {"params": weights, **model_state},
            inputs,
            statistics,
            train,
            scales,
            mutable=list(model_state),
            rngs=operations.noise_rngs(used, key),
        )
        if statistics == "batch":
            model_state = {**model_state, **changed}
        return outputs, model_state

    return base.Network(genotype, init, apply, config)


def _check_colours(weights: Any, inputs: Any) -> None:
    """Refuses images with other channels than those the network began with."""
    skeleton = weights["skeleton"]
    stem = skeleton.get("stem_conv") or skeleton["stem0_conv_a"]
    expected = stem["kernel"].shape[2]
    if inputs.shape[-1] != expected:
        raise JnasError(
            f"images must have {expected} channels, as in init, got {inputs.shape[-1]}"
        )


def _drop_path(
    rates: dict[str, Any] | None,
    key: jax.Array | None,
    shape: tuple[int, ...],
    dtype: Any,
) -> jax.Array | None:
    """The factors of drop path in this pass, or None."""
    for name in rates or ():
        if name not in _RATES:
            raise unknown_name("rate of a network", name, _RATES)
    if not rates:
        return None
    rate = rates["drop_path"]
    if jnp.ndim(rate):
        raise JnasError(
            f"drop_path must be a scalar, got shape {list(jnp.shape(rate))}"
        )
    if isinstance(rate, int | float) and not 0 <= rate < 1:
        raise JnasError(f"drop_path must be in [0, 1), got {rate!r}")
    if key is None:
        raise JnasError("drop_path needs a key: apply(..., key=jax.random.key(0))")
    wide = layers.storage_dtype(dtype)
    return cell_modules.drop_path_scales(key, rate, shape, wide)
