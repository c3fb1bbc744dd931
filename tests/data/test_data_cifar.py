"""CIFAR from its official archives, and prepared for tensorflow-datasets."""

import sys

import cifar_archives as archives
import numpy as np
import pytest

import jnas.data
from jnas import cli, errors
from jnas.data import builders, cifar, cifar_files

BOTH = [
    (name, version) for name in archives.CLASSES for version in ("python", "binary")
]


@pytest.fixture(autouse=True)
def no_user_folders(monkeypatch, tmp_path):
    monkeypatch.delenv("JNAS_DATA", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))


def check(data, name):
    train, test = (archives.content(name)[part] for part in ("train", "test"))
    np.testing.assert_array_equal(data.full.image, archives.images(name, "train"))
    np.testing.assert_array_equal(data.full.label, train[1])
    np.testing.assert_array_equal(data.test.image, archives.images(name, "test"))
    np.testing.assert_array_equal(data.test.label, test[1])
    assert (len(data.train), len(data.validation)) == (150, 150)
    assert data.num_classes == archives.CLASSES[name]
    assert data.class_names == tuple(archives.names(data.num_classes))
    assert data.augment == jnas.data.Augment(crop=4, flip=True)
    assert data.name == name


@pytest.mark.parametrize(("name", "version"), BOTH)
def test_archives_and_their_unpacked_folders(tmp_path, name, version):
    if name == "cifar100":
        # 150 random labels of 100 classes: some class has no training example.
        _, label, coarse = archives.content(name)["train"]
        assert len(set(label[:150])) < 100
        path = archives.official(tmp_path, name, version)
        with pytest.raises(errors.JnasError, match="every class needs an example"):
            jnas.data.load(path)
        found = cifar.read(path)
        np.testing.assert_array_equal(found.label["train"], label)
        np.testing.assert_array_equal(found.coarse["train"], coarse)
        np.testing.assert_array_equal(
            found.image["train"], archives.images(name, "train")
        )
        assert found.coarse_names == tuple(archives.names(20, "super"))
        assert found.class_names == tuple(archives.names(100))
        return
    path = archives.official(tmp_path / "packed", name, version)
    check(jnas.data.load(path), name)
    check(jnas.data.load(str(path)), name)
    folder = archives.unpacked(tmp_path / "open", archives.files(name, version))
    check(jnas.data.load(folder), name)
    # By name: an explicit folder, or the places of this machine.
    for data_dir in (tmp_path / "packed", tmp_path / "open", folder.parent):
        check(jnas.data.load(name, data_dir=data_dir), name)
    assert "not the published one" in jnas.data.load(path).source


def test_a_name_is_no_other_set(tmp_path):
    members = archives.files("cifar100", "binary")
    archives.tarball(tmp_path / "cifar-10-binary.tar.gz", members)
    with pytest.raises(errors.JnasError, match="no complete archive of cifar10 "):
        jnas.data.load("cifar10", data_dir=tmp_path)


def test_other_protocols(tmp_path):
    members = archives.files("cifar10", "python", protocol=4)
    check(jnas.data.load(archives.tarball(tmp_path / "a.tgz", members)), "cifar10")


def test_found_in_the_users_places(tmp_path, monkeypatch):
    place = tmp_path / "share" / "jnas" / "cifar10"
    archives.official(place, "cifar10", "binary")
    check(jnas.data.load("cifar10"), "cifar10")
    monkeypatch.setenv("JNAS_DATA", str(tmp_path / "given"))
    archives.official(tmp_path / "given", "cifar10", "python")
    assert jnas.data.load("cifar10").source.startswith("cifar-10-python.tar.gz")


