"""NAS-Bench-201: the real table, known values, classes, and small files."""

import itertools
import os
import pathlib

import compact
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnas import JnasError, spaces, tabular

SPACE = spaces.nasbench201()
ALL = np.array(list(itertools.product(range(5), repeat=6)), np.int32)


@pytest.fixture(scope="module")
def real():
    folder = os.environ.get("JNAS_DATA")
    if not folder or not pathlib.Path(folder, "nasbench201.npz").is_file():
        pytest.skip("JNAS_DATA has no nasbench201.npz")
    return tabular.nasbench201(folder)


@pytest.fixture
def stored(data_folder):
    with np.load(data_folder / "nasbench201.npz", allow_pickle=False) as file:
        return dict(file)


@pytest.fixture
def small(tmp_path):
    np.savez(tmp_path / "nasbench201.npz", **compact.arrays201())
    return tabular.nasbench201(tmp_path)


def genes_of(text):
    return SPACE.encode(spaces.Genotype.parse(text))


def test_every_cell_of_the_real_table(real, stored):
    place = {tuple(cell): row for row, cell in enumerate(stored["ops"].tolist())}
    order = [place[tuple(cell)] for cell in ALL.tolist()]
    assert sorted(order) == list(range(15625))
    np.testing.assert_array_equal(jax.jit(real.rows)(ALL), order)
    np.testing.assert_array_equal(jax.vmap(real.rows)(ALL), order)
    for dataset in ("cifar10", "cifar100", "imagenet16"):
        names = [f"{m}_{e}" for m in ("val", "test") for e in (12, 200)]
        for name in (*names, "params", "flops"):
            values = real.values(ALL, dataset, name)
            wanted = stored[f"{dataset}_{name}"][order].astype(np.float32)
            np.testing.assert_array_equal(values, wanted)
        objective = real.objective(dataset, "val_12")
        score, cost = jax.jit(objective.evaluate)(
            ALL, jax.random.key(0), jnp.ones(len(ALL))
        )
        np.testing.assert_array_equal(score, stored[f"{dataset}_val_12"][order])
        seconds = stored[f"{dataset}_train_seconds_200"][order].astype(np.float64)
        np.testing.assert_allclose(cost, seconds * 12 / 200, rtol=1e-6)


def test_costs_of_the_tested_networks_of_cifar10_are_doubled(real, stored):
    given = jnp.ones(15625)
    key = jax.random.key(0)
    genes = real.genes
    seconds = stored["cifar10_train_seconds_200"]
    for metric, factor in (("val_200", 1), ("test_200", 2), ("test_12", 2 * 12 / 200)):
        cost = real.objective("cifar10", metric).evaluate(genes, key, given)[1]
        np.testing.assert_allclose(cost, seconds * factor, rtol=1e-6)


@pytest.mark.parametrize(
    ("dataset", "metric", "row", "value"),
    [
        ("cifar10", "test_200", 6111, 94.37),
        ("cifar10", "val_200", 6111, 91.61),
        ("cifar100", "test_200", 9930, 73.51),
        ("cifar100", "val_200", 9930, 73.49),
        ("imagenet16", "test_200", 857, 47.31),
        ("imagenet16", "val_200", 10676, 46.73),
    ],
)
def test_known_best(real, dataset, metric, row, value):
    genes, best = real.best(dataset, metric)
    assert round(best, 2) == value and int(real.rows(genes)) == row


@pytest.mark.parametrize(
    ("text", "row", "values"),
    [
        (
            "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+"
            "|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|",
            9930,
            (91.55, 94.36, 73.49, 73.51, 46.37, 46.34),
        ),
        (
            "|skip_connect~0|+|skip_connect~0|skip_connect~1|+"
            "|skip_connect~0|skip_connect~1|skip_connect~2|",
            1835,
            (39.77, 54.30, 15.03, 15.61, 16.43, 16.32),
        ),
    ],
)
def test_known_cells(real, text, row, values):
    genes = genes_of(text)
    assert int(real.rows(genes)) == row
    names = [(d, m) for d in real.datasets for m in ("val_200", "test_200")]
    found = [round(float(real.values(genes, d, m)), 2) for d, m in names]
    np.testing.assert_allclose(found, values, atol=0.0051)


