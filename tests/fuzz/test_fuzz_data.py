"""Readers of datasets: a damaged file gives a dataset or one clear line."""

import gzip
import pickle
import struct
import tarfile

import cifar_archives
import numpy as np
import pytest
from fuzz.damage import damaged, edits, fuzz, result_or_error
from hypothesis import given
from hypothesis import strategies as st

import jnas
from jnas.data import cifar, idx, pickles

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (24, 8, 8, 3)).astype(np.uint8)
LABELS = np.arange(24) % 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def arrays(folder):
    np.savez(folder / "valid.npz", image=IMAGES, label=LABELS)
    return (folder / "valid.npz").read_bytes()


@pytest.fixture(scope="module")
def packed(folder):
    np.savez_compressed(folder / "packed.npz", image=IMAGES, label=LABELS)
    return (folder / "packed.npz").read_bytes()


@pytest.fixture(scope="module")
def photos(folder):
    from PIL import Image

    blobs = []
    for image in IMAGES:
        path = folder / "one.jpg"
        Image.fromarray(image).save(path)
        blobs.append(path.read_bytes())
    parts = {}
    for part in ("train", "test"):
        parts[f"{part}_jpeg"] = np.frombuffer(b"".join(blobs), np.uint8)
        parts[f"{part}_offsets"] = np.cumsum([0, *map(len, blobs)])
        parts[f"{part}_labels"] = LABELS
    return parts


def load(path, content, **options):
    path.write_bytes(content)
    found = result_or_error(lambda: jnas.data.load(str(path), **options))
    if isinstance(found, jnas.data.Dataset):
        assert found.train.image.dtype == np.uint8
        assert found.train.label.min() >= 0
        assert found.train.label.max() < found.num_classes
    return found


def test_the_valid_files_load(folder, arrays, packed):
    assert load(folder / "a.npz", arrays) is not None
    assert load(folder / "a.npz", packed) is not None


@fuzz(200)
@given(edits)
def test_damaged_npz(folder, arrays, edits):
    load(folder / "a.npz", damaged(arrays, edits))


@fuzz(100)
@given(edits)
def test_damaged_compressed_npz(folder, packed, edits):
    load(folder / "a.npz", damaged(packed, edits))


@fuzz(60)
@given(
    st.sampled_from(["image", "label", "x_train", "y_train", "x_test", "y_test"]),
    st.sampled_from([(0,), (3,), (24,), (24, 1), (24, 8, 8), (24, 8, 8, 3), (0, 8, 8)]),
    st.sampled_from(["u1", "i8", "f4", "f8", "?", "c8", "M8[s]", "S3", "U2", "V5"]),
    st.integers(-3, 300),
)
def test_other_arrays(folder, name, shape, kind, value):
    if kind[0] in "SU":
        wrong = np.full(shape, str(value)[:2], kind)
    elif kind[0] == "V":
        wrong = np.zeros(shape, kind)
    else:
        wrong = np.full(shape, value).astype(kind)
    given = {"image": IMAGES, "label": LABELS}
    if name.startswith(("x", "y")):
        given = {"x_train": IMAGES, "y_train": LABELS}
        given |= {"x_test": IMAGES, "y_test": LABELS}
    np.savez(folder / "other.npz", **{**given, name: wrong})
    load(folder / "b.npz", (folder / "other.npz").read_bytes())


