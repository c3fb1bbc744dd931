"""The converter of NAS-Bench-101: records, messages, and what can be wrong."""

import compact
import numpy as np
import official
import pytest
from fuzz.damage import damaged, edits, fuzz
from hypothesis import given

from jnas import JnasError, tabular
from jnas.tabular import converting
from jnas.tabular.converting import official101, tfrecord

SPACE = tabular.NasBench101Space()


def test_crc_is_that_of_the_standard():
    # RFC 3720, appendix B.4.
    assert official.crc32c(bytes(32)) == 0x8A9136AA
    assert official.crc32c(bytes(range(32))) == 0x46DD794E
    rng = np.random.default_rng(0)
    contents = [rng.bytes(n) for n in (0, 1, 7, 8, 300, 31)]
    wanted = [official.masked(content) for content in contents]
    np.testing.assert_array_equal(tfrecord.masked_crc(contents), wanted)


@pytest.mark.parametrize("epochs", [(108,), (4, 12, 36, 108)])
def test_nasbench101(tmp_path, epochs):
    contents, told = official.records101(epochs)
    path = official.write101(tmp_path / "nasbench.tfrecord", contents)
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
    contents, _ = official.records101()
    path = official.write101(tmp_path / "t.tfrecord", contents)
    found = list(tfrecord.records(path))
    assert [content for content, _ in found] == contents
    assert found[-1][1] == path.stat().st_size
    assert len(official101.read(path)["params"]) == 7


def test_damaged_records(tmp_path):
    contents, _ = official.records101((108,), 1)
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
        official.refused(path, message, "nasbench101")
    for length in (len(whole) - 1, second + 5, second + 12, 3):
        path.write_bytes(whole[:length])
        official.refused(path, "cut off", "nasbench101")
    path.write_bytes(b"")
    official.refused(path, "has no records", "nasbench101")


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
    official.refused(
        official.write101(tmp_path / "t.tfrecord", [content]), message, "nasbench101"
    )


def test_different_parameters_of_one_cell(tmp_path):
    other = official.metrics([(0, 1, 0.1, 0.2, 0.3)] * 3, 6)
    path = official.write101(tmp_path / "t.tfrecord", [good(), good(message=other)])
    official.refused(path, "different parameters", "nasbench101")


@fuzz(40)
@given(edits=edits)
def test_damaged_messages_never_crash(tmp_path_factory, edits):
    message = official.metrics([(0, 1, 0.1, 0.2, 0.3)] * 3, 5)
    path = tmp_path_factory.getbasetemp() / "damaged.tfrecord"
    official.write101(path, [good(message=damaged(message, edits))])
    try:
        converting.convert("nasbench101", path, path.parent / "fuzzed101")
    except JnasError as error:
        assert "\n" not in str(error)


@fuzz(40)
@given(edits=edits)
def test_damaged_json_never_crashes(tmp_path_factory, edits):
    path = tmp_path_factory.getbasetemp() / "damaged.tfrecord"
    official.write101(path, [damaged(good(), edits)])
    try:
        converting.convert("nasbench101", path, path.parent / "fuzzed101")
    except JnasError as error:
        assert "\n" not in str(error)
