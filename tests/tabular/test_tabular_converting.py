"""Converters: from files in the official layouts to tables with the same figures."""

import collections
import pickle

import compact
import numpy as np
import official
import pytest
from fuzz.damage import damaged, edits, fuzz
from hypothesis import given

from jnas import JnasError, cli, spaces, tabular
from jnas.tabular import converting, files
from jnas.tabular.converting import official101, tfrecord

SPACE = tabular.NasBench101Space()
CELLS = compact.cells201(4, seed=3)
ARCHS = [str(spaces.nasbench201().decode(cell.astype(np.int32))) for cell in CELLS]
SEEDS = [[777, 888, 999], [777, 999], [777, 888], [777, 888, 999]]


def cell_files():
    rng = np.random.default_rng(0)
    rows = enumerate(zip(ARCHS, SEEDS, strict=True))
    return [official.cell_of(i, arch, seeds, rng) for i, (arch, seeds) in rows]


CONTENTS = cell_files()


@pytest.fixture
def folder(tmp_path):
    return official.nats_folder(tmp_path / "NATS-tss-simple", ARCHS, CONTENTS)


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
    np.testing.assert_array_equal(table.genes, CELLS)
    for dataset, metric, there, split in TAKEN:
        for epochs in (12, 200):
            column = table.column(dataset, f"{metric}_{epochs}")
            for row, content in enumerate(CONTENTS):
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
                    CONTENTS[1], there, epochs, lambda r: sum(r["train_times"].values())
                )
                np.testing.assert_allclose(column.seconds[1, 0], seconds, rtol=1e-6)
    np.testing.assert_array_equal(table.facts["n_seeds_200"], [3, 2, 2, 3])
    np.testing.assert_array_equal(table.facts["unique_id"], tabular.classes(CELLS))
    for dataset, coefficients in compact.PARAMS.items():
        params = table.columns[dataset]["params"].values[:, 0]
        np.testing.assert_array_equal(params, compact.linear(coefficients, CELLS))


def refused(path, message, name="nasbench201", **options):
    target = path.parent / "out"
    with pytest.raises(JnasError, match=message) as caught:
        converting.convert(name, path, target, **options)
    assert "\n" not in str(caught.value)
    assert not target.exists() or not list(target.iterdir())


def test_missing_cells_are_refused_unless_told(folder, tmp_path):
    (folder / "000001.pickle.pbz2").unlink()
    refused(folder, r"lacks the files of 1 of 4 cells, first 000001\.pickle\.pbz2")
    written = converting.convert("nasbench201", folder, tmp_path, partial=True)
    table = tabular.nasbench201(written)
    np.testing.assert_array_equal(table.genes, CELLS[[0, 2, 3]])
    assert np.isnan(table.values(CELLS[1].astype(np.int32), "cifar10", "val"))
    # The name without leading zeros is read, too.
    (folder / "000000.pickle.pbz2").rename(folder / "0.pickle.pbz2")
    refused(folder, "lacks the files of 1 of 4 cells")


class Hostile:
    def __reduce__(self):
        import os

        return os.system, ("touch hostile",)


def changed(edit):
    """The file of the first cell after an edit."""
    content = pickle.loads(pickle.dumps(CONTENTS[0]))
    edit(content)
    return official.packed(content)


def delete(content, *keys):
    for key in keys[:-1]:
        content = content[key]
    del content[keys[-1]]