def test_not_found_names_all_ways(tmp_path, monkeypatch):
    monkeypatch.setenv("JNAS_DATA", str(tmp_path / "given"))
    with pytest.raises(errors.JnasError) as caught:
        jnas.data.load("cifar10")
    for way in (
        str(tmp_path / "given"),
        "cifar-10-python.tar.gz or cifar-10-binary.tar.gz",
        "jnas prepare",
        "array_record",
        "JNAS_DATA",
    ):
        assert way in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_tensorflow_datasets(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    archives.official(tmp_path, "cifar10", "python")
    check(jnas.data.load("cifar10", data_dir=tmp_path), "cifar10")


def test_published_checksums(tmp_path, monkeypatch, caplog):
    path = archives.official(tmp_path, "cifar10", "python")
    layout = cifar_files.LAYOUTS["cifar10"][0]
    assert "not the published" in cifar.read(path).source
    assert "repacked or changed" in caplog.text
    monkeypatch.setattr(
        cifar_files,
        "LAYOUTS",
        {"cifar10": (layout._replace(md5=cifar.archives.md5(path)),)},
    )
    caplog.clear()
    assert cifar.read(path).source.endswith("checksum as published")
    sums = {
        place.partition("/")[2]: cifar.archives.md5(value)
        for place, value in archives.files("cifar10", "python").items()
        if "meta" not in place
    }
    monkeypatch.setattr(
        cifar_files, "LAYOUTS", {"cifar10": (layout._replace(md5s=sums),)}
    )
    assert "of the files as published" in cifar.read(path).source
    assert not caplog.text


def changed(version, change):
    members = archives.files("cifar10", version)
    change(members)
    return members


def _drop(key):
    return lambda members: members.pop(key)


def _put(key, value):
    return lambda members: members.__setitem__(key, value)


def _batch(**entries):
    import pickle

    good = {
        b"data": np.zeros((60, 3072), np.uint8),
        b"labels": [0] * 60,
    }
    for key, value in entries.items():
        good[key.encode()] = value
    return _put("cifar-10-batches-py/data_batch_2", pickle.dumps(good, 2))


BIN = "cifar-10-batches-bin/"
BAD = {
    "missing batch": (
        "python",
        _drop("cifar-10-batches-py/data_batch_3"),
        "no complete archive.*found batches.meta, data_batch_1, data_batch_2, d",
    ),
    "missing test": ("binary", _drop(f"{BIN}test_batch.bin"), "no complete archive"),
    "records": (
        "binary",
        _put(f"{BIN}data_batch_1.bin", b"x" * 3074),
        "records of 3073 bytes, got 3074",
    ),
    "empty": ("binary", _put(f"{BIN}data_batch_1.bin", b""), "got 0 bytes"),
    "range": (
        "binary",
        _put(f"{BIN}data_batch_1.bin", b"\x0b" * 3073),
        r"labels must lie in 0\.\.9, got 11",
    ),
    "names": (
        "binary",
        _put(f"{BIN}batches.meta.txt", b"cat\ndog\n"),
        "must name 10 classes, got 2",
    ),
    "hostile": (
        "python",
        _put("cifar-10-batches-py/data_batch_1", b"cos\nsystem\n(S'true'\ntR."),
        "data_batch_1 is refused: .* names os.system",
    ),
    "no pickle": (
        "python",
        _put("cifar-10-batches-py/test_batch", b"<html>not found</html>"),
        "test_batch is damaged or no pickle",
    ),
    "no dict": (
        "python",
        _put("cifar-10-batches-py/test_batch", b"I1\n."),
        "must hold a dictionary, got int",
    ),
    "no labels": ("python", _batch(labels=None), "labels must be integers"),
    "few labels": ("python", _batch(labels=[1, 2]), r"images \(60\), got 2"),
    "float": ("python", _batch(data=np.zeros((60, 3072))), "uint8 array"),
    "width": (
        "python",
        _batch(data=np.zeros((60, 3000), np.uint8)),
        r"data must be \[N, 3072\], got \[60, 3000\]",
    ),
    "text": ("python", _batch(data=b"abc"), "uint8 array"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_archives(tmp_path, case):
    version, change, message = BAD[case]
    path = archives.tarball(tmp_path / "bad.tar.gz", changed(version, change))
    with pytest.raises(errors.JnasError, match=message) as caught:
        jnas.data.load(path)
    assert "\n" not in str(caught.value)
    assert "bad.tar.gz" in str(caught.value)


def test_damaged_tars(tmp_path):
    path = archives.official(tmp_path, "cifar10", "binary")
    whole = path.read_bytes()
    cases = {
        "cut.tar.gz": whole[: len(whole) // 2],
        "flipped.tar.gz": whole[:9000] + bytes(500) + whole[9500:],
        "text.tar.gz": b"<html>not found</html>",
        "empty.tar.gz": b"",
    }
    for name, value in cases.items():
        (tmp_path / name).write_bytes(value)
        with pytest.raises(errors.JnasError, match="damaged or no tar") as caught:
            jnas.data.load(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(errors.JnasError, match="there is no file"):
        jnas.data.load(tmp_path / "missing.tar.gz")
    with pytest.raises(errors.JnasError, match="no complete archive of cifar100"):
        cifar.read(path, "cifar100")


# prepared for tensorflow-datasets


@pytest.mark.parametrize(("name", "version"), BOTH)
def test_prepared_sets_are_read_as_stock_ones(tmp_path, name, version, capfd):
    tfds = pytest.importorskip("tensorflow_datasets")
    pytest.importorskip("array_record", reason="the format needs Linux")
    path = archives.official(tmp_path, name, version)
    place = tmp_path / "tfds"
    args = ["prepare", name, "--from", str(path), "--data-dir", str(place)]
    assert cli.main(args) == 0
    out = capfd.readouterr().out
    stock = tfds.builder_cls(name)
    assert out.startswith(f"wrote {place / name / str(stock.VERSION)};")
    assert "Downloading" not in out
    assert "tensorflow" not in sys.modules
    info = tfds.builder(name, data_dir=place).info
    assert info.features["label"].names == archives.names(archives.CLASSES[name])
    assert set(info.features) == {"id", "image", "label"} | (
        {"coarse_label"} if name == "cifar100" else set()
    )
    for part in ("train", "test"):
        rows = list(tfds.data_source(name, data_dir=place, split=part, download=False))
        rows.sort(key=lambda row: row["id"])
        _, label, coarse = archives.content(name)[part]
        assert [row["id"] for row in rows] == [
            f"{part}_{i:05d}".encode() for i in range(len(label))
        ]
        np.testing.assert_array_equal(
            np.stack([row["image"] for row in rows]), archives.images(name, part)
        )
        assert [row["label"] for row in rows] == label.tolist()
        if name == "cifar100":
            assert [row["coarse_label"] for row in rows] == coarse.tolist()
    if name == "cifar10":
        # What is prepared comes before an archive.
        data = jnas.data.load("cifar10", data_dir=place)
        assert data.source.startswith("tensorflow-datasets cifar10/")
        streamed = jnas.data.load("cifar10", data_dir=place, stream=True)
        image, label = streamed.full.read(np.arange(300), threads=2)
        np.testing.assert_array_equal(image, data.full.image)
        np.testing.assert_array_equal(label, data.full.label)
    assert cli.main(args) == 2
    assert "is there already" in capfd.readouterr().err


def test_preparing_says_what_is_wrong(tmp_path, capfd):
    pytest.importorskip("tensorflow_datasets")
    with pytest.raises(errors.JnasError, match="unknown set to prepare 'mnist'"):
        builders.prepare("mnist", None, tmp_path)
    assert cli.main(["prepare", "cifar10", "--data-dir", str(tmp_path)]) == 2
    assert "not on this machine" in capfd.readouterr().err
    members = archives.files("cifar10", "python")
    del members["cifar-10-batches-py/batches.meta"]
    path = archives.tarball(tmp_path / "a.tar.gz", members)
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    # CIFAR-10's names are known; CIFAR-100's are not.
    with pytest.raises(errors.JnasError, match="cannot prepare 'cifar10'") as caught:
        builders.prepare("cifar10", path, blocked)
    assert "\n" not in str(caught.value)
    members = archives.files("cifar100", "python")
    del members["cifar-100-python/meta"]
    path = archives.tarball(tmp_path / "b.tar.gz", members)
    with pytest.raises(errors.JnasError, match="names of the classes, got none"):
        builders.prepare("cifar100", path, tmp_path / "out")
