"""Cells that grow node by node, and what a predictor sees of them.

A block is a node of a `jnas.Space` with all its choices; a cell of ``b`` blocks has its
first ``b`` nodes decided and fillers in the others. Letters: ``B`` blocks, ``C``
choices of the largest, ``L`` genes, ``F`` features.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnas import errors, spaces
from jnas.discrete import encodings

__all__ = ["Blocks", "Tokens", "blocks", "levels", "schedule", "tokens"]

# Choices of a node that are listed; DARTS' largest has 490.
_LARGEST = 100_000


class Blocks(NamedTuple):
    """The choices of each block, in the order of the genes.

    Attributes:
      filler: int32 ``[L]``, the candidate with nothing decided.
      choices: int32 ``[B, C, L]``, each choice at the genes of its block.
      counts: int32 ``[B]``, number of choices of each block.
      fillers: int32 ``[B]``, which choice is the filler.
      block: int32 ``[L]``, the block of each gene, -1 where there is no choice.
      nodes: of each block (number of the group, node).
    """

    filler: np.ndarray
    choices: np.ndarray
    counts: np.ndarray
    fillers: np.ndarray
    block: np.ndarray
    nodes: tuple[tuple[int, int], ...]


@functools.lru_cache(maxsize=8)
def blocks(space: spaces.Space) -> Blocks:
    """Lists the blocks of a space: its nodes, group by group.

    Undecided nodes keep their first combination of edges, with "none" on them where it
    can be selected, else a skip connection, else the first operation. A node that is
    the output, while others are not (NAS-Bench-201's last one), prefers the skip
    connection: it then sums the states before it, as the output of a growing cell takes
    in its blocks; with "none" a cell would compute nothing before its last node is
    decided. Nodes with a single choice are no blocks.

    Args:
      space: the space.

    Returns:
      The blocks.

    Raises:
      JnasError: it is no `jnas.Space`, has no choices, or a node has too many.

    Example:
      >>> own = blocks(spaces.nasbench201())
      >>> own.counts.tolist(), own.filler.tolist()
      ([5, 25, 125], [0, 0, 0, 1, 1, 1])
    """
    encodings.edges(space)  # checks the kind
    filler = np.zeros(len(space.genes), np.int32)
    positions: dict[tuple[int, int], list[int]] = {}
    for number, slot in space.slots:
        group = space.groups[number]
        target = group.edges[slot.edges[0]][1]
        output = target in group.concat and not set(group.nodes) <= set(group.concat)
        choice = {
            edge: _filling(group, slot.operations[slot.edges.index(edge)], output)
            for edge in slot.kept[0]
        }
        genes = slot.write(choice)
        own = range(slot.start, slot.start + len(genes))
        filler[own.start : own.stop] = genes
        positions.setdefault((number, target), []).extend(own)
    rows, fillers, nodes = [], [], []
    block = np.full(len(filler), -1, np.int32)
    for node, own in positions.items():
        sizes = [space.genes[i] for i in own]
        if np.prod(sizes, dtype=float) > _LARGEST:
            raise errors.JnasError(
                f"node {node[1]} of group {space.groups[node[0]].name!r} has "
                f"{int(np.prod(sizes, dtype=float))} choices, at most {_LARGEST} can "
                "be expanded: give it fewer operations or edges"
            )
        if np.prod(sizes) == 1:
            continue
        listed = np.array(list(itertools.product(*map(range, sizes))), np.int32)
        block[own] = len(rows)
        fillers.append(int(np.flatnonzero((listed == filler[own]).all(1))[0]))
        nodes.append(node)
        rows.append((own, listed))
    if not rows:
        raise errors.JnasError(f"space {space.name!r} has a single candidate")
    counts = np.array([len(listed) for _, listed in rows], np.int32)
    choices = np.zeros((len(rows), counts.max(), len(filler)), np.int32)
    for number, (own, listed) in enumerate(rows):
        choices[number][: len(listed), own] = listed
    fillers = np.array(fillers, np.int32)
    return Blocks(filler, choices, counts, fillers, block, tuple(nodes))


def _filling(group: spaces.Group, columns: tuple[int, ...], output: bool) -> int:
    names = [group.operations[column] for column in columns]
    for wanted in ("skip", "none") if output else ("none", "skip"):
        for column, name in zip(columns, names, strict=True):
            if name == wanted or (wanted == "skip" and "skip" in name):
                return column
    return columns[0]


class Tokens(NamedTuple):
    """Blocks as averaged tokens.

    Attributes:
      encode: ``(genes [L], decided []) -> float32 [F]``, of a cell whose first so many
        blocks are decided.
      parts: number of features of each kind of token, (slots, tokens) in turn: the
        ``F`` features are, part after part, ``[slots, tokens]``.
    """

    encode: Callable[[jax.Array, Any], jax.Array]
    parts: tuple[tuple[int, int], ...]


def tokens(space: spaces.Space) -> Tokens:
    """Returns how PNAS' predictor sees a cell.

    A block is as many (operation, input) pairs as its node has kept edges; operations
    and inputs are one-hot vectors, apart for the first, second, ... pair, and averaged
    over the decided blocks of the group. So a block that has never been seen is made of
    tokens that have. (Liu et al., Progressive neural architecture search, ECCV 2018,
    section 3.4, "MLP"; there a block always has two pairs.) Where nodes keep all of
    their edges, later ones have more than any seen before: their pairs are averaged,
    too.

    Args:
      space: the space.

    Returns:
      The tokens.

    Raises:
      JnasError: see `blocks`.

    Example:
      >>> own = tokens(spaces.nasbench201())
      >>> own.parts, own.encode(jnp.array([3, 1, 2, 0, 0, 0]), 2)[:5].tolist()
      (((1, 5), (1, 3)), [0.0, 0.25, 0.25, 0.5, 0.0])
    """
    own = blocks(space)
    read = encodings.edges(space)
    plans, parts = [], []
    for number, group in enumerate(space.groups):
        targets = np.array([target for _, target in group.edges])
        # The block of each edge; those of nodes without a choice say nothing.
        block = np.array(
            [
                own.nodes.index((number, target))
                if (number, target) in own.nodes
                else len(own.nodes)
                for target in targets
            ]
        )
        nodes = sorted({b for b in block.tolist() if b < len(own.nodes)})
        if not nodes:
            continue
        row = np.arange(len(targets))
        earlier = (targets[:, None] == targets[None]) & (row[None] < row[:, None])
        if space.keep is None:
            pairs, earlier = 1, np.zeros_like(earlier)
            share = np.array([1 / len(group.incoming(node)) for node in targets])
        else:
            pairs, share = space.keep, np.ones(len(targets))
        sources = np.array([source for source, _ in group.edges])
        plans.append((number, block, np.array(nodes), earlier, share, pairs, sources))
        parts += [(pairs, group.num_operations), (pairs, int(sources.max()) + 1)]

    def encode(genes, decided):
        features = []
        for number, block, nodes, earlier, share, pairs, sources in plans:
            operation = read(genes)[number]
            kept = operation >= 0
            place = jnp.sum(jnp.asarray(earlier) & kept[None], axis=1)
            there = kept & (jnp.asarray(block) < decided)
            weight = jnp.where(there, jnp.asarray(share, jnp.float32), 0.0)
            many = jnp.maximum(jnp.sum(jnp.asarray(nodes) < decided), 1)
            pair = jax.nn.one_hot(place, pairs) * (weight / many)[:, None]
            count = space.groups[number].num_operations
            features.append(pair.T @ jax.nn.one_hot(operation, count))
            features.append(pair.T @ jax.nn.one_hot(sources, int(sources.max()) + 1))
        return jnp.concatenate([part.reshape(-1) for part in features])

    return Tokens(encode, tuple(parts))


def schedule(choices: list[int], survivors: int) -> list[int]:
    """Returns how many candidates each level proposes.

    Args:
      choices: number of choices of each block.
      survivors: the most that are expanded, and proposed, per level.

    Returns:
      All choices of the first block, then at most ``survivors`` each.

    Example:
      >>> schedule([5, 25, 125], 72)
      [5, 72, 72]
    """
    sizes = [choices[0]]
    for many in choices[1:]:
        # One child of each parent is the parent.
        sizes.append(min(survivors, min(survivors, sum(sizes)) * (many - 1)))
    return sizes


def levels(sizes: list[int], capacity: int) -> tuple[np.ndarray, np.ndarray]:
    """Lays out the levels over the ids of candidates.

    Args:
      sizes: from `schedule`.
      capacity: number of ids; the last block goes on up to there.

    Returns:
      The first id of each level, and its block.

    Example:
      >>> [row.tolist() for row in levels([5, 8, 8], 25)]
      [[0, 5, 13, 21], [0, 1, 2, 2]]
    """
    starts = [0, *itertools.accumulate(sizes)]
    numbers = list(range(len(sizes)))
    while starts[-1] < capacity:
        numbers.append(len(sizes) - 1)
        starts.append(starts[-1] + sizes[-1])
    starts = np.array(starts[: len(numbers)], np.int32)
    kept = starts < capacity
    return starts[kept], np.array(numbers, np.int32)[kept]
