"""The search space of NAS-Bench-101: cells of up to 7 vertices and 9 edges.

Source: Ying et al., NAS-Bench-101, ICML 2019, and its code; mutations: White et al.,
BANANAS, AAAI 2021, and naszilla.
"""

import dataclasses
import functools
import hashlib
import operator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnas import domain, errors
from jnas.tabular import graphs

__all__ = ["OPERATIONS", "NasBench101Space", "Spec", "fingerprint"]

OPERATIONS = ("conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3")
INPUT, OUTPUT = "input", "output"
KINDS = ("uniform", "bits")


class Spec(NamedTuple):
    """A cell as the benchmark writes it.

    Attributes:
      adjacency: int ``[V, V]``, upper triangular, 2 to 7 vertices.
      operations: the name of each vertex, ``"input"`` first and ``"output"`` last.
    """

    adjacency: np.ndarray
    operations: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class NasBench101Space:
    """The space of NAS-Bench-101: not every vector of genes is a cell.

    Genes are the 21 bits above the diagonal of the adjacency matrix of 7 vertices, row
    by row, then the operations of vertices 1 to 5, numbers in `OPERATIONS`. Several
    vectors are the same cell: vertices that are on no path are pruned, and the order of
    the others does not matter.

    Attributes:
      name: name of the space.

    Example:
      >>> space = NasBench101Space()
      >>> genes = space.random(0)
      >>> len(space.genes), bool(space.valid(genes)), space.size
      (26, True, 423624)
    """

    name: str = "nasbench101"

    @property
    def genes(self) -> tuple[int, ...]:
        """The number of values of each gene."""
        return graphs.CARDINALITIES

    @property
    def size(self) -> int:
        """Number of different cells."""
        return 423_624

    def valid(self, genes: Any) -> np.ndarray:
        """Tells which vectors are cells: a path, and at most 9 edges when pruned.

        Args:
          genes: integers ``[..., 26]``.

        Returns:
          Booleans ``[...]``.

        Raises:
          JnasError: they are no integers or of another length.
        """
        return np.asarray(graphs.valid(self._array(genes)))

    def random(self, rng: np.random.Generator | int, n: int | None = None) -> Any:
        """Draws uniformly from the vectors that are cells.

        Args:
          rng: a NumPy generator (which moves on), or a seed.
          n: how many; None for a single one.

        Returns:
          Genes int32 ``[26]``, or ``[n, 26]``.
        """
        if not isinstance(rng, np.random.Generator):
            rng = np.random.default_rng(rng)
        count = 1 if n is None else operator.index(n)
        found = np.empty((0, len(self.genes)), np.int32)
        while len(found) < count:
            drawn = rng.integers(
                0, np.asarray(self.genes), (4 * count + 8, len(self.genes)), np.int32
            )
            found = np.concatenate([found, drawn[graphs.valid(drawn)]])
        return found[0] if n is None else found[:count]

    def neighbours(self, genes: Any) -> np.ndarray:
        """Every cell that is one edit away: an edge flipped or an operation changed.

        Args:
          genes: integers ``[26]``.

        Returns:
          int32 ``[M, 26]``; some may be the same network as the cell itself.

        Raises:
          JnasError: the genes are no cell.
        """
        rows = _edits(self._cell(genes), np)
        return rows[graphs.valid(rows)]

    def decode(self, genes: Any) -> Spec:
        """Returns the cell with all of its 7 vertices; see `prune`.

        Args:
          genes: integers ``[26]``.

        Raises:
          JnasError: the genes are no cell.
        """
        vector = self._cell(genes)
        adjacency = np.zeros((graphs.VERTICES, graphs.VERTICES), np.int8)
        for (source, target), bit in zip(graphs.EDGES, vector, strict=False):
            adjacency[source, target] = bit
        inner = (OPERATIONS[i] for i in vector[len(graphs.EDGES) :])
        return Spec(adjacency, (INPUT, *inner, OUTPUT))

    def encode(self, spec: Spec) -> np.ndarray:
        """Returns the genes of a cell; a smaller one gets vertices without edges.

        Args:
          spec: the cell, of 2 to 7 vertices.

        Returns:
          int32 ``[26]``.

        Raises:
          JnasError: it is no cell of this space.

        Example:
          >>> space = NasBench101Space()
          >>> spec = Spec([[0, 1, 0], [0, 0, 1], [0, 0, 0]],
          ...             ("input", "maxpool3x3", "output"))
          >>> space.prune(space.decode(space.encode(spec))).operations
          ('input', 'maxpool3x3', 'output')
        """
        adjacency, operations = _checked(spec)
        last = len(operations) - 1
        place = [*range(last), graphs.OUTPUT]
        genes = np.zeros(len(self.genes), np.int32)
        for bit, edge in enumerate(graphs.EDGES):
            if edge[0] in place and edge[1] in place:
                genes[bit] = adjacency[place.index(edge[0]), place.index(edge[1])]
        for vertex in range(1, last):
            genes[len(graphs.EDGES) + vertex - 1] = OPERATIONS.index(operations[vertex])
        return self._cell(genes)

    def prune(self, spec: Spec) -> Spec:
        """Leaves out the vertices that are on no path from input to output.

        Args:
          spec: a cell.

        Raises:
          JnasError: there is no path, or it is no cell at all.
        """
        adjacency, operations = _checked(spec)
        reach = np.linalg.matrix_power(
            adjacency + np.eye(len(operations), dtype=int), 7
        )
        keep = np.flatnonzero((reach[0] > 0) & (reach[:, -1] > 0))
        if not reach[0, -1]:
            raise errors.JnasError("the cell has no path from input to output")
        return Spec(
            adjacency[np.ix_(keep, keep)].astype(np.int8),
            tuple(operations[i] for i in keep),
        )

    def hash(self, genes_or_spec: Any) -> str:
        """The benchmark's own fingerprint of a cell, equal for isomorphic ones.

        Args:
          genes_or_spec: integers ``[26]``, or a `Spec`, which is pruned first.

        Returns:
          32 hexadecimal digits.

        Raises:
          JnasError: it is no cell.

        Example:
          >>> NasBench101Space().hash(Spec([[0, 1], [0, 0]], ("input", "output")))
          '043721b9c7fe8c5fad811d47d83132ec'
        """
        spec = genes_or_spec
        if not isinstance(spec, Spec):
            spec = self.decode(spec)
        adjacency, operations = self.prune(spec)
        labels = [-1, *(OPERATIONS.index(name) for name in operations[1:-1]), -2]
        return fingerprint(adjacency, labels)

    def domain(self) -> domain.Domain:
        """What strategies may do with genes; see `jnas.domain.Domain`.

        ``sample`` draws uniformly from the vectors that are cells, so that networks
        with more vectors come more often. Mutations: ``"uniform"``, each valid
        neighbour equally likely, and ``"bits"``, each bit flips with chance 1/21 and
        each operation changes with chance 1/5, again until there is another valid
        vector. ``identity`` are the two numbers of `jnas.tabular.graphs.canonical`.
        """
        return _domain(self)

    def _array(self, genes: Any) -> np.ndarray:
        array = np.asarray(genes)
        length = len(self.genes)
        if array.dtype.kind not in "iu" or array.ndim < 1 or array.shape[-1] != length:
            raise errors.JnasError(
                f"genes of {self.name} must be integers [..., {length}], got "
                f"{array.dtype.name} {list(array.shape)}"
            )
        return array.astype(np.int32)

    def _cell(self, genes: Any) -> np.ndarray:
        array = self._array(genes)
        if array.ndim != 1 or not graphs.valid(array):
            raise errors.JnasError(
                f"expected the genes of one cell of {self.name}, a path from input to "
                f"output and at most {graphs.MAX_EDGES} edges on such paths, got "
                f"{array.tolist()}"
            )
        return array