@fuzz(60)
@given(edits, st.sampled_from(["jpeg", "offsets", "labels"]), st.booleans())
def test_damaged_photos(folder, photos, edits, which, stream):
    name = f"train_{which}"
    array = photos[name]
    content = damaged(array.tobytes(), edits)
    content = content[: len(content) // array.itemsize * array.itemsize]
    changed = {**photos, name: np.frombuffer(content, array.dtype)}
    np.savez(folder / "photos.npz", **changed)
    load(folder / "c.npz", (folder / "photos.npz").read_bytes(), stream=stream)


@fuzz(200)
@given(edits, st.booleans())
def test_damaged_idx(folder, edits, zipped):
    content = struct.pack(">4B3I", 0, 0, 8, 3, 24, 8, 8) + IMAGES[..., 0].tobytes()
    content = gzip.compress(content, mtime=0) if zipped else content
    path = folder / ("images.gz" if zipped else "images")
    path.write_bytes(damaged(content, edits))
    found = result_or_error(idx.read_idx, path)
    assert found is None or found.dtype == np.uint8


@fuzz(100)
@given(edits, st.sampled_from(["char", "word"]), st.booleans())
def test_damaged_texts(folder, edits, level, zipped):
    content = "Käse and bread, bread and Käse.\n".encode() * 20
    content = gzip.compress(content, mtime=0) if zipped else content
    path = folder / ("text.txt.gz" if zipped else "text.txt")
    path.write_bytes(damaged(content, edits))
    found = result_or_error(lambda: jnas.data.load_text(path, level=level))
    assert found is None or found.train.max() < found.vocab_size


PLAIN = {
    b"data": np.arange(12, dtype=np.uint8).reshape(3, 4),
    b"labels": [1, 2, 3],
    "names": ["a", "ü"],
    "more": (1.5, None, True, 2**70, {"x": [b"\xff"]}),
}


def same(one, other):
    """Whether two values of plain data agree."""
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return np.array_equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@pytest.mark.parametrize("protocol", range(6))
def test_plain_pickles_are_read(protocol):
    assert same(pickles.read(pickle.dumps(PLAIN, protocol)), PLAIN)


@fuzz(300)
@given(edits, st.integers(0, 5))
def test_damaged_pickles(edits, protocol):
    result_or_error(pickles.read, damaged(pickle.dumps(PLAIN, protocol), edits))


@fuzz(300)
@given(st.binary(max_size=60))
def test_any_bytes_as_pickle(content):
    result_or_error(pickles.read, content)
    result_or_error(pickles.read, b"\x80\x04" + content + b".")


# Opcodes and names that the reader knows, and some that it must not.
WORDS = [
    *(b"(", b")", b"]", b"}", b"t", b"l", b"d", b"a", b"s", b"u", b"e", b"0", b"2"),
    *(b"R", b"b", b"\x81", b"\x93", b"K\x05", b"N", b"\x88", b"h\x00", b"q\x00"),
    *(b"cnumpy\ndtype\n", b"cnumpy.core.multiarray\n_reconstruct\n", b"\x94"),
    *(b"cos\nsystem\n", b"Vx\n", b"\x85", b"\x86", b"\x87", b"c_codecs\nencode\n"),
    *(b"C\x02ab", b"X\x02\x00\x00\x00u1", b"1", b"\x8a\x01\xff", b"\x90", b"o"),
]


@fuzz(100)
@given(st.lists(st.sampled_from(WORDS), max_size=30))
def test_any_program_as_pickle(words):
    result_or_error(pickles.read, b"\x80\x02" + b"".join(words) + b".")


@pytest.fixture(scope="module")
def archives(folder):
    found = {}
    for version in ("python", "binary"):
        members = cifar_archives.files("cifar10", version)
        found[version] = cifar_archives.tarball(folder / f"{version}.tar.gz", members)
    return {version: path.read_bytes() for version, path in found.items()}


@fuzz(30)
@given(edits, st.sampled_from(["python", "binary"]), st.booleans())
def test_damaged_cifar_archives(folder, archives, edits, version, inside):
    content = archives[version]
    if inside:  # what the compression's checksum does not cover
        content = damaged(gzip.decompress(content), edits)
        path = folder / f"cifar-10-{version}.tar"
    else:
        content = damaged(content, edits)
        path = folder / f"cifar-10-{version}.tar.gz"
    path.write_bytes(content)
    found = result_or_error(cifar.read, path)
    assert found is None or found.image["train"].dtype == np.uint8


def test_an_archive_does_not_write_outside(folder, archives):
    # Nothing is ever unpacked: names of members are only compared.
    path = folder / "evil" / "cifar-10-python.tar.gz"
    path.parent.mkdir()
    (folder / "payload").write_bytes(b"x")
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder / "payload", "../../escaped")
        archive.add(folder / "payload", str(folder / "escaped"))
    assert result_or_error(cifar.read, path) is None
    assert not list(folder.parent.rglob("escaped"))
