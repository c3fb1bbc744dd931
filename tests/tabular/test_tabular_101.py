"""NAS-Bench-101's rules against plain graph code, and the real 20,001 cells."""

import itertools
import math
import os
import pathlib

import compact
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnas import JnasError, domain, tabular
from jnas.tabular import files, graphs, space101, table101

SPACE = tabular.NasBench101Space()
DOMAIN = domain.of(SPACE)
NAMES = compact.NAMES101


def matrix_of(genes):
    matrix = np.zeros((7, 7), int)
    bits = iter(genes)
    for i in range(7):
        for j in range(i + 1, 7):
            matrix[i, j] = next(bits)
    return matrix, [int(g) for g in bits]


def on_paths(matrix):
    """Vertices on a path from first to last, by depth-first search."""

    def reached(start, follow):
        seen, stack = {start}, [start]
        while stack:
            for v in follow(stack.pop()):
                if v not in seen:
                    seen.add(v)
                    stack.append(v)
        return seen

    last = len(matrix) - 1
    forward = reached(0, lambda v: np.flatnonzero(matrix[v]).tolist())
    backward = reached(last, lambda v: np.flatnonzero(matrix[:, v]).tolist())
    return sorted(forward & backward) if last in forward else []


def pruned(genes):
    """Matrix and labels after pruning, None without a path."""
    matrix, ops = matrix_of(genes)
    keep = on_paths(matrix)
    if not keep:
        return None
    labels = [ops[v - 1] for v in keep[1:-1]]
    return matrix[np.ix_(keep, keep)], labels


def is_valid(genes):
    graph = pruned(genes)
    return graph is not None and graph[0].sum() <= 9


def isomorphic(one, two):
    """Tries all orders of the inner vertices."""
    (a, la), (b, lb) = one, two
    if len(a) != len(b) or sorted(la) != sorted(lb):
        return False
    for order in itertools.permutations(range(1, len(a) - 1)):
        full = [0, *order, len(a) - 1]
        if [la[v - 1] for v in order] == lb and (a[np.ix_(full, full)] == b).all():
            return True
    return False


def vectors(n, seed=0, dense=0.5):
    """Vectors of genes, valid or not, with a share of edges."""
    rng = np.random.default_rng(seed)
    bits = rng.uniform(size=(n, 21)) < dense
    return np.concatenate([bits, rng.integers(0, 3, (n, 5))], 1).astype(np.int32)


@pytest.mark.parametrize("dense", [0.2, 0.4, 0.6])
def test_validity_and_paths_are_those_of_plain_code(dense):
    genes = vectors(2000, 1, dense)
    wanted = [is_valid(vector) for vector in genes]
    assert 0 < sum(wanted) < 2000
    np.testing.assert_array_equal(SPACE.valid(genes), wanted)
    np.testing.assert_array_equal(jax.jit(graphs.valid)(genes), wanted)
    np.testing.assert_array_equal(jax.vmap(DOMAIN.valid)(genes), wanted)
    for vector, found in zip(genes[:300], graphs.active(genes), strict=False):
        assert found == sum(1 << v for v in on_paths(matrix_of(vector)[0]))


def test_genes_out_of_range_are_invalid():
    good = SPACE.random(0)
    assert SPACE.valid(good)
    for place, value in ((0, 2), (0, -1), (21, 3), (25, -1), (20, 9)):
        bad = good.copy()
        bad[place] = value
        assert not SPACE.valid(bad) and not graphs.valid(jnp.asarray(bad))
        with pytest.raises(JnasError, match="one cell of nasbench101"):
            SPACE.decode(bad)


def permuted(genes, order):
    """The cell with its inner vertices in another order; None if edges turn back."""
    matrix, ops = matrix_of(genes)
    place = [0, *order, 6]  # of each vertex
    new = np.zeros((7, 7), int)
    for i, j in np.argwhere(matrix):
        new[place[i], place[j]] = 1
    if np.any(np.tril(new)):
        return None
    labels = [0] * 5
    for v in range(1, 6):
        labels[place[v] - 1] = ops[v - 1]
    return np.array([*new[np.triu_indices(7, 1)], *labels], np.int32)