def test_known_costs(real):
    best = genes_of(
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+"
        "|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
    )
    params = real.columns["cifar10"]["params"].values[int(real.rows(best)), 0]
    flops = real.columns["cifar10"]["flops"].values
    assert params == 1_288_506
    assert flops[int(real.rows(best)), 0] == 184_730_250
    assert flops[0, 0] == 15_647_370


def test_seeds_and_their_means(real, stored):
    column = real.columns["cifar10"]["val"]
    assert column.epochs == (12, 200)
    np.testing.assert_array_equal(column.seeds[..., 1], stored["cifar10_val_200_seeds"])
    known = np.isfinite(column.seeds[..., 1]).sum(1)
    np.testing.assert_array_equal(known, stored["n_seeds_200"])
    both = real.columns["cifar100"]["valtest"]
    half = (stored["cifar100_val_200"] + stored["cifar100_test_200"]) / 2
    np.testing.assert_allclose(both.values[:, 0], half, atol=2e-5)
    sampled = real.objective("cifar10", "val", noise="sample")
    score = sampled.evaluate(real.genes, jax.random.key(0), jnp.ones(15625))[0]
    hits = (np.asarray(score)[:, None] == stored["cifar10_val_200_seeds"]).any(1)
    assert hits.all()
    with pytest.raises(JnasError, match="no seeds of val_12"):
        real.objective("cifar10", "val_12", noise="sample")


def test_latencies_follow_the_cells(real, data_folder):
    with np.load(data_folder / "nasbench201_latency.npz", allow_pickle=False) as file:
        file = dict(file)
    rng = np.random.default_rng(0)
    rows = rng.choice(15625, 200, replace=False)
    for i, device in enumerate(file["devices"].tolist()):
        values = real.values(
            file["ops"][rows].astype(np.int32), "cifar10", f"latency_{device}"
        )
        np.testing.assert_array_equal(values, file["latency_ms"][rows, i])
    assert len(file["devices"]) == 27
    np.testing.assert_array_equal(real.facts["connected"], file["connected"])


def test_classes_are_those_of_the_benchmark(stored):
    ours = tabular.classes(stored["ops"])
    pairs = set(zip(ours.tolist(), stored["unique_id"].tolist(), strict=True))
    # One to one, so the partitions are equal.
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


@pytest.mark.parametrize(
    ("rule", "count"), [("official", 6466), ("skips", 12751), ("drop_zeros", 5390)]
)
def test_numbers_of_classes(rule, count):
    found = tabular.classes(ALL, rule)
    assert found.dtype == np.int32 and len(np.unique(found)) == count
    assert found.max() == count - 1


def test_cells_of_a_class_compute_the_same():
    """With numbers for features and one function for each operation."""
    functions = [
        lambda x: 0 * x,
        lambda x: x,
        lambda x: np.sin(1 + x),
        lambda x: np.cos(2 * x),
        lambda x: np.sqrt(3 + x),
    ]
    inputs = np.array([0.3, 0.7, 1.1])
    edges = compact.EDGES
    outputs = np.empty((len(ALL), 3))
    for row, genes in enumerate(ALL.tolist()):
        nodes = [inputs, 0.0, 0.0, 0.0]
        for operation, (source, target) in zip(genes, edges, strict=True):
            # An operation on zeros alone gives zeros, as convolutions do.
            zero = not np.any(nodes[source])
            passed = 0.0 if zero else functions[operation](nodes[source])
            nodes[target] = nodes[target] + passed
        outputs[row] = nodes[3]
    for rule in ("official", "drop_zeros"):
        classes = tabular.classes(ALL, rule)
        first = np.unique(classes, return_index=True)[1]
        np.testing.assert_allclose(outputs, outputs[first][classes], atol=1e-9)
    connected = tabular.connected(ALL)
    np.testing.assert_array_equal(connected, (outputs != 0).any(1))
    assert (~connected).sum() == 341


