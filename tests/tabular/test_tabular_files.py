"""Files of tables that are damaged or malformed: one clear line each."""

import compact
import numpy as np
import pytest
from fuzz.damage import damaged, edits, fuzz
from hypothesis import given

from jnas import JnasError, tabular
from jnas.tabular import files


def save(folder, arrays, name="nasbench201.npz"):
    np.savez(folder / name, **arrays)
    return folder / name


def refused(path, message, read=tabular.nasbench201):
    with pytest.raises(JnasError, match=message) as caught:
        read(path)
    text = str(caught.value)
    assert "\n" not in text and str(path) in text, text


def without(name):
    return lambda arrays: arrays.pop(name)


def put(name, change):
    def edit(arrays):
        arrays[name] = change(arrays[name].copy())

    return edit


def fill(value):
    def change(array):
        array[3] = value
        return array

    return change


CASES = {
    "no cells": (without("ops"), "no array 'ops', it holds"),
    "no accuracy": (without("cifar100_test_12"), "no array 'cifar100_test_12'"),
    "no seconds": (without("imagenet16_train_seconds_200"), "no array 'imagenet16_tr"),
    "no parameters": (without("cifar10_params"), "no array 'cifar10_params'"),
    "short": (put("cifar10_val_12", lambda a: a[:-1]), r"must be f \[20\], got"),
    "wide": (put("cifar10_val_12", lambda a: a[:, None]), r"float32 \[20, 1\]"),
    "whole": (put("cifar10_val_12", lambda a: a.astype(int)), "must be f"),
    "text": (put("cifar10_val_12", lambda a: a.astype(str)), "must be f"),
    "unknown": (put("cifar10_val_200", lambda a: a * np.nan), "holds only NaN"),
    "negative": (put("cifar10_val_200", fill(-1)), r"within 0\.\.100, got -1"),
    "large": (put("cifar10_val_200", fill(101)), r"within 0\.\.100"),
    "infinite": (put("cifar10_test_200", fill(np.inf)), r"within 0\.\.100"),
    "infinite time": (put("cifar10_train_seconds_200", fill(np.inf)), "within"),
    "real cells": (put("ops", lambda a: a * 1.0), r"must be i/u \[any, 6\]"),
    "short cells": (put("ops", lambda a: a[:, :5]), r"must be i/u \[any, 6\]"),
    "odd cells": (put("ops", fill(5)), r"numbers 0\.\.4"),
    "negative cells": (put("ops", fill(-1)), r"numbers 0\.\.4"),
    "no rows": (put("ops", lambda a: a[:0]), r"numbers 0\.\.4"),
    "twice": (put("ops", lambda a: np.concatenate([a[:1], a[:-1]])), "a cell twice"),
    "other rows": (put("ops", lambda a: a[::-1]), "different orders"),
    "other costs": (put("cifar100_flops", lambda a: a[::-1]), "different orders"),
    "other names": (put("op_names", lambda a: a[::-1]), "'op_names' of .* must be"),
    "other edges": (put("edges", lambda a: a[::-1]), "'edges' of .* must be"),
    "seeds": (put("cifar10_val_200_seeds", lambda a: a[:, 0]), r"\[20, any\]"),
    "fact": (put("n_seeds_200", lambda a: a[:-1]), r"must be i/u \[20\]"),
}


@pytest.mark.parametrize("case", CASES)
def test_malformed_tables(tmp_path, case):
    edit, message = CASES[case]
    arrays = compact.arrays201()
    edit(arrays)
    refused(save(tmp_path, arrays), message)


def test_what_is_no_npz(tmp_path):
    path = tmp_path / "nasbench201.npz"
    for content in (b"", b"text", b"PK\x03\x04" + bytes(40)):
        path.write_bytes(content)
        refused(path, "damaged or no .npz file")
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "one.npy").rename(path)
    refused(path, "one bare array")
    np.savez(path, ops=np.array([{}], object))
    refused(path, "damaged or no .npz file")
    whole = save(tmp_path, compact.arrays201()).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refused(path, "damaged or no .npz file")


def test_checksum_finds_what_the_archive_does_not(tmp_path):
    arrays = compact.arrays201()
    path = files.write(tmp_path / "nasbench201.npz", arrays)
    assert len(tabular.nasbench201(path)) == 20
    with np.load(path, allow_pickle=False) as stored:
        stored = dict(stored)
    assert stored["checksum"].shape == (32,) and set(stored) == {*arrays, "checksum"}
    # A value, a name, a shape: each alone.
    for change in (
        {"cifar10_val_12": stored["cifar10_val_12"] + np.float32(1e-5)},
        {"extra": np.zeros(1)},
        {"cifar10_val_12": stored["cifar10_val_12"].astype(np.float64)},
        {"n_seeds_200": stored["n_seeds_200"].view(np.uint8)},
        {"n_seeds_200": stored["n_seeds_200"].reshape(2, -1)},
        {"checksum": stored["checksum"][:16]},
    ):
        np.savez(path, **(stored | change))
        refused(path, "don't fit its checksum")
    del stored["checksum"]
    np.savez(path, **stored)
    assert len(tabular.nasbench201(path)) == 20


def test_checksum_does_not_depend_on_the_order():
    arrays = compact.arrays201()
    turned = dict(reversed(arrays.items()))
    np.testing.assert_array_equal(files.checksum(arrays), files.checksum(turned))
    fortran = {"a": np.asfortranarray(np.arange(6).reshape(2, 3))}
    plain = {"a": np.arange(6).reshape(2, 3)}
    np.testing.assert_array_equal(files.checksum(fortran), files.checksum(plain))


def test_writing_is_all_or_nothing(tmp_path, monkeypatch):
    arrays = compact.arrays201()
    path = files.write(tmp_path / "new" / "t.npz", arrays)
    before = path.read_bytes()

    def fail(file, **options):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", fail)
    for target in (path, tmp_path / "new" / "other.npz"):
        with pytest.raises(JnasError, match=r"cannot write .* No space left"):
            files.write(target, arrays)
    assert path.read_bytes() == before
    assert [f.name for f in path.parent.iterdir()] == ["t.npz"]


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "f").write_text("")
    with pytest.raises(JnasError, match="cannot write"):
        files.write(tmp_path / "f" / "t.npz", compact.arrays201())


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    return files.write(folder / "whole.npz", compact.arrays201(8)).read_bytes()


@fuzz(60)
@given(edits=edits)
def test_damaged_files_never_crash(tmp_path_factory, packed, edits):
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    content = damaged(packed, edits)
    path.write_bytes(content)
    try:
        table = tabular.nasbench201(path)
    except JnasError as error:
        assert "\n" not in str(error) and "damaged.npz" in str(error)
    else:
        # Bytes that nobody reads: the arrays are those that were written.
        right = compact.arrays201(8)
        np.testing.assert_array_equal(table.genes, right["ops"])
        column = table.columns["cifar10"]["val"]
        np.testing.assert_array_equal(column.values[:, 0], right["cifar10_val_12"])
