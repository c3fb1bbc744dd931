"""A next stage that goes on with the weights of the one before: Chen et al., DrNAS.

Between DrNAS' stages candidates are pruned and a larger part of the channels goes
through the operations, so their arrays grow. New channels are copies of drawn old ones,
not rescaled (Net2Wider; DrNAS, ICLR 2021, section 4.2), and so is the momentum. The
architecture goes on, with zeros where a candidate was pruned.

Deviations: one draw of channels an operation and cell serves all its arrays, inputs and
outputs alike (the authors draw for each layer). Adam's moments of the architecture and
running statistics, which a search never uses, begin anew. So does the count of steps
that schedules see: a preset whose schedule runs on adds the steps before.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jnas import search as searches
from jnas.errors import JnasError
from jnas.spaces import Space
from jnas.supernet import address, macro, stacked

__all__ = ["widen"]


def widen(
    before: searches.Search, state: searches.SearchState, after: searches.Search
) -> jax.tree_util.Partial:
    """What a wider supernet with fewer candidates takes over from a narrower one.

    Args:
      before: the search of the narrower one.
      state: its last state.
      after: the search of the wider one, of the same cells; what an edge can choose in
        it, it could before.

    Returns:
      ``(key, initial state of after) -> state``, whose arrays are arguments.

    Raises:
      JnasError: the networks differ in more than candidates and widths.

    Example:
      >>> import jnas
      >>> space = jnas.spaces.nasbench201()
      >>> narrow, wide = (
      ...     jnas.presets.drnas(
      ...         space, channels=4, cells_per_stage=1, partial_channels=k)
      ...     for k in (4, 2))
      >>> def begin(key):
      ...     image = jnp.zeros((2, 8, 8, 1))
      ...     old = narrow.init(key, image)
      ...     return widen(narrow, old, wide)(key, wide.init(key, image))
      >>> state = jax.eval_shape(begin, jax.random.key(0))
      >>> state.weights["cell_0"]["nor_conv_3x3"]["kernel"].shape
      (6, 3, 3, 2, 2)

    References:
      Chen, Wang, Cheng, Tang, Hsieh, DrNAS: Dirichlet Neural Architecture Search, ICLR
      2021, https://arxiv.org/abs/2006.10355; Chen, Goodfellow, Shlens, Net2Net, ICLR
      2016, https://arxiv.org/abs/1511.05641
    """
    names = set(before.supernet.space.names)
    if not isinstance(state.arch, dict) or set(state.arch) != names:
        raise JnasError(
            "widening needs logits by group, {group: [E, O]}: use a relaxation that "
            "has such, as relax.dirichlet"
        )
    if before.supernet.cells != after.supernet.cells:
        raise JnasError(
            f"widening keeps the cells, got {before.supernet.cells} before and "
            f"{after.supernet.cells} after: give all stages one number of cells"
        )
    rows = _rows(before.supernet, after.supernet)
    run = functools.partial(_begin, rows, before.supernet.space, after.supernet.space)
    return jax.tree_util.Partial(run, state.weights, state.weight_opt_state, state.arch)


def _begin(rows, old_space, new_space, weights, opt_state, arch, key, state):
    """The initial state of the wider search, with what is taken over in it."""
    grow = functools.partial(_grown, rows=rows, key=key, like=state.weights)
    grown = grow(weights)
    moments = _mirrored(opt_state, state.weight_opt_state, weights, grown, grow)
    kept = _kept_arch(arch, state.arch, old_space, new_space)
    return state._replace(
        weights=grown,
        weight_opt_state=moments,
        arch=kept,
        # as a search that begins has copies of its first arch
        recent_archs=jax.tree.map(
            lambda part, recent: jnp.broadcast_to(part, recent.shape),
            kept,
            state.recent_archs,
        )
        if state.recent_archs is not None
        else None,
    )


def _rows(before: Any, after: Any) -> dict[tuple[str, str], np.ndarray]:
    """Which rows of an operation's stacks are left: ``{(cell, operation): rows}``."""
    found = {}
    for position, (group, reduction) in enumerate(_cells(after)):
        if group not in after.space.names:
            continue  # a fixed cell, of which nothing changes
        cell = address.cell_name(position)
        old, new = (net.space.group(group) for net in (before, after))
        for name in new.operations:
            # Only which edges have rows, which no width changes.
            had, has = (
                stacked.operation_rows(g, name, 8, reduction).edges for g in (old, new)
            )
            if has:
                found[cell, name] = np.array([had.index(edge) for edge in has])
    return found


def _cells(supernet: Any) -> list[tuple[str, bool]]:
    """The group of each cell, and whether it halves the image."""
    count = supernet.config["cells"]
    if count is None:
        ((name, number),) = supernet.cells.items()
        return [(name, False)] * number
    reductions = macro.reduction_positions(count)
    return [
        ("reduce" if p in reductions else "normal", p in reductions)
        for p in range(count)
    ]


def _grown(tree, *, rows, key, like):
    """The tree with the shapes of ``like``: rows left out, channels copied."""
    old = dict(jax.tree_util.tree_leaves_with_path(tree))
    draws: dict[Any, jax.Array] = {}

    def channels(place, had, has):
        if (place, had, has) not in draws:
            own = jax.random.fold_in(key, len(draws))
            more = jax.random.randint(own, (has - had,), 0, had)
            draws[place, had, has] = jnp.concatenate([jnp.arange(had), more])
        return draws[place, had, has]

    def leaf(path, new):
        x = old.get(path)
        names = [getattr(part, "key", None) for part in path]
        if x is None:
            raise JnasError(
                f"widening finds no {jax.tree_util.keystr(path)} in the stage before"
            )
        place = tuple(names[:2])
        if place in rows:
            x = x[rows[place]]
        for axis, (had, has) in enumerate(zip(x.shape, new.shape, strict=True)):
            if had > has or (had < has and place not in rows):
                raise JnasError(
                    f"widening can't make {jax.tree_util.keystr(path)} of shape "
                    f"{list(new.shape)} from {list(x.shape)}: channels can only grow, "
                    "and only those of the operations"
                )
            if had < has:
                x = jnp.take(x, channels(place, had, has), axis=axis)
        return x.astype(new.dtype)

    return jax.tree_util.tree_map_with_path(leaf, like)


def _mirrored(old_state, new_state, weights, grown, grow):
    """The new optimizer state, whose copies of the weights' tree are taken over."""

    def like(tree):
        structure = jax.tree.structure(tree)
        return lambda part: jax.tree.structure(part) == structure

    old = jax.tree.leaves(old_state, is_leaf=like(weights))
    copies = iter([part for part in old if like(weights)(part)])
    return jax.tree.map(
        lambda part: grow(next(copies)) if like(grown)(part) else part,
        new_state,
        is_leaf=like(grown),
    )


def _kept_arch(old, new, old_space: Space, new_space: Space):
    """Arch of the candidates that are left, zeros of those that are not."""
    kept = {}
    for group in new_space.groups:
        before = old_space.group(group.name)
        columns = [before.columns[name] for name in group.operations]
        part = old[group.name][:, jnp.array(columns)]
        kept[group.name] = jnp.where(group.allowed, part, 0.0).astype(
            new[group.name].dtype
        )
    return kept
