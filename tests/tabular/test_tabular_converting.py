"""Converters: from files in the official layouts to tables with the same figures."""

import collections
import pickle

import compact
import numpy as np
import official
import pytest
from fuzz.damage import damaged, edits, fuzz
from hypothesis import given

from jnas import JnasError, tabular
from jnas.tabular import converting

SPACE = tabular.NasBench101Space()


@pytest.fixture
def folder(tmp_path):
    return official.nats_folder(
        tmp_path / "NATS-tss-simple", official.ARCHS, official.CONTENTS
    )


def mean(content, name, epochs, take):
    """Mean over the seeds, by a loop."""
    runs = content[str(epochs)]["all_results"]
    values = [take(run) for (there, _), run in runs.items() if there == name]
    return sum(values) / len(values)


TAKEN = [
    ("cifar10", "val", "cifar10-valid", "x-valid"),
    ("cifar10", "test", "cifar10", "ori-test"),
    ("cifar100", "val", "cifar100", "x-valid"),
    ("cifar100", "test", "cifar100", "x-test"),
    ("cifar100", "valtest", "cifar100", "ori-test"),
    ("imagenet16", "val", "ImageNet16-120", "x-valid"),
    ("imagenet16", "test", "ImageNet16-120", "x-test"),
    ("imagenet16", "valtest", "ImageNet16-120", "ori-test"),
]


@pytest.mark.parametrize("workers", [1, 2])
def test_nats_bench(folder, tmp_path, workers):
    told = []
    written = converting.convert(
        "nasbench201", folder, tmp_path, workers=workers,
        progress=lambda *done: told.append(done),
    )  # fmt: skip
    assert told == [(i, 4) for i in range(1, 5)]
    table = tabular.nasbench201(written)
    np.testing.assert_array_equal(table.genes, official.CELLS)
    for dataset, metric, there, split in TAKEN:
        for epochs in (12, 200):
            column = table.column(dataset, f"{metric}_{epochs}")
            for row, content in enumerate(official.CONTENTS):
                key = f"{split}@{epochs - 1}"
                value = mean(
                    content, there, epochs, lambda r, k=key: r["eval_acc1es"][k]
                )
                np.testing.assert_allclose(column.values[row, 0], value, rtol=1e-6)
                seeds = column.seeds[row, :, 0]
                for place, seed in enumerate((777, 888, 999)):
                    run = content[str(epochs)]["all_results"].get((there, seed))
                    wanted = np.nan if run is None else run["eval_acc1es"][key]
                    np.testing.assert_allclose(seeds[place], wanted, rtol=1e-6)
            if metric == "val":
                seconds = mean(
                    official.CONTENTS[1],
                    there,
                    epochs,
                    lambda r: sum(r["train_times"].values()),
                )
                np.testing.assert_allclose(column.seconds[1, 0], seconds, rtol=1e-6)
    np.testing.assert_array_equal(table.facts["n_seeds_200"], [3, 2, 2, 3])
    np.testing.assert_array_equal(
        table.facts["unique_id"], tabular.classes(official.CELLS)
    )
    for dataset, coefficients in compact.PARAMS.items():
        params = table.columns[dataset]["params"].values[:, 0]
        np.testing.assert_array_equal(
            params, compact.linear(coefficients, official.CELLS)
        )


def test_missing_cells_are_refused_unless_told(folder, tmp_path):
    (folder / "000001.pickle.pbz2").unlink()
    official.refused(
        folder, r"lacks the files of 1 of 4 cells, first 000001\.pickle\.pbz2"
    )
    written = converting.convert("nasbench201", folder, tmp_path, partial=True)
    table = tabular.nasbench201(written)
    np.testing.assert_array_equal(table.genes, official.CELLS[[0, 2, 3]])
    assert np.isnan(table.values(official.CELLS[1].astype(np.int32), "cifar10", "val"))
    # The name without leading zeros is read, too.
    (folder / "000000.pickle.pbz2").rename(folder / "0.pickle.pbz2")
    official.refused(folder, "lacks the files of 1 of 4 cells")


class Hostile:
    def __reduce__(self):
        import os

        return os.system, ("touch hostile",)


def changed(edit):
    """The file of the first cell after an edit."""
    content = pickle.loads(pickle.dumps(official.CONTENTS[0]))
    edit(content)
    return official.packed(content)


def delete(content, *keys):
    for key in keys[:-1]:
        content = content[key]
    del content[keys[-1]]


