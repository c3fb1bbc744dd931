"""Loading by name: digits, Fashion-MNIST, npz files, tensorflow-datasets."""

import builtins
import gzip
import io
import pathlib
import struct
import subprocess
import sys

import numpy as np
import pytest

import jnas.data
from jnas import errors
from jnas.data import folders, idx

DIGITS_FINGERPRINT = "f91ec546db5c1acb"
FASHION_FINGERPRINT = "97ec196d23a41a75"
CLASSES = [f"kind {number}" for number in range(10)]


@pytest.fixture(autouse=True)
def no_user_folders(monkeypatch, tmp_path):
    """Keeps the machine's own data out of every test."""
    monkeypatch.delenv("JNAS_DATA", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))


def hide(monkeypatch, module):
    """Makes importing a module fail as if it were not installed."""
    genuine = builtins.__import__

    def importing(name, *args, **options):
        if name.partition(".")[0] == module:
            raise ModuleNotFoundError(f"No module named {module!r}")
        return genuine(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", importing)


# names


def test_names_are_lines():
    assert {"digits", "fashion_mnist", "cifar10"} <= set(jnas.data.names())
    assert all(line and "\n" not in line for line in jnas.data.names().values())


def test_unknown_name():
    with pytest.raises(errors.JnasError, match=r"mean 'cifar10'.*\.npz file or"):
        jnas.data.load("cifer10")


def test_import_is_light():
    code = (
        "import sys, jnas.data\n"
        "heavy = {'sklearn', 'tensorflow_datasets', 'matplotlib', 'tensorflow'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    root = pathlib.Path(jnas.data.__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


# digits


def test_digits_are_the_same_for_ever():
    data = jnas.data.load("digits")
    assert data.fingerprint() == DIGITS_FINGERPRINT
    assert data.image_shape == (8, 8, 1)
    assert data.augment == jnas.data.Augment(crop=1)


def test_digits_splits_cover_disjointly_and_stratified():
    from sklearn import datasets

    data = jnas.data.load("digits")
    parts = (data.train, data.validation, data.test)
    assert [len(part) for part in parts] == [719, 718, 360]
    rows = np.concatenate(
        [
            np.c_[part.image.reshape(len(part), -1), part.label.astype(np.uint8)]
            for part in parts
        ]
    )
    values, labels = datasets.load_digits(return_X_y=True)
    # 16 steps onto 0..255; 8 lies between 127 and 128, and rint takes the even one.
    table = np.array([round(v * 255 / 16) for v in range(17)], np.uint8)
    assert table[8] == 128
    expected = np.c_[table[values.astype(int)], labels.astype(np.uint8)]
    # All 1,797 rows differ, so equal sets mean disjoint splits that cover all.
    assert len(np.unique(expected, axis=0)) == 1797
    np.testing.assert_array_equal(np.unique(rows, axis=0), np.unique(expected, axis=0))
    share = np.bincount(labels) / 1797
    for part in parts:
        # Largest remainders keep every class within one example of its share; the
        # second division starts from whole numbers, hence two.
        off = np.bincount(part.label) - share * len(part)
        assert np.abs(off).max() < 2


def test_digits_without_scikit_learn(monkeypatch):
    hide(monkeypatch, "sklearn")
    with pytest.raises(errors.JnasError, match="install scikit-learn"):
        jnas.data.load("digits")


# Fashion-MNIST and idx


def write_idx(path: pathlib.Path, array: np.ndarray) -> pathlib.Path:
    header = struct.pack(">HBB", 0, 8, array.ndim)
    header += b"".join(struct.pack(">I", size) for size in array.shape)
    content = header + array.tobytes()
    if path.suffix == ".gz":
        content = gzip.compress(content, compresslevel=1)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", ["a-idx3-ubyte", "a-idx3-ubyte.gz"])
@pytest.mark.parametrize("shape", [(5,), (3, 4, 2), (0, 4)])
def test_idx_round_trip(tmp_path, name, shape):
    array = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    path = write_idx(tmp_path / name, array)
    np.testing.assert_array_equal(idx.read_idx(path), array)


def test_bad_idx_files(tmp_path):
    good = write_idx(tmp_path / "good.gz", np.arange(200, dtype=np.uint8))
    packed, plain = good.read_bytes(), gzip.decompress(good.read_bytes())
    cases = {
        "short": (plain[:-1], r"promises 200 bytes \(shape \[200\]\), got 199"),
        "long": (plain + b"0", "promises 200 bytes .* got 201"),
        "header": (plain[:6], "header of 8 bytes, got 6"),
        "empty": (b"", "got an empty file"),
        "float": (plain[:2] + b"\x0d" + plain[3:], "got 0 0 13"),
        "cut.gz": (packed[:60], "cannot unpack"),
        "plain.gz": (plain, "cannot unpack"),
        "flipped.gz": (packed[:-6] + b"\xff" + packed[-5:], "cannot unpack"),
        "inside.gz": (packed[:12] + b"\xff" * 9 + packed[21:], "cannot unpack"),
    }
    for name, (content, message) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(errors.JnasError, match=message) as caught:
            idx.read_idx(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(errors.JnasError, match=r"cannot read .*No such file"):
        idx.read_idx(tmp_path / "missing")


def write_fashion(folder: pathlib.Path, scale: int = 1) -> None:
    """Writes random files of the official shapes, divided by `scale`."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for part, (name, shape) in idx.FILES.items():
        shape = (shape[0] // scale, *shape[1:])
        if part.endswith("labels"):
            array = (np.arange(shape[0]) % 10).astype(np.uint8)
        else:
            array = rng.integers(0, 256, shape, np.uint8)
        write_idx(folder / name, array)


@pytest.fixture(scope="module")
def fashion(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fashion")
    write_fashion(folder)
    return folder


def test_fashion_mnist_split_is_in_order(fashion):
    data = jnas.data.load("fashion_mnist", data_dir=fashion)
    whole = idx.read_idx(fashion / "train-images-idx3-ubyte")
    np.testing.assert_array_equal(data.train.image[..., 0], whole[:30_000])
    np.testing.assert_array_equal(data.validation.image[..., 0], whole[30_000:])
    np.testing.assert_array_equal(data.full.image[..., 0], whole)
    assert len(data.test) == 10_000
    assert data.augment == jnas.data.Augment(crop=4, flip=True)
    assert len(data.class_names) == 10


def test_fashion_mnist_is_found(fashion, monkeypatch, tmp_path):
    monkeypatch.setattr(idx, "SYSTEM_FOLDERS", ())
    own = folders.user_folder() / "fashion-mnist"
    assert own == tmp_path / "share" / "jnas" / "fashion-mnist"
    with pytest.raises(errors.JnasError) as caught:
        jnas.data.load("fashion_mnist")
    message = str(caught.value)
    assert "dataset-fashion-mnist" in message
    assert str(own) in message
    own.parent.mkdir(parents=True)
    own.symlink_to(fashion, target_is_directory=True)
    assert len(jnas.data.load("fashion_mnist").test) == 10_000
    # JNAS_DATA comes first.
    write_fashion(tmp_path / "given" / "fashion-mnist", scale=1000)
    monkeypatch.setenv("JNAS_DATA", str(tmp_path / "given"))
    with pytest.raises(errors.JnasError, match=r"given.*got shape \[60, 28, 28\]"):
        jnas.data.load("fashion_mnist")


def test_fashion_mnist_bad_folders(tmp_path, monkeypatch):
    # An explicit folder is the only one searched.
    monkeypatch.setenv("JNAS_DATA", str(tmp_path / "other"))
    with pytest.raises(errors.JnasError, match="searched") as caught:
        jnas.data.load("fashion_mnist", data_dir=tmp_path / "nothing")
    assert "other" not in str(caught.value)
    write_fashion(tmp_path / "part", scale=1000)
    (tmp_path / "part" / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(errors.JnasError, match=r"only some.*add t10k-labels-idx1"):
        jnas.data.load("fashion_mnist", data_dir=tmp_path / "part")


def test_genuine_fashion_mnist():
    try:
        data = jnas.data.load("fashion_mnist")
    except errors.JnasError as error:
        pytest.skip(str(error))
    assert data.fingerprint() == FASHION_FINGERPRINT
    assert np.bincount(data.full.label).tolist() == [6000] * 10
    # The constants that the set's users quote: 0.2860, 0.3530.
    assert (round(data.mean[0], 4), round(data.std[0], 4)) == (0.286, 0.353)


# npz


def arrays(number=40, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (number, 8, 9, 3), np.uint8), np.arange(number) % 4


def test_npz_layouts(tmp_path):
    image, label = arrays()
    path = tmp_path / "mine.npz"
    np.savez(path, image=image, label=label)
    data = jnas.data.load(path)
    assert (data.name, data.image_shape, data.num_classes) == ("mine", (8, 9, 3), 4)
    same = jnas.data.from_arrays(image, label, name="mine")
    assert data.fingerprint() == same.fingerprint()

    test, validation = arrays(12, 1), arrays(8, 2)
    keys = {"x_train": image, "y_train": label, "x_test": test[0], "y_test": test[1]}
    np.savez_compressed(path, **keys)
    data = jnas.data.load(str(path))
    same = jnas.data.from_arrays(image, label, test=test, name="mine")
    assert data.fingerprint() == same.fingerprint()

    np.savez(path, **keys, x_val=validation[0], y_val=validation[1])
    data = jnas.data.load(path)
    np.testing.assert_array_equal(data.validation.image, validation[0])
    np.testing.assert_array_equal(data.train.image, image)


def test_bad_npz_files(tmp_path):
    image, label = arrays()
    path = tmp_path / "bad.npz"

    def fails(message):
        with pytest.raises(errors.JnasError, match=message) as caught:
            jnas.data.load(path)
        assert "\n" not in str(caught.value)
        assert "bad.npz" in str(caught.value)

    fails("there is no file")
    np.savez(path, image=image, labels=label)
    fails("exactly the arrays.*got image, labels")
    np.savez(path, x_train=image, y_train=label)
    fails("exactly the arrays")
    np.savez(path, image=image, label=label.astype(object))
    fails("array 'label'.*without pickle")
    np.savez(path, image=image / 255.0, label=label)
    fails("must be uint8.*np.round")
    np.savez(path, image=image, label=label)
    content = path.read_bytes()
    path.write_bytes(content[:-100])
    fails("damaged or no .npz")
    path.write_bytes(content[:500] + b"\xff" * 100 + content[600:])
    fails("damaged or no .npz")
    path.write_bytes(b"\x80\x04K\x01.")
    fails("pickle")
    path.write_bytes(b"")
    fails("damaged or no .npz")
    path.unlink()
    path.mkdir()
    fails("cannot read")


def test_files_that_are_no_npz(tmp_path):
    image, _ = arrays()
    np.save(tmp_path / "bare.npy", image)
    (tmp_path / "bare.npy").rename(tmp_path / "bare.npz")
    with pytest.raises(errors.JnasError, match="one bare array"):
        jnas.data.load(tmp_path / "bare.npz")
    (tmp_path / "set.csv").write_text("1,2")
    for path in (tmp_path / "set.csv", str(tmp_path / "set.csv")):
        with pytest.raises(errors.JnasError, match=r"must end in \.npz"):
            jnas.data.load(path)


# tensorflow-datasets


@pytest.fixture(scope="module")
def prepare(tmp_path_factory):
    """Prepares small sets for tensorflow-datasets without TensorFlow."""
    tfds = pytest.importorskip("tensorflow_datasets")
    pytest.importorskip("array_record", reason="the format needs Linux")
    from PIL import Image

    def make(set_name, sizes, shape=(32, 32, 3), label=None):
        # The stock set of this name may have been read in this process before.
        class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
            VERSION = tfds.core.Version("3.0.2")
            name = set_name

            def _info(self):
                features = {
                    "id": tfds.features.Text(),
                    "image": tfds.features.Image(shape=shape),
                    "label": label or tfds.features.ClassLabel(names=CLASSES),
                }
                return tfds.core.DatasetInfo(
                    builder=self,
                    features=tfds.features.FeaturesDict(features),
                    supervised_keys=("image", "label"),
                )

            def _split_generators(self, manager):
                del manager
                return {part: self._generate_examples(part) for part in sizes}

            def _generate_examples(self, part):
                for number in range(sizes[part]):
                    # A shape that is not fixed: every image has a height of its own.
                    fixed = shape if shape[0] else (8 + number, 8, 3)
                    pixels, classes = expected(part, sizes[part], fixed)
                    encoded = io.BytesIO()
                    square = (
                        pixels[number] if shape[-1] == 3 else pixels[number, ..., 0]
                    )
                    Image.fromarray(square).save(encoded, format="PNG")
                    encoded.seek(0)
                    yield (
                        number,
                        {
                            "id": f"{part}_{number}",
                            "image": encoded,
                            "label": int(classes[number]),
                        },
                    )

        folder = tmp_path_factory.mktemp("tfds")
        Builder(data_dir=folder, file_format="array_record").download_and_prepare()
        return folder

    return make


def expected(part, number, shape=(32, 32, 3)):
    rng = np.random.default_rng(len(part))
    return rng.integers(0, 256, (number, *shape), np.uint8), np.arange(number) % 10


def sorted_rows(images, labels):
    rows = np.c_[images.reshape(len(images), -1), np.asarray(labels, np.uint8)]
    return rows[np.lexsort(rows.T)]


def test_tfds_train_and_test(prepare, monkeypatch):
    folder = prepare("cifar10", {"train": 121, "test": 20})
    data = jnas.data.load("cifar10", data_dir=folder)
    assert "tensorflow" not in sys.modules
    assert (len(data.train), len(data.validation), len(data.test)) == (61, 60, 20)
    assert data.augment == jnas.data.Augment(crop=4, flip=True)
    assert data.class_names[:2] == ("kind 0", "kind 1")
    assert "halved in order" in data.source
    for part, split in (("train", data.full), ("test", data.test)):
        np.testing.assert_array_equal(
            sorted_rows(split.image, split.label),
            sorted_rows(*expected(part, len(split))),
        )
    monkeypatch.setenv("JNAS_DATA", str(folder))
    assert jnas.data.load("cifar10").fingerprint() == data.fingerprint()
    # Any name: the same files without the entry's augmentation.
    assert jnas.data.load("tfds:cifar10").augment == jnas.data.Augment()


def test_tfds_other_splits(prepare):
    sizes = {"train": 30, "validation": 20, "test": 11}
    folder = prepare("jnas_three", sizes, (9, 8, 1))
    data = jnas.data.load("tfds:jnas_three", data_dir=folder)
    assert (len(data.train), len(data.validation), len(data.test)) == (30, 20, 11)
    np.testing.assert_array_equal(
        sorted_rows(data.validation.image, data.validation.label),
        sorted_rows(*expected("validation", 20, (9, 8, 1))),
    )
    folder = prepare("jnas_no_test", {"train": 120, "validation": 20})
    data = jnas.data.load("tfds:jnas_no_test", data_dir=folder)
    assert (len(data.train), len(data.validation), len(data.test)) == (60, 60, 20)
    folder = prepare("jnas_train_only", {"train": 50})
    data = jnas.data.load("tfds:jnas_train_only", data_dir=folder)
    assert (len(data.train), len(data.validation), len(data.test)) == (20, 20, 10)


def test_tfds_not_prepared(tmp_path, monkeypatch, prepare):
    with pytest.raises(errors.JnasError, match=r"not prepared in .*array_record"):
        jnas.data.load("tfds:cifar10", data_dir=tmp_path)
    for name in ("tfds:no_such_set", "tfds:cifar10:9.9.9", "tfds:", "tfds:a b"):
        with pytest.raises(errors.JnasError, match="cannot open") as caught:
            jnas.data.load(name, data_dir=tmp_path)
        assert "\n" not in str(caught.value)
    hide(monkeypatch, "tensorflow_datasets")
    with pytest.raises(errors.JnasError, match="install tensorflow-datasets"):
        jnas.data.load("tfds:cifar10", data_dir=tmp_path)


def test_tfds_unusable_sets(prepare):
    tfds = pytest.importorskip("tensorflow_datasets")
    folder = prepare("jnas_mixed", {"train": 20}, (None, None, 3))
    with pytest.raises(
        errors.JnasError, match=r"jnas_mixed.*shape of the first image.*resize"
    ):
        jnas.data.load("tfds:jnas_mixed", data_dir=folder)
    scalar = tfds.features.Scalar(np.int64)
    folder = prepare("jnas_scalar", {"train": 20}, label=scalar)
    with pytest.raises(errors.JnasError, match="got the label feature Scalar"):
        jnas.data.load("tfds:jnas_scalar", data_dir=folder)
    folder = prepare("jnas_no_train", {"test": 20})
    with pytest.raises(errors.JnasError, match="train split, got test"):
        jnas.data.load("tfds:jnas_no_train", data_dir=folder)
    # The same set as if it had been prepared in the default format.
    folder = prepare("jnas_record", {"train": 20})
    info = next(folder.rglob("dataset_info.json"))
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(errors.JnasError, match="convert_format"):
        jnas.data.load("tfds:jnas_record", data_dir=folder)