def fingerprint(adjacency: np.ndarray, labels: list[int]) -> str:
    """The hash of a pruned graph: rounds of MD5 over the hashes of neighbours.

    Args:
      adjacency: ``[V, V]``.
      labels: of each vertex, -1 for the input, -2 for the output.

    Returns:
      32 hexadecimal digits.
    """
    count = len(labels)
    into = [np.flatnonzero(adjacency[:, v]).tolist() for v in range(count)]
    out = [np.flatnonzero(adjacency[v]).tolist() for v in range(count)]
    hashes = [_md5(str((len(out[v]), len(into[v]), labels[v]))) for v in range(count)]
    for _ in range(count):
        hashes = [
            _md5(
                "".join(sorted(hashes[w] for w in into[v]))
                + "|"
                + "".join(sorted(hashes[w] for w in out[v]))
                + "|"
                + hashes[v]
            )
            for v in range(count)
        ]
    return _md5(str(sorted(hashes)))


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _checked(spec: Any) -> tuple[np.ndarray, tuple[str, ...]]:
    """The matrix and the names of a cell, or one line."""
    try:
        adjacency, operations = np.asarray(spec[0]).astype(np.int64), tuple(spec[1])
    except (TypeError, ValueError, IndexError):
        raise errors.JnasError(
            "a cell is a matrix and the names of its vertices"
        ) from None
    count = len(operations)
    right = adjacency.shape == (count, count) and 2 <= count <= graphs.VERTICES
    if not right or not np.array_equal(adjacency, np.triu(adjacency != 0, 1)):
        raise errors.JnasError(
            "a cell's matrix must be upper triangular, of 0 and 1, with 2 to "
            f"{graphs.VERTICES} rows, one for each operation, got shape "
            f"{list(adjacency.shape)} and {count} operations"
        )
    if (operations[0], operations[-1]) != (INPUT, OUTPUT):
        raise errors.JnasError(
            f"a cell's vertices begin with {INPUT!r} and end with {OUTPUT!r}, got "
            f"{list(operations)}"
        )
    for name in operations[1:-1]:
        if name not in OPERATIONS:
            raise errors.unknown_name("operation of nasbench101", name, OPERATIONS)
    return adjacency, operations