RUN = ("200", "all_results", ("cifar100", 777))
MALFORMED = {
    "not packed": (b"text", "not packed by bzip2"),
    "cut off": (official.packed(official.CONTENTS[0])[:-20], "cut off"),
    "no pickle": (official.bz2.compress(b"text"), "damaged or no pickle"),
    "hostile": (official.packed({"12": Hostile()}), "nothing is run"),
    "a class": (official.packed(collections.Counter()), "nothing is run"),
    "a list": (official.packed([1]), "has another layout"),
    "no 12 epochs": (changed(lambda c: delete(c, "12")), "KeyError: '12'"),
    "no results": (changed(lambda c: delete(c, "200", "all_results")), "all_results"),
    "other cell": (official.packed(official.CONTENTS[1]), "it is of the cell"),
    "no epochs": (changed(lambda c: delete(c, *RUN, "epochs")), "epochs"),
    "other epochs": (
        changed(lambda c: c["200"]["all_results"][RUN[2]].update(epochs=90)),
        "90 epochs where 200",
    ),
    "other set": (
        changed(lambda c: c["200"]["all_results"].update({("mnist", 1): {}})),
        "unknown set 'mnist'",
    ),
    "no times": (
        changed(lambda c: c["200"]["all_results"][RUN[2]]["train_times"].pop(7)),
        "KeyError: 7",
    ),
    "text for numbers": (
        changed(lambda c: c["200"]["all_results"][RUN[2]]["eval_acc1es"].update(
            {"x-test@199": "many"})),
        "another layout",
    ),
    "too high": (
        changed(lambda c: c["200"]["all_results"][RUN[2]]["eval_acc1es"].update(
            {"x-test@199": 1e4})),
        r"within 0\.\.100",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_cells(folder, tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    content, message = MALFORMED[case]
    (folder / "000000.pickle.pbz2").write_bytes(content)
    official.refused(folder, message)
    assert not (tmp_path / "hostile").exists()


def test_malformed_folders(folder, tmp_path):
    meta = folder / "meta.pickle.pbz2"
    for content, message in (
        ({"other": 1}, "no list meta_archs"),
        ({"meta_archs": []}, "no list meta_archs"),
        ({"meta_archs": ["8:8:16:24:64"]}, "no cells of the topology space"),
        ({"meta_archs": [None]}, "no cells of the topology space"),
    ):
        meta.write_bytes(official.packed(content))
        official.refused(folder, message)
    meta.unlink()
    official.refused(folder, "is no folder with meta.pickle.pbz2")
    official.refused(tmp_path / "nothing", "there is no")
    official.refused(folder, "workers must be >= 1", workers=0)
    official.refused(
        folder, "unknown table to convert 'nasbench301'", name="nasbench301"
    )


def test_every_protocol_of_pickle(tmp_path):
    for protocol in range(6):
        folder = official.nats_folder(tmp_path / str(protocol), official.ARCHS[:1], [])
        (folder / "000000.pickle.pbz2").write_bytes(
            official.packed(official.CONTENTS[0], protocol)
        )
        written = converting.convert("nasbench201", folder, tmp_path / "out")
        assert len(tabular.nasbench201(written)) == 1


def test_compact_files_are_checked_and_copied(tmp_path):
    arrays = compact.arrays201()
    np.savez(tmp_path / "mine.npz", **arrays)
    written = converting.convert("nasbench201", tmp_path / "mine.npz", tmp_path / "a")
    assert written == tmp_path / "a" / "nasbench201.npz"
    again = converting.convert("nasbench201", written, tmp_path / "b")
    with np.load(again, allow_pickle=False) as stored:
        assert set(stored.files) == {*arrays, "checksum"}
        for name, array in arrays.items():
            np.testing.assert_array_equal(stored[name], array)
    np.savez(tmp_path / "times.npz", **compact.latencies201())
    written = converting.convert("nasbench201", tmp_path / "times.npz", tmp_path / "a")
    assert written.name == "nasbench201_latency.npz"
    assert "latency_fpga" in tabular.nasbench201(tmp_path / "a").metrics("cifar10")
    del arrays["ops"]
    np.savez(tmp_path / "bad.npz", **arrays)
    official.refused(tmp_path / "bad.npz", "no array 'ops'")
    official.refused(tmp_path / "mine.npz", "no array 'adjacency'", "nasbench101")


def one_cell(tmp_path_factory):
    base = tmp_path_factory.getbasetemp() / "fuzzed"
    return official.nats_folder(base, official.ARCHS[:1], [])


SMALL = official.packed(official.CONTENTS[0])


@fuzz(25)
@given(edits=edits)
def test_damaged_nats_files_never_crash(tmp_path_factory, edits):
    folder = one_cell(tmp_path_factory)
    # Damage inside the archive, where its checksum does not see it.
    content = official.bz2.compress(
        damaged(pickle.dumps(official.CONTENTS[0], 4), edits)
    )
    (folder / "000000.pickle.pbz2").write_bytes(content)
    try:
        converting.convert("nasbench201", folder, folder / "out")
    except JnasError as error:
        assert "\n" not in str(error)