def test_identity_and_hash_do_not_depend_on_the_order():
    tried = 0
    for genes in SPACE.random(1, 60):
        code, digest = graphs.canonical(genes), SPACE.hash(genes)
        for order in itertools.permutations(range(1, 6)):
            other = permuted(genes, order)
            if other is None:
                continue
            tried += 1
            np.testing.assert_array_equal(graphs.canonical(other), code)
            assert SPACE.hash(other) == digest
    assert tried > 200


def test_identity_is_equal_exactly_for_isomorphic_cells():
    # Sparse ones with few labels, so that many are isomorphic or nearly so.
    genes = vectors(4000, 3, 0.25)
    genes[:, 21:] %= 2
    genes = genes[SPACE.valid(genes)][:500]
    codes = np.asarray(jax.vmap(DOMAIN.identity)(genes))
    assert codes.dtype == np.int32 and codes.shape == (500, 2)
    np.testing.assert_array_equal(codes, graphs.canonical(genes))
    hashes = [SPACE.hash(vector) for vector in genes]
    plain = [pruned(vector) for vector in genes]
    same = 0
    for i, j in itertools.combinations(range(500), 2):
        equal = bool((codes[i] == codes[j]).all())
        assert equal == (hashes[i] == hashes[j])
        if equal or len(plain[i][1]) <= 3:
            assert equal == isomorphic(plain[i], plain[j])
        same += equal
    assert same > 500


def test_prune_decode_and_encode():
    for genes in SPACE.random(2, 200):
        spec = SPACE.decode(genes)
        matrix, ops = matrix_of(genes)
        np.testing.assert_array_equal(spec.adjacency, matrix)
        names = ["input", *(NAMES[o] for o in ops), "output"]
        assert list(spec.operations) == names
        np.testing.assert_array_equal(SPACE.encode(spec), genes)
        small = SPACE.prune(spec)
        plain, labels = pruned(genes)
        np.testing.assert_array_equal(small.adjacency, plain)
        assert list(small.operations[1:-1]) == [NAMES[o] for o in labels]
        again = SPACE.encode(small)
        np.testing.assert_array_equal(graphs.canonical(again), graphs.canonical(genes))
        assert SPACE.hash(again) == SPACE.hash(genes) == SPACE.hash(spec)


def test_random_cells_are_uniform_over_valid_vectors():
    genes = SPACE.random(np.random.default_rng(5), 4000)
    assert genes.shape == (4000, 26) and genes.dtype == np.int32
    assert SPACE.valid(genes).all()
    np.testing.assert_array_equal(SPACE.random(7), SPACE.random(7))
    keys = jax.random.split(jax.random.key(0), 4000)
    drawn = np.asarray(jax.jit(jax.vmap(DOMAIN.sample))(keys))
    assert SPACE.valid(drawn).all()
    plain = vectors(30000, 9)
    plain = plain[[is_valid(v) for v in plain[:12000]] + [False] * 18000]
    # Means of every gene, in three independent samples.
    for one, two in itertools.combinations((genes, drawn, plain), 2):
        spread = np.sqrt(one.var(0) / len(one) + two.var(0) / len(two))
        assert (abs(one.mean(0) - two.mean(0)) < 5 * spread).all()


def test_neighbours_are_all_valid_single_edits():
    neighbours = jax.jit(DOMAIN.neighbours)
    for genes in SPACE.random(3, 20):
        wanted = set()
        for i, size in enumerate(SPACE.genes):
            for value in range(size):
                other = genes.copy()
                other[i] = value
                if value != genes[i] and is_valid(other):
                    wanted.add(tuple(other.tolist()))
        rows, exists = map(np.asarray, neighbours(genes))
        assert rows.shape == (31, 26)
        found = [tuple(row) for row in rows[exists].tolist()]
        assert set(found) == wanted and len(found) == len(wanted)
        assert {tuple(row) for row in SPACE.neighbours(genes).tolist()} == wanted
        assert len(wanted) >= 10  # the operations may always change