RUN = ("200", "all_results", ("cifar100", 777))
MALFORMED = {
    "not packed": (b"text", "not packed by bzip2"),
    "cut off": (official.packed(CONTENTS[0])[:-20], "cut off"),
    "no pickle": (official.bz2.compress(b"text"), "damaged or no pickle"),
    "hostile": (official.packed({"12": Hostile()}), "nothing is run"),
    "a class": (official.packed(collections.Counter()), "nothing is run"),
    "a list": (official.packed([1]), "has another layout"),
    "no 12 epochs": (changed(lambda c: delete(c, "12")), "KeyError: '12'"),
    "no results": (changed(lambda c: delete(c, "200", "all_results")), "all_results"),
    "other cell": (official.packed(CONTENTS[1]), "it is of the cell"),
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
    refused(folder, message)
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
        refused(folder, message)
    meta.unlink()
    refused(folder, "is no folder with meta.pickle.pbz2")
    refused(tmp_path / "nothing", "there is no")
    refused(folder, "workers must be >= 1", workers=0)
    refused(folder, "unknown table to convert 'nasbench301'", name="nasbench301")


def test_every_protocol_of_pickle(tmp_path):
    for protocol in range(6):
        folder = official.nats_folder(tmp_path / str(protocol), ARCHS[:1], [])
        (folder / "000000.pickle.pbz2").write_bytes(
            official.packed(CONTENTS[0], protocol)
        )
        written = converting.convert("nasbench201", folder, tmp_path / "out")
        assert len(tabular.nasbench201(written)) == 1


def test_crc_is_that_of_the_standard():
    # RFC 3720, appendix B.4.
    assert official.crc32c(bytes(32)) == 0x8A9136AA
    assert official.crc32c(bytes(range(32))) == 0x46DD794E
    rng = np.random.default_rng(0)
    contents = [rng.bytes(n) for n in (0, 1, 7, 8, 300, 31)]
    wanted = [official.masked(content) for content in contents]
    np.testing.assert_array_equal(tfrecord.masked_crc(contents), wanted)


def records101(epochs=(4, 108), repeats=3, seed=0):
    """Records of the small cells in random order, and their figures."""
    rng = np.random.default_rng(seed)
    rows, figures = [], collections.defaultdict(list)
    for vertices, edges, inner in compact.CELLS101:
        matrix = compact.matrix101(vertices, edges)
        names = ["input", *(compact.NAMES101[o] for o in inner), "output"]
        digest = SPACE.hash(tabular.Spec(matrix, tuple(names)))
        parameters = int(rng.integers(100, 10**7))
        for number in epochs:
            for _ in range(repeats):
                stages = rng.uniform(0.1, 0.9, (3, 5)) * [108, 2000, 1, 1, 1]
                message = official.metrics(stages.tolist(), parameters)
                rows.append((digest, number, matrix, names, message))
                figures[digest, number].append((stages[-1].tolist(), parameters))
    order = rng.permutation(len(rows))
    # Figures in the order in which the file tells them.
    told = collections.defaultdict(list)
    counted = collections.Counter()
    per_key = {key: list(values) for key, values in figures.items()}
    positions = collections.defaultdict(list)
    for place, row in enumerate(rows):
        positions[row[0], row[1]].append(place)
    for place in order:
        key = rows[place][0], rows[place][1]
        told[key].append(per_key[key][positions[key].index(place)])
        counted[key] += 1
    return [official.record(*rows[i]) for i in order], told


def write101(path, contents):
    path.write_bytes(official.tfrecord(contents))
    return path


@pytest.mark.parametrize("epochs", [(108,), (4, 12, 36, 108)])
def test_nasbench101(tmp_path, epochs):
    contents, told = records101(epochs)
    path = write101(tmp_path / "nasbench.tfrecord", contents)
    done = []
    written = converting.convert(
        "nasbench101", path, tmp_path, progress=lambda *x: done.append(x)
    )
    assert written.name == "nasbench101.npz"
    assert done[-1] == (path.stat().st_size,) * 2
    table = tabular.nasbench101(written)
    assert len(table) == len(compact.CELLS101)
    for row in range(len(table)):
        digest = SPACE.hash(table.genes[row])
        for number in epochs:
            runs = told[digest, number]
            for metric, place in (("val", 3), ("test", 4)):
                column = table.column("cifar10", f"{metric}_{number}")
                seeds = [100 * values[place] for values, _ in runs]
                np.testing.assert_allclose(column.seeds[row, :, 0], seeds, rtol=1e-6)
                np.testing.assert_allclose(
                    column.values[row, 0], sum(seeds) / 3, rtol=1e-6
                )
                seconds = sum(values[1] for values, _ in runs) / 3
                np.testing.assert_allclose(column.seconds[row, 0], seconds, rtol=1e-6)
            params = table.columns["cifar10"]["params"].values[row, 0]
            assert params == runs[0][1]


def test_many_records_are_verified_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(tfrecord, "TOGETHER", 5)
    contents, _ = records101()
    path = write101(tmp_path / "t.tfrecord", contents)
    found = list(tfrecord.records(path))
    assert [content for content, _ in found] == contents
    assert found[-1][1] == path.stat().st_size
    assert len(official101.read(path)["params"]) == 7


def test_damaged_records(tmp_path):
    contents, _ = records101((108,), 1)
    whole = official.tfrecord(contents)
    path = tmp_path / "t.tfrecord"
    second = 16 + len(contents[0])
    for place, message in (
        (second + 12, "doesn't fit its checksum"),
        (second + 11, "doesn't fit its checksum"),
        (second + 7, "a record of"),
        (second, "cut off|damaged"),
        (len(whole) - 1, "doesn't fit its checksum"),
    ):
        content = bytearray(whole)
        content[place] ^= 64
        path.write_bytes(bytes(content))
        refused(path, message, "nasbench101")
    for length in (len(whole) - 1, second + 5, second + 12, 3):
        path.write_bytes(whole[:length])
        refused(path, "cut off", "nasbench101")
    path.write_bytes(b"")
    refused(path, "has no records", "nasbench101")


def good(**changes):
    """One record with something changed."""
    vertices, edges, inner = compact.CELLS101[3]
    matrix = compact.matrix101(vertices, edges)
    names = ["input", *(compact.NAMES101[o] for o in inner), "output"]
    parts = {
        "digest": SPACE.hash(tabular.Spec(matrix, tuple(names))),
        "epochs": 108,
        "matrix": matrix,
        "operations": names,
        "message": official.metrics([(0, 1, 0.1, 0.2, 0.3)] * 3, 5),
    }
    return official.record(**(parts | changes))


DIGEST = SPACE.hash(tabular.Spec([[0, 1], [0, 0]], ("input", "output")))
RECORDS = {
    "no json": (b"text", "record 0, has another layout"),
    "no list": (b"7", "another layout"),
    "short": (b'["a", 108]', "not enough values"),
    "epochs": (good(epochs=90), "epochs 90"),
    "hash": (good(digest=DIGEST), "but that of its cell is"),
    "short hash": (good(digest="00ff"), "the hash '00ff'"),
    "matrix": (good(matrix=[[0, 1, 1]]), "the matrix '011'"),
    "bits": (good(matrix=[[0, 7], [0, 0]]), "the matrix '0700'"),
    "lower": (good(matrix=np.eye(4, dtype=int)), "upper triangular"),
    "operations": (good(operations=["input", "output"]), "one for each operation"),
    "names": (good(operations=["input", "a", "b", "output"]), "unknown operation"),
    "one evaluation": (
        good(message=official.metrics([(0, 1, 0.1, 0.2, 0.3)], 5)),
        "1 evaluations",
    ),
    "no message": (good(message=b""), "0 evaluations"),
    "cut message": (good(message=official.metrics([(0,) * 5] * 3, 5)[:-3]), "another"),
    "odd message": (good(message=b"\x0b"), "a field of the kind 3"),
    "long number": (good(message=b"\x10" + b"\xff" * 11), "more than ten bytes"),
    "no test": (good(message=b"\x0a\x00" * 3 + b"\x10\x05"), "KeyError: 2"),
    "too high": (
        good(message=official.metrics([(0, 1, 0.1, 2.2, 0.3)] * 3, 5)),
        r"within 0\.\.1",
    ),
    "only 4 epochs": (good(epochs=4), "no runs of 108 epochs"),
}


@pytest.mark.parametrize("case", RECORDS)
def test_malformed_records(tmp_path, case):
    content, message = RECORDS[case]
    refused(write101(tmp_path / "t.tfrecord", [content]), message, "nasbench101")


def test_different_parameters_of_one_cell(tmp_path):
    other = official.metrics([(0, 1, 0.1, 0.2, 0.3)] * 3, 6)
    path = write101(tmp_path / "t.tfrecord", [good(), good(message=other)])
    refused(path, "different parameters", "nasbench101")


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
    refused(tmp_path / "bad.npz", "no array 'ops'")
    refused(tmp_path / "mine.npz", "no array 'adjacency'", "nasbench101")


def one_cell(tmp_path_factory):
    base = tmp_path_factory.getbasetemp() / "fuzzed"
    return official.nats_folder(base, ARCHS[:1], [])


SMALL = official.packed(CONTENTS[0])


@fuzz(25)
@given(edits=edits)
def test_damaged_nats_files_never_crash(tmp_path_factory, edits):
    folder = one_cell(tmp_path_factory)
    # Damage inside the archive, where its checksum does not see it.
    content = official.bz2.compress(damaged(pickle.dumps(CONTENTS[0], 4), edits))
    (folder / "000000.pickle.pbz2").write_bytes(content)
    try:
        converting.convert("nasbench201", folder, folder / "out")
    except JnasError as error:
        assert "\n" not in str(error)


@fuzz(40)
@given(edits=edits)
def test_damaged_messages_never_crash(tmp_path_factory, edits):
    message = official.metrics([(0, 1, 0.1, 0.2, 0.3)] * 3, 5)
    path = tmp_path_factory.getbasetemp() / "damaged.tfrecord"
    write101(path, [good(message=damaged(message, edits))])
    try:
        converting.convert("nasbench101", path, path.parent / "fuzzed101")
    except JnasError as error:
        assert "\n" not in str(error)


@fuzz(40)
@given(edits=edits)
def test_damaged_json_never_crashes(tmp_path_factory, edits):
    path = tmp_path_factory.getbasetemp() / "damaged.tfrecord"
    write101(path, [damaged(good(), edits)])
    try:
        converting.convert("nasbench101", path, path.parent / "fuzzed101")
    except JnasError as error:
        assert "\n" not in str(error)


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Runs the program; returns its status and what it printed."""
    monkeypatch.delenv("JNAS_DATA", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "user"))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments):
        status = cli.main(["tables", *map(str, arguments)])
        out, err = capsys.readouterr()
        return status, out, err

    return run


def test_command_converts_and_lists(command, folder, tmp_path, monkeypatch):
    status, out, _ = command("list")
    assert status == 0 and out.count("jnas tables convert") == 2
    status, out, _ = command("convert", "nasbench201", folder)
    written = tmp_path / "user" / "jnas" / "tables" / "nasbench201.npz"
    assert status == 0 and out == f"wrote {written}\n" and written.is_file()
    status, out, _ = command("list")
    assert status == 0 and "cifar10, cifar100, imagenet16" in out
    assert str(written) in out.replace("\n", "") and " 4 " in out
    # Elsewhere, where JNAS_DATA finds it first.
    path = write101(tmp_path / "t.tfrecord", records101()[0])
    status, out, _ = command("convert", "nasbench101", path, "--to", tmp_path / "there")
    assert status == 0
    monkeypatch.setenv("JNAS_DATA", str(tmp_path / "there"))
    assert len(tabular.nasbench101()) == 7 and len(tabular.nasbench201()) == 4
    written.write_bytes(b"broken")
    status, out, _ = command("list")
    assert status == 0 and "damaged or no .npz file" in out and " 7 " in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["convert", "nasbench301", "."], "unknown table to convert 'nasbench301'"),
        (["convert", "nasbench201", "nothing"], "there is no nothing"),
        (["convert", "nasbench201", "."], "no folder with meta.pickle.pbz2"),
        (["convert", "nasbench101", "."], "cannot read ."),
        (["convert", "nasbench201", "bad.npz"], "damaged or no .npz file"),
        (["convert", "nasbench201", "good.npz", "--to", "bad.npz"], "is no folder"),
        (["convert", "nasbench201", "good.npz", "--workers", "0"], "workers must be"),
        (["convert"], "Missing from jnas tables convert"),
        ([], "Expected one of {convert, list}"),
        (["remove"], "remove"),
    ],
)
def test_command_errors_are_one_line(
    command, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.npz").write_bytes(b"bad")
    np.savez("good.npz", **compact.arrays201())
    before = sorted(tmp_path.rglob("*"))
    status, out, err = command(*arguments)
    assert status == 2 and not out
    lines = [line for line in err.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("jnas: ") and message in err
    assert sorted(tmp_path.rglob("*")) == before


def test_the_default_folder_is_searched(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.delenv("JNAS_DATA", raising=False)
    path = files.write(files.default_folder() / "x.npz", {"a": np.zeros(2)})
    assert files.find(["y.npz", "x.npz"]) == path
