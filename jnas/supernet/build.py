"""`build`: the supernet of a cell space."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jnas import mixture as mixtures
from jnas.errors import JnasError
from jnas.spaces import Group, Space
from jnas.supernet import (
    address,
    base,
    cells,
    dropping,
    fixed_reduction,
    initial,
    layers,
    macro,
    operations,
    partial,
    sampled,
    stacked,
)

__all__ = ["build", "check_positive"]

# What rematerialised cells keep.
_POLICY = jax.checkpoint_policies.save_only_these_names(sampled.KEPT)


def check_positive(**values: Any) -> None:
    """Raises `JnasError` unless every value is a positive int.

    Args:
      **values: by the name of the option.

    Raises:
      JnasError: names the option and what was given.
    """
    for name, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise JnasError(f"{name} must be a positive integer, got {value!r}")


# Equal cells, and both halves of a step, are traced and differentiated once.
_TracedCell = nn.jit(cells.MixedCell, static_argnums=(3, 4))


class _CellNetwork(nn.Module):
    """Supernet module: a skeleton whose cells are mixed."""

    space: Space
    plan: tuple[tuple[str, int], ...]  # per position: group and index in the group
    channels: int
    num_classes: int
    cells_per_stage: int | None
    dtype: Any
    partial: int
    remat: bool

    @nn.compact
    def __call__(self, images, mixed, statistics, train, drop=None):
        def make_cell(position, channels, reduction):
            name, index = self.plan[position]
            if name in self.space.fixed:
                return self._fixed_cell(position, statistics)
            cell = _TracedCell(
                self.space.group(name),
                channels,
                reduction,
                pool_norm=self.cells_per_stage is None,
                partial=self.partial,
                parent=self,
                name=address.cell_name(position),
            )
            own = None if drop is None else drop.of_cell(position)

            def evaluate(cell, states, weights, rest):
                return cell(states, weights, statistics, train, rest, own)

            if self.remat:
                evaluate = nn.remat(evaluate, policy=_POLICY)
            rest = cells.CellMixture(
                None if mixed.offsets is None else mixed.offsets[name][index],
                None if mixed.edges is None else mixed.edges[name],
                None if mixed.active is None else mixed.active[name],
                None if mixed.auxiliary is None else mixed.auxiliary[name],
            )
            return lambda states: evaluate(
                cell, states, mixed.weights[name][index], rest
            )

        if self.cells_per_stage is None:
            skeleton = macro.DartsSkeleton(
                make_cell,
                self.channels,
                len(self.plan),
                self.num_classes,
                affine=False,
                dtype=self.dtype,
                name="skeleton",
            )
        else:
            skeleton = macro.StagesSkeleton(
                make_cell,
                self.channels,
                self.cells_per_stage,
                self.num_classes,
                dtype=self.dtype,
                name="skeleton",
            )
        return skeleton(images, statistics)[0]

    def _fixed_cell(self, position, statistics):
        """A cell without choices; its weights are no operation's."""
        cell = fixed_reduction.FixedReduction(
            parent=self, name=address.cell_name(position)
        )

        def evaluate(cell, states):
            return cell(states, statistics)

        if self.remat:
            evaluate = nn.remat(evaluate, policy=_POLICY)
        return lambda states: evaluate(cell, states)


def _plan(space: Space, num_cells: int | None, cells_per_stage: int | None):
    """Which group and which of its cells stands at each position."""
    names = space.names
    if names == ("normal", "reduce") or space.fixed:
        if cells_per_stage is not None:
            raise JnasError(
                f"space {space.name!r} takes cells=..., not cells_per_stage"
            )
        num_cells = 8 if num_cells is None else num_cells
        check_positive(cells=num_cells)
        if num_cells < 3:
            raise JnasError(
                f"cells must be at least 3 (two reductions), got {num_cells}"
            )
        reductions = macro.reduction_positions(num_cells)
        kinds = ["reduce" if p in reductions else "normal" for p in range(num_cells)]
    elif len(names) == 1:
        if num_cells is not None:
            raise JnasError(
                f"space {space.name!r} takes cells_per_stage=..., not cells"
            )
        cells_per_stage = 5 if cells_per_stage is None else cells_per_stage
        check_positive(cells_per_stage=cells_per_stage)
        kinds = [names[0]] * (3 * cells_per_stage)
    else:
        raise JnasError(
            f"space {space.name!r} has groups {list(names)}; supernet.build knows "
            "spaces with groups 'normal' and 'reduce' or with one group: use from_linen"
        )
    inputs = {1} if cells_per_stage is not None else {2}
    for group in space.groups:
        if {group.inputs} != inputs:
            raise JnasError(
                f"group {group.name!r} has {group.inputs} cell inputs, this skeleton "
                f"needs {inputs.pop()}"
            )
    plan, counts = [], dict.fromkeys((*names, *space.fixed), 0)
    for kind in kinds:
        plan.append((kind, counts[kind]))
        counts[kind] += 1
    return tuple(plan), {name: counts[name] for name in names}, cells_per_stage