def test_uniform_mutation_draws_each_neighbour_alike():
    genes = SPACE.random(4)
    draws = 6000
    keys = jax.random.split(jax.random.key(1), draws)
    found = np.asarray(jax.jit(jax.vmap(lambda k: DOMAIN.mutate(k, genes)))(keys))
    rows, counts = np.unique(found, axis=0, return_counts=True)
    wanted = np.unique(SPACE.neighbours(genes), axis=0)
    np.testing.assert_array_equal(rows, wanted)
    share = 1 / len(wanted)
    assert (abs(counts / draws - share) < 5 * np.sqrt(share / draws)).all()


def test_bits_mutation_has_the_published_chances():
    """Against the same rule in plain Python."""
    genes = SPACE.random(6)
    draws = 4000
    keys = jax.random.split(jax.random.key(2), draws)
    mutate = jax.jit(jax.vmap(lambda key: DOMAIN.mutate(key, genes, "bits")))
    found = np.asarray(mutate(keys))
    assert SPACE.valid(found).all() and (found != genes).any(1).all()
    rng = np.random.default_rng(0)
    plain = []
    while len(plain) < draws:
        other = genes.copy()
        for i in range(21):
            if rng.uniform() < 1 / 21:
                other[i] = 1 - other[i]
        for i in range(21, 26):
            if rng.uniform() < 1 / 5:
                other[i] = rng.choice([o for o in range(3) if o != genes[i]])
        if (other != genes).any() and is_valid(other):
            plain.append(other)
    one, two = (np.asarray(x) != genes for x in (found, plain))
    spread = np.sqrt((one.var(0) + two.var(0)) / draws) + 1e-9
    assert (abs(one.mean(0) - two.mean(0)) < 5 * spread).all()
    with pytest.raises(JnasError, match="unknown mutation"):
        DOMAIN.mutate(keys[0], genes, "node")


def test_equal_spaces_share_one_domain():
    assert domain.of(tabular.NasBench101Space()) is DOMAIN
    assert DOMAIN.cardinalities == SPACE.genes == (2,) * 21 + (3,) * 5


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (([[0, 1], [0, 0]], ("input", "other")), "begin with 'input' and end with"),
        (([[0, 1], [1, 0]], ("input", "output")), "upper triangular"),
        (([[0, 2], [0, 0]], ("input", "output")), "upper triangular"),
        (([[0]], ("input",)), "2 to 7 rows"),
        ((np.triu(np.ones((8, 8)), 1), ("input", *NAMES * 2, "output")), "2 to 7 rows"),
        (([[0, 1, 0]] * 3, ("input", "output")), "one for each operation"),
        (
            ([[0, 1, 0], [0, 0, 1], [0, 0, 0]], ("input", "conv", "output")),
            "unknown operation",
        ),
        (([[0, 0], [0, 0]], ("input", "output")), "no path"),
        (7, "a matrix and the names"),
    ],
)
def test_malformed_specs(spec, message):
    with pytest.raises(JnasError, match=message) as caught:
        SPACE.prune(spec if spec == 7 else tabular.Spec(*spec))
    assert "\n" not in str(caught.value)


def test_ten_edges_are_too_many():
    matrix = np.triu(np.ones((5, 5), int), 1)  # ten edges, all on paths
    spec = tabular.Spec(matrix, ("input", NAMES[0], NAMES[0], NAMES[0], "output"))
    with pytest.raises(JnasError, match="at most 9 edges"):
        SPACE.encode(spec)
    matrix[0, 4] = 0
    assert SPACE.valid(SPACE.encode(tabular.Spec(matrix, spec.operations)))


def hash_of(matrix, inner):
    """With names from the outside, as a user would."""
    names = ("input", *(NAMES[o] for o in inner), "output")
    return SPACE.hash(tabular.Spec(matrix, names))