def test_classes_refuse_other_genes():
    for genes in ([[0] * 5], [[5] * 6], [[0.5] * 6]):
        for function in (tabular.classes, tabular.connected):
            with pytest.raises(JnasError):
                function(genes)
    with pytest.raises(JnasError, match="unknown rule"):
        tabular.classes(ALL[:1], "other")


def test_small_file(small):
    arrays = compact.arrays201()
    assert len(small) == 20 and small.datasets == ("cifar10", "cifar100", "imagenet16")
    cells = {tuple(cell): row for row, cell in enumerate(arrays["ops"].tolist())}
    for name in compact.PARAMS:
        for metric in ("val_12", "val_200", "test_12", "test_200", "params"):
            values = np.asarray(small.values(ALL, name, metric))
            for genes, value in zip(ALL.tolist(), values, strict=True):
                row = cells.get(tuple(genes))
                if row is None:
                    assert np.isnan(value)
                else:
                    assert value == np.float32(arrays[f"{name}_{metric}"][row])
    assert small.metrics("cifar100")[-3:] == ("train_seconds_200", "params", "flops")
    assert "valtest" in small.metrics("cifar100")
    assert "valtest" not in small.metrics("cifar10")
    assert not any("latency" in name for name in small.metrics("cifar10"))
    assert small.source.endswith("nasbench201.npz")


def test_small_latencies_in_another_order(tmp_path):
    np.savez(tmp_path / "nasbench201.npz", **compact.arrays201())
    arrays = compact.latencies201()
    np.savez(tmp_path / "nasbench201_latency.npz", **arrays)
    table = tabular.nasbench201(tmp_path)
    for cell, row in zip(
        arrays["ops"].astype(np.int32), arrays["latency_ms"], strict=True
    ):
        for device, value in zip(("pixel3", "fpga"), row, strict=True):
            assert float(table.values(cell, "cifar10", f"latency_{device}")) == value
    with pytest.raises(JnasError, match="no file of latencies"):
        tabular.nasbench201(tmp_path, tmp_path / "other.npz")
    arrays["devices"] = np.array(["fpga", "fpga"])
    np.savez(tmp_path / "nasbench201_latency.npz", **arrays)
    with pytest.raises(JnasError, match="a name twice"):
        tabular.nasbench201(tmp_path)


def test_seconds_of_12_epochs_where_the_file_has_them(tmp_path):
    arrays = compact.arrays201()
    arrays["cifar10_train_seconds_12"] = np.arange(1, 21, dtype=np.float32)
    np.savez(tmp_path / "nasbench201.npz", **arrays)
    table = tabular.nasbench201(tmp_path)
    cost = table.objective("cifar10", "val_12").evaluate(
        table.genes, jax.random.key(0), jnp.ones(20)
    )[1]
    np.testing.assert_array_equal(cost, np.arange(1, 21))


def test_missing_file_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.delenv("JNAS_DATA", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with pytest.raises(JnasError, match="jnas tables convert nasbench201") as caught:
        tabular.nasbench201()
    assert "\n" not in str(caught.value) and "github.com" in str(caught.value)
    with pytest.raises(JnasError, match="there is no"):
        tabular.nasbench201(tmp_path / "nothing.npz")
    # In the user's folder it is found.
    folder = tmp_path / "jnas" / "tables"
    folder.mkdir(parents=True)
    np.savez(folder / "nasbench201.npz", **compact.arrays201())
    assert len(tabular.nasbench201()) == 20
    monkeypatch.setenv("JNAS_DATA", str(folder))
    assert len(tabular.get("nasbench201")) == 20
    with pytest.raises(JnasError, match="unknown table 'nasbench202'"):
        tabular.get("nasbench202")