def build(
    space: Space,
    *,
    channels: int = 16,
    cells: int | None = None,
    cells_per_stage: int | None = None,
    num_classes: int = 10,
    partial_channels: int = 1,
    auxiliary_skip: bool = False,
    remat: bool = False,
    dtype: Any = jnp.float32,
) -> base.Supernet:
    """Builds the weight-sharing network of a cell space.

    Spaces with the groups "normal" and "reduce" get DARTS' search network (Liu et al.,
    ICLR 2019): a stem of ``3 * channels``, ``cells`` cells with reductions at 1/3 and
    2/3, normalisations without scale and shift except the stem's; where the reduction
    cells are fixed, these hold ordinary weights, no candidates. Spaces with one group
    get NAS-Bench-201's (Dong & Yang, ICLR 2020): three stages of ``cells_per_stage``
    cells, convolutions with biases in the cells. Input channels and image size are
    those of the ``inputs`` given to ``init`` (8x8 upward).

    Args:
      space: the space; its operations are built in or registered.
      channels: of the first stage.
      cells: number of cells (default 8), for DARTS-like spaces.
      cells_per_stage: cells per stage (default 5), for NAS-Bench-201-like spaces.
      num_classes: outputs.
      partial_channels: the operations see one channel of so many, the others go around
        them (PC-DARTS: 4); it must divide ``channels``.
      auxiliary_skip: whether each edge has a skip beside its candidates, weighted by
        ``Mixture.auxiliary`` (DARTS-); where a mixture has none it is not computed.
      remat: whether the backward pass computes each cell again instead of keeping what
        is inside it: less memory, about one more forward pass. Of sampled edges one
        array each is kept.
      dtype: compute dtype; parameters, statistics and logits are at least float32.

    Returns:
      The supernet.

    Raises:
      JnasError: an option is out of range or does not fit the space.

    Example:
      >>> import jax, jnas
      >>> net = build(jnas.spaces.nasbench201(), channels=4, cells_per_stage=1)
      >>> shape = jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.float32)
      >>> variables = jax.eval_shape(net.init, jax.random.key(0), shape)
      >>> variables.weights["skeleton"]["stem_conv"]["kernel"].shape
      (3, 3, 1, 4)
    """
    check_positive(
        channels=channels, num_classes=num_classes, partial_channels=partial_channels
    )
    partial.check(partial_channels, channels)
    dtype = layers.check_dtype(dtype)
    for group in space.groups:
        if all(operations.get_operation(name) is None for name in group.operations):
            raise JnasError(
                f"group {group.name!r} of space {space.name!r} has no operation "
                "besides 'none': add one"
            )
    known = {name for group in space.groups for name in group.operations}
    plan, counts, cells_per_stage = _plan(space, cells, cells_per_stage)
    module = _CellNetwork(
        space,
        plan,
        channels,
        num_classes,
        cells_per_stage,
        dtype,
        partial_channels,
        remat,
    )
    wide = module.clone(dtype=layers.storage_dtype(dtype))
    config = {
        "space": space.name,
        "channels": channels,
        "cells": len(plan) if cells_per_stage is None else None,
        "cells_per_stage": cells_per_stage,
        "num_classes": num_classes,
        "partial_channels": partial_channels,
        "remat": remat,
        "dtype": dtype.name,
        **({"auxiliary_skip": True} if auxiliary_skip else {}),
    }

    def init(key, inputs):
        macro.check_images(inputs)
        example = mixtures.uniform(space)
        if auxiliary_skip:
            ones = {g.name: jnp.ones(g.num_edges) for g in space.groups}
            example = example._replace(auxiliary=ones)
        mixed = mixtures.resolve(example, space, counts, auxiliary=auxiliary_skip)
        images = jnp.zeros((1, *inputs.shape[1:]), inputs.dtype)
        variables = initial.initial_variables(
            lambda key: module.init(key, images, mixed, "batch", False), key
        )
        state = {k: v for k, v in variables.items() if k != "params"}
        return base.Variables(variables["params"], state)

    def apply(
        weights,
        model_state,
        mixture,
        inputs,
        *,
        train,
        statistics=None,
        rates=None,
        key=None,
        precise=False,
        **context,
    ):
        del context
        drop = dropping.dropping(rates, key, train)
        statistics = address.check_statistics(statistics, train)
        macro.check_images(inputs)
        mixed = mixtures.resolve(mixture, space, counts, auxiliary=auxiliary_skip)
        logits, changed = (wide if precise else module).apply(
            {"params": weights, **model_state},
            inputs,
            mixed,
            statistics,
            train,
            drop,
            mutable=list(model_state),
            rngs=operations.noise_rngs(known, key),
        )
        if statistics == "batch":
            model_state = {**model_state, **changed}
        return logits, model_state

    places = _places(space, plan, channels, cells_per_stage)

    def structure():
        image = jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.float32)
        return jax.eval_shape(init, jax.random.key(0), image).weights

    op_sum, op_mask = address.per_operation(space, counts, places, structure)
    return base.Supernet(
        space=space,
        init=init,
        apply=apply,
        op_sum=op_sum,
        op_mask=op_mask,
        cells=counts,
        config=config,
    )


def _places(
    space: Space,
    plan: tuple[tuple[str, int], ...],
    channels: int,
    cells_per_stage: int | None,
) -> list[address.Place]:
    """Where the weights of each operation of each cell live."""
    places = []
    for position, (name, index) in enumerate(plan):
        if name in space.fixed:
            continue
        group: Group = space.group(name)
        reduction = name == "reduce" and cells_per_stage is None
        prefix = (address.cell_name(position),)
        for op_index, op_name in enumerate(group.operations):
            operation = operations.get_operation(op_name)
            if isinstance(operation, operations.Operation):
                layout = stacked.operation_rows(group, op_name, channels, reduction)
                rows = layout.edges
                if rows:
                    path = (*prefix, op_name)
                    places.append(address.Place(path, name, index, rows, op_index))
            elif operation is not None:
                for edge in np.flatnonzero(group.allowed[:, op_index]).tolist():
                    path = (*prefix, f"{op_name}_{edge}")
                    places.append(address.Place(path, name, index, edge, op_index))
    return places