def test_small_file(tmp_path):
    arrays = compact.arrays101(hash_of)
    np.savez(tmp_path / "nasbench101_20k.npz", **arrays)
    table = tabular.nasbench101(tmp_path)
    assert len(table) == len(compact.CELLS101) and table.datasets == ("cifar10",)
    for row, (vertices, edges, inner) in enumerate(compact.CELLS101):
        names = ("input", *(NAMES[o] for o in inner), "output")
        spec = tabular.Spec(compact.matrix101(vertices, edges), names)
        genes = SPACE.encode(spec)
        assert int(table.rows(genes)) == row
        for epochs in (4, 12, 36, 108):
            value = float(table.values(genes, "cifar10", f"val_{epochs}"))
            np.testing.assert_allclose(
                value, 100 * arrays[f"val_acc_{epochs}"][row], rtol=1e-6
            )
        np.testing.assert_array_equal(
            graphs.canonical(table.genes[row]), graphs.canonical(genes)
        )
    # Unknown and invalid cells.
    many = np.concatenate([SPACE.random(0, 300), np.zeros((3, 26), np.int32)])
    known = {tuple(c) for c in graphs.canonical(table.genes).tolist()}
    wanted = [tuple(c) in known for c in graphs.canonical(many).tolist()]
    np.testing.assert_array_equal(np.asarray(table.rows(many)) >= 0, wanted)
    # The file of all cells is preferred.
    np.savez(tmp_path / "nasbench101.npz", **arrays)
    assert tabular.nasbench101(tmp_path).source.endswith("nasbench101.npz")


def test_seeds_test_accuracy_and_other_times(tmp_path):
    arrays = compact.arrays101(hash_of)
    count = len(arrays["params"])
    rng = np.random.default_rng(0)
    for name in ("val", "test"):
        del arrays["val_acc_108" if name == "val" else "val_acc_36"]
        arrays[f"{name}_acc_108_seeds"] = rng.uniform(0, 1, (count, 3))
    arrays["train_seconds_4"] = np.full(count, 7.0)
    np.savez(tmp_path / "t.npz", **arrays)
    table = tabular.nasbench101(tmp_path / "t.npz")
    metrics = ("val", "val_4", "val_12", "val_108", "test", "test_108")
    assert table.metrics("cifar10")[: len(metrics)] == metrics
    np.testing.assert_allclose(
        table.values(table.genes, "cifar10", "test"),
        100 * arrays["test_acc_108_seeds"].mean(1),
        rtol=1e-6,
    )
    for epochs, seconds in ((4, 7.0), (12, arrays["train_seconds_108"] * 12 / 108)):
        goal = table.objective("cifar10", f"val_{epochs}")
        cost = goal.evaluate(table.genes, jax.random.key(0), jnp.ones(count))[1]
        np.testing.assert_allclose(cost, np.broadcast_to(seconds, count), rtol=1e-6)
    sampled = table.objective("cifar10", "test", noise="sample")
    score = sampled.evaluate(table.genes, jax.random.key(0), jnp.ones(count))[0]
    runs = (100 * arrays["test_acc_108_seeds"]).astype(np.float32)
    assert (np.asarray(score)[:, None] == runs).any(1).all()


def put(name, change):
    return lambda arrays: arrays | {name: change(arrays[name].copy())}


def fill(place, value):
    def change(array):
        array[place] = value
        return array

    return change


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (put("adjacency", lambda a: a[:, :6]), r"\[any, 7, 7\]"),
        (put("adjacency", fill((0, 0, 1), 2)), "row 0: the matrix is not of 0 and 1"),
        (put("adjacency", fill((1, 2, 0), 1)), "row 1: the matrix"),
        (put("adjacency", fill((1, 0, 5), 1)), "row 1: the matrix"),
        (put("adjacency", fill((1, 0, 1), 0)), "row 1: this is no valid cell"),
        (put("num_vertices", fill(2, 8)), "row 2: num_vertices must be 2..7"),
        (put("ops", fill((1, 1), 3)), "row 1: ops must be"),
        (put("ops", fill((0, 1), 0)), "row 0: ops must be"),
        (put("op_names", lambda a: a[::-1]), "'op_names' of .* must be"),
        (put("val_acc_12", lambda a: a * 100), "within 0..1"),
        (put("val_acc_108", lambda a: a * np.nan), "only NaN"),
        (put("params", lambda a: -a), "within"),
        (put("module_hash", lambda a: a[::-1]), "mixed up"),
        (put("module_hash", lambda a: a.view("u1").reshape(-1, 16)), "must be V"),
        (lambda a: {k: v for k, v in a.items() if k != "val_acc_108"}, "val_acc_108"),
        (lambda a: {k: np.concatenate([v, v]) if k != "op_names" else v
                    for k, v in a.items()}, "the same cell twice"),
    ],
)  # fmt: skip
def test_malformed_files(tmp_path, edit, message):
    path = tmp_path / "t.npz"
    np.savez(path, **edit(compact.arrays101(hash_of)))
    with pytest.raises(JnasError, match=message) as caught:
        tabular.nasbench101(path)
    assert "\n" not in str(caught.value)