_BITS, _INNER = len(graphs.EDGES), len(graphs.INNER)


def _edits(genes: Any, xp: Any) -> Any:
    """All edge flips, then both changes of each operation: ``[31, 26]``."""
    shift = np.zeros((_BITS + 2 * _INNER, _BITS + _INNER), np.int32)
    shift[range(_BITS), range(_BITS)] = 1
    for i in range(_INNER):
        shift[_BITS + 2 * i, _BITS + i] = 1
        shift[_BITS + 2 * i + 1, _BITS + i] = 2
    sizes = np.asarray(graphs.CARDINALITIES, np.int32)[None]
    return (genes[None] + xp.asarray(shift)) % sizes


@functools.lru_cache(maxsize=4)
def _domain(space: NasBench101Space) -> domain.Domain:
    sizes = np.asarray(space.genes, np.int32)

    def until_valid(key, draw, good):
        """Draws with new keys until the result is good."""

        def again(carry):
            number, _ = carry
            return number + 1, draw(jax.random.fold_in(key, number))

        start = jnp.int32(1), draw(jax.random.fold_in(key, 0))
        return jax.lax.while_loop(lambda carry: ~good(carry[1]), again, start)[1]

    def sample(key):
        def draw(key):
            return jax.random.randint(key, sizes.shape, 0, sizes, jnp.int32)

        return until_valid(key, draw, graphs.valid)

    def neighbours(genes):
        rows = _edits(genes, jnp)
        return rows, graphs.valid(rows)

    def mutate(key, genes, kind="uniform"):
        if kind not in KINDS:
            raise errors.unknown_name("mutation of nasbench101", kind, KINDS)
        if kind == "uniform":
            rows, exists = neighbours(genes)
            return rows[jax.random.categorical(key, jnp.where(exists, 0.0, -jnp.inf))]
        chance = np.where(sizes == 2, 1 / _BITS, 1 / _INNER).astype(np.float32)

        def draw(key):
            change_key, value_key = jax.random.split(key)
            changes = jax.random.uniform(change_key, sizes.shape) < chance
            shift = jax.random.randint(value_key, sizes.shape, 1, sizes, jnp.int32)
            return jnp.where(changes, (genes + shift) % sizes, genes)

        def good(drawn):
            return graphs.valid(drawn) & jnp.any(drawn != genes)

        return until_valid(key, draw, good)

    return domain.Domain(
        space=space,
        cardinalities=space.genes,
        sample=sample,
        valid=graphs.valid,
        neighbours=neighbours,
        mutate=mutate,
        mutations=KINDS,
        identity=lambda genes: graphs.canonical(genes, jnp),
    )
