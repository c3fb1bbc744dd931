"""Image folders, JPEG files in one archive, ImageNet16-120."""

import io
import json
import pickle

import numpy as np
import pytest
from PIL import Image

import jnas.data
from jnas import errors
from jnas.data import imagenet16


@pytest.fixture(autouse=True)
def no_user_folders(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))


def encoded(array, kind="PNG"):
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind)
    return file.getvalue()


def picture(number, height=12, width=10):
    shape = (height, width, 3)
    return np.random.default_rng(number).integers(0, 256, shape, np.uint8)


def folder_of(place, classes=("cat", "dog"), number=10, first=0, **size):
    count = first
    for name in classes:
        (place / name).mkdir(parents=True)
        for i in range(number):
            path = place / name / f"{i:03d}.png"
            path.write_bytes(encoded(picture(count, **size)))
            count += 1
    return place


# folders


def test_one_level_of_classes(tmp_path):
    folder = folder_of(tmp_path / "pets")
    (folder / "cat" / "notes.txt").write_text("ignored")
    (folder / "cat" / "._000.png").write_bytes(b"ignored")
    (folder / ".git").mkdir()
    data = jnas.data.load(folder)
    assert (data.name, data.class_names, data.image_shape) == (
        "pets",
        ("cat", "dog"),
        (12, 10, 3),
    )
    assert [len(part) for part in (data.train, data.validation, data.test)] == [8, 8, 4]
    for part in (data.train, data.validation, data.test):
        assert np.bincount(part.label).tolist() == [len(part) // 2] * 2
    # The same division as of the same arrays.
    images = np.stack([picture(i) for i in range(20)])
    labels = np.repeat([0, 1], 10)
    same = jnas.data.from_arrays(images, labels, name="pets")
    assert data.fingerprint() == same.fingerprint()
    assert jnas.data.load(str(folder)).fingerprint() == same.fingerprint()
    # Streamed: the same parts, decoded when needed.
    streamed = jnas.data.load(folder, stream=True)
    assert isinstance(streamed, jnas.data.StreamDataset)
    for part in ("train", "validation", "test"):
        image, label = getattr(streamed, part).read(
            np.arange(len(getattr(streamed, part)))
        )
        np.testing.assert_array_equal(image, getattr(data, part).image)
        np.testing.assert_array_equal(label, getattr(data, part).label)
    np.testing.assert_allclose(streamed.mean, data.mean)


@pytest.mark.parametrize(
    ("present", "sizes"),
    [
        (("train",), [8, 8, 4]),
        (("train", "val"), [10, 10, 6]),
        (("train", "test"), [10, 10, 6]),
        (("train", "val", "test"), [20, 6, 6]),
        (("train", "validation", "test"), [20, 6, 6]),
    ],
)
def test_parts(tmp_path, present, sizes):
    for i, part in enumerate(present):
        number = 10 if part == "train" else 3
        folder_of(tmp_path / part, number=number, first=100 * i)
    data = jnas.data.load(tmp_path)
    assert [len(part) for part in (data.train, data.validation, data.test)] == sizes
    last = tmp_path / present[-1] / "dog" / "002.png"
    if len(present) > 1:
        np.testing.assert_array_equal(data.test.image[-1], np.asarray(Image.open(last)))


def test_resize_grey_and_nested(tmp_path):
    for i in range(10):
        for name in ("a", "b"):
            place = tmp_path / name / "more" / f"{i}.JPEG"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(encoded(picture(i, 20 + i, 24)[..., 0], "JPEG"))
    with pytest.raises(errors.JnasError, match=r"\(a/more/\d\.JPEG\): must have the"):
        jnas.data.load(tmp_path)
    data = jnas.data.load(tmp_path, resize=16)
    assert data.image_shape == (16, 16, 1)
    # One image with colours: all become RGB.
    (tmp_path / "b" / "x.jpg").write_bytes(encoded(picture(0, 20, 20), "JPEG"))
    assert jnas.data.load(tmp_path, resize=16).image_shape == (16, 16, 3)


def test_bad_folders(tmp_path):
    def fails(message, place=tmp_path, **options):
        with pytest.raises(errors.JnasError, match=message) as caught:
            jnas.data.load(place, **options)
        assert "\n" not in str(caught.value)

    fails("there is no file or folder", tmp_path / "missing")
    fails("at least 2 classes, got none")
    folder_of(tmp_path / "one", ("cat",))
    fails("at least 2 classes, got cat", tmp_path / "one")
    folder = folder_of(tmp_path / "bad")
    (folder / "empty").mkdir()
    fails("class folder .*empty has no images", folder)
    (folder / "empty").rmdir()
    (folder / "dog" / "003.png").write_bytes(b"\x89PNG\r\n broken")
    fails(r"train example 13 \(dog/003.png\): the image cannot be decoded", folder)
    whole = encoded(picture(0))
    (folder / "dog" / "003.png").write_bytes(whole[: len(whole) // 2])
    fails("dog/003.png.*cannot be decoded", folder)
    (folder / "dog" / "003.png").write_bytes(encoded(picture(0, 13)))
    fails(r"dog/003.png.*shape of the first image \[12, 10, 3\], got \[13", folder)
    fails("resize must be a whole number >= 8", folder, resize=4)
    sets = tmp_path / "sets"
    folder_of(sets / "train")
    folder_of(sets / "val", ("cat", "cow"))
    fails("has the class 'cow', which train lacks", sets)
    (sets / "train").rename(sets / "other")
    fails("has val but no folder train", sets)
    fails("leave it out", "digits", resize=16)
    np.savez(tmp_path / "plain.npz", image=picture(0)[None], label=[0])
    fails("leave it out", tmp_path / "plain.npz", resize=16)


# JPEG files in one archive


def blobs(number=12, **changes):
    arrays = {}
    for part, size in (("train", number), ("test", 4)):
        files = [encoded(picture(i, 9, 8), "JPEG") for i in range(size)]
        arrays[f"{part}_jpeg"] = np.frombuffer(b"".join(files), np.uint8)
        arrays[f"{part}_offsets"] = np.cumsum([0, *map(len, files)], dtype=np.uint32)
        arrays[f"{part}_labels"] = (np.arange(size) % 2).astype(np.uint8)
    return {**arrays, **changes}


def test_jpeg_archives(tmp_path):
    path = tmp_path / "mine.npz"
    np.savez(path, **blobs())
    data = jnas.data.load(path)
    assert (data.name, data.image_shape) == ("mine", (9, 8, 3))
    assert [len(part) for part in (data.train, data.validation, data.test)] == [6, 6, 4]
    expected = [
        np.asarray(Image.open(io.BytesIO(encoded(picture(i, 9, 8), "JPEG"))))
        for i in range(12)
    ]
    np.testing.assert_array_equal(data.full.image, expected)
    assert data.augment == jnas.data.Augment()
    np.savez(path, **blobs(), class_names=np.array(["a", "b", "c"]))
    assert jnas.data.load(path, stream=True).class_names == ("a", "b", "c")
    np.savez(tmp_path / "cifar10_jpeg.npz", **blobs())
    named = jnas.data.load("cifar10_jpeg", data_dir=tmp_path, resize=8)
    assert named.augment == jnas.data.Augment(crop=4, flip=True)
    assert named.image_shape == (8, 8, 3)
    with pytest.raises(errors.JnasError, match=r"cifar10_jpeg\.npz is not on this"):
        jnas.data.load("cifar10_jpeg", data_dir=tmp_path / "missing")


def test_bad_jpeg_archives(tmp_path):
    good = blobs()
    offsets, content = good["train_offsets"], good["train_jpeg"].copy()
    content[offsets[5] : offsets[5] + 20] = 0
    turned = offsets.copy()
    turned[3], turned[4] = offsets[4], offsets[3]
    cases = (
        ({"train_offsets": turned}, "must ascend from 0"),
        ({"train_jpeg": content}, "train example 5: the image cannot be decoded"),
        ({"train_offsets": offsets[:-1]}, "13 integers, one more than labels"),
        ({"train_offsets": offsets[::-1].copy()}, "must ascend from 0"),
        ({"train_offsets": offsets + np.uint32(1)}, "must ascend from 0"),
        ({"train_offsets": offsets.astype(float)}, "13 integers"),
        ({"train_jpeg": content.astype(int)}, "must be bytes"),
        ({"train_labels": good["train_labels"][:0]}, "train_labels are empty"),
        ({"train_labels": good["train_labels"] * 1.0}, "integers"),
        ({"class_names": np.arange(2)}, "class_names must be texts"),
        ({"class_names": np.array(["a", "b"]), "test_labels": [0, 1, 5, 1]}, "got 5"),
    )
    for changes, message in cases:
        np.savez(tmp_path / "bad.npz", **blobs(**changes))
        with pytest.raises(errors.JnasError, match=message) as caught:
            jnas.data.load(tmp_path / "bad.npz")
        assert "bad.npz" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_cifar10_as_jpeg(data_folder):
    data = jnas.data.load("cifar10_jpeg", data_dir=data_folder, stream=True)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [
        25_000,
        25_000,
        10_000,
    ]
    assert data.class_names[0] == "airplane"
    # The usual constants, .491 .482 .447 and .247 .243 .262, from a sample.
    np.testing.assert_allclose(data.mean, (0.491, 0.482, 0.447), atol=0.01)
    np.testing.assert_allclose(data.std, (0.247, 0.243, 0.262), atol=0.01)
    image, label = data.test.read(np.arange(64))
    # The official test set begins with a cat and two ships.
    assert label[:3].tolist() == [3, 8, 8]
    assert image.shape == (64, 32, 32, 3)


# ImageNet16-120


def write_imagenet16(folder, change=None):
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate((*imagenet16.TRAIN, imagenet16.TEST)):
        label = rng.permutation(np.tile(np.arange(1, 131), 2 + (number == 10)))
        batch = {
            "data": rng.integers(0, 256, (len(label), 768), np.uint8),
            "labels": label.tolist(),
            "mean": np.zeros(768),
        }
        if change and name == "train_data_batch_4":
            change(batch)
        (folder / name).write_bytes(pickle.dumps(batch, 4))


def test_imagenet16(tmp_path, monkeypatch):
    monkeypatch.setenv("JNAS_DATA", str(tmp_path))
    write_imagenet16(tmp_path / "ImageNet16")
    data = jnas.data.load("imagenet16_120")
    assert jnas.data.load(tmp_path / "ImageNet16").fingerprint() == data.fingerprint()
    assert (data.image_shape, data.num_classes) == ((16, 16, 3), 120)
    # 2 of each class in 10 batches; 3 of each in the validation set
    assert [len(part) for part in (data.train, data.validation, data.test)] == [
        2400,
        180,
        180,
    ]
    assert np.bincount(data.train.label).tolist() == [20] * 120
    np.testing.assert_allclose(data.mean[0], 122.68 / 255)
    batch = pickle.loads((tmp_path / "ImageNet16" / "train_data_batch_1").read_bytes())
    first = next(i for i, label in enumerate(batch["labels"]) if label <= 120)
    assert data.train.label[0] == batch["labels"][first] - 1
    np.testing.assert_array_equal(
        data.train.image[0], batch["data"][first].reshape(3, 16, 16).transpose(1, 2, 0)
    )
    # The authors' own division, where their file is there.
    division = tmp_path / "ImageNet16" / imagenet16.DIVISION
    order = np.arange(360)
    parts = {"xvalid": order[::2], "xtest": order[1::2]}
    division.write_text(
        json.dumps({k: ["int", [str(i) for i in v]] for k, v in parts.items()})
    )
    again = jnas.data.load("imagenet16_120")
    assert "benchmark's division" in again.source
    both = np.empty((360, 16, 16, 3), np.uint8)
    both[::2], both[1::2] = again.validation.image, again.test.image
    assert set(map(bytes, both)) == set(
        map(bytes, np.concatenate([data.validation.image, data.test.image]))
    )
    division.write_text('{"xvalid": ["int", ["1"]], "xtest": ["int", ["1"]]}')
    with pytest.raises(errors.JnasError, match="no division of the validation set"):
        jnas.data.load("imagenet16_120")


def test_bad_imagenet16(tmp_path, monkeypatch):
    monkeypatch.setenv("JNAS_DATA", str(tmp_path))
    with pytest.raises(errors.JnasError, match="ImageNet16 is not on this machine"):
        jnas.data.load("imagenet16_120")
    cases = (
        (lambda b: b.pop("labels"), "must hold the array data and labels, got data"),
        (lambda b: b.update(labels=[0] * 260), "labels must begin at 1, got 0"),
        (lambda b: b.update(data=b["data"][:9]), r"uint8 \[260, 768\], got uint8 \[9,"),
        (lambda b: b.update(data=b["data"] * 1.0), "got float64"),
        (lambda b: b.update(labels="abc"), "labels must be integers"),
        (lambda b: b.update(data=print), "is refused: .* names builtins.print"),
    )
    for change, message in cases:
        write_imagenet16(tmp_path / "bad", change)
        with pytest.raises(errors.JnasError, match=message) as caught:
            jnas.data.load(tmp_path / "bad")
        assert "train_data_batch_4" in str(caught.value)
    (tmp_path / "bad" / "val_data").unlink()
    with pytest.raises(errors.JnasError, match=r"only some of .* add val_data"):
        jnas.data.load(tmp_path / "bad")