def test_missing_file_says_how_to_get_it(tmp_path):
    with pytest.raises(JnasError, match="jnas tables convert nasbench101") as caught:
        tabular.nasbench101(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def real():
    folder = os.environ.get("JNAS_DATA")
    if not folder or not pathlib.Path(folder, "nasbench101_20k.npz").is_file():
        pytest.skip("JNAS_DATA has no nasbench101_20k.npz")
    return files.read(pathlib.Path(folder, "nasbench101_20k.npz"))


def test_hashes_of_all_real_cells(real):
    stored = real.arrays
    for row in range(len(stored["ops"])):
        last = int(stored["num_vertices"][row]) - 1
        matrix = stored["adjacency"][row, : last + 1, : last + 1]
        labels = [-1, *stored["ops"][row, 1:last].tolist(), -2]
        digest = space101.fingerprint(matrix, labels)
        assert digest == stored["module_hash"][row].tobytes().hex()
    assert row == 20_000


def test_real_cells_are_distinct_and_found(real):
    table = table101.table(real)
    codes = graphs.canonical(table.genes)
    assert len(np.unique(codes, axis=0)) == len(table) == 20_001
    rows = np.arange(20_001)
    np.testing.assert_array_equal(jax.jit(table.rows)(table.genes), rows)
    # Other vectors of the same cells.
    rng = np.random.default_rng(0)
    for row in rng.choice(20_001, 50, replace=False):
        for order in rng.permutation(list(itertools.permutations(range(1, 6))))[:20]:
            other = permuted(table.genes[row], order)
            if other is not None:
                assert int(table.rows(other)) == row
    # Random cells that are found have the hash of the file, others' isn't there.
    genes = SPACE.random(1, 400)
    found = np.asarray(table.rows(genes))
    hashes = [h.tobytes().hex() for h in real.arrays["module_hash"]]
    for vector, row in zip(genes, found, strict=True):
        digest = SPACE.hash(vector)
        assert hashes[row] == digest if row >= 0 else digest not in hashes
    assert (found >= 0).sum() > 5
    column = table.columns["cifar10"]["val"]
    assert column.epochs == (4, 12, 36, 108)
    np.testing.assert_allclose(
        column.values[:, 3], 100 * real.arrays["val_acc_108"].astype(float)
    )
    np.testing.assert_allclose(
        column.seconds[:, 1], real.arrays["train_seconds_108"] / 9.0, rtol=1e-6
    )


def test_the_space_has_423_624_cells():
    """Graphs without labels first; then all labels of one of each kind."""
    count = 0
    for vertices in range(2, 8):
        inner = vertices - 2
        pairs = list(itertools.combinations(range(vertices), 2))
        numbers = np.arange(2 ** len(pairs), dtype=np.int64)
        bits = (numbers[:, None] >> np.arange(len(pairs))[None]) & 1
        bits = bits[bits.sum(1) <= 9]
        # The output is vertex 6 in genes.
        place = [*range(vertices - 1), 6]
        genes = np.zeros((len(bits), 26), np.int32)
        for i, (source, target) in enumerate(pairs):
            bit = graphs.EDGES.index((place[source], place[target]))
            genes[:, bit] = bits[:, i]
        full = sum(1 << v for v in place)
        genes = genes[graphs.active(genes) == full]
        codes = table101._canonical(genes)
        genes = genes[np.unique(codes, axis=0, return_index=True)[1]]
        labels = np.array(list(itertools.product(range(3), repeat=inner)), np.int32)
        labels = labels.reshape(3**inner, inner)
        many = np.repeat(genes, len(labels), 0)
        many[:, 21 : 21 + inner] = np.tile(labels, (len(genes), 1))
        assert math.prod(many.shape) < 2e8
        count += len(np.unique(table101._canonical(many), axis=0))
    assert count == SPACE.size == 423_624
