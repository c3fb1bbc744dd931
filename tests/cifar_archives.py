"""Small archives in the official layouts of CIFAR-10 and CIFAR-100."""

import io
import pathlib
import pickle
import tarfile

import numpy as np

CLASSES = {"cifar10": 10, "cifar100": 100}
FOLDERS = {
    ("cifar10", "python"): "cifar-10-batches-py",
    ("cifar10", "binary"): "cifar-10-batches-bin",
    ("cifar100", "python"): "cifar-100-python",
    ("cifar100", "binary"): "cifar-100-binary",
}


def content(name: str) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Images `[N, 3072]` as the files hold them, classes and superclasses."""
    rng = np.random.default_rng(3)
    sizes = {"train": 300, "test": 110}
    return {
        part: (
            rng.integers(0, 256, (size, 3072), np.uint8),
            rng.permutation(np.arange(size) % CLASSES[name]),
            rng.integers(0, 20, size),
        )
        for part, size in sizes.items()
    }


def names(count: int, kind: str = "class") -> list[str]:
    return [f"{kind} {number}" for number in range(count)]


def files(name: str, version: str, protocol: int = 2) -> dict[str, bytes]:
    """The files of one layout, by path."""
    found: dict[str, bytes] = {}
    data = content(name)
    classes, superclasses = names(CLASSES[name]), names(20, "super")
    pieces = {"train": [data["train"]], "test": [data["test"]]}
    places = {"train": ["train"], "test": ["test"]}
    if name == "cifar10":
        pieces["train"] = [
            tuple(column[i : i + 60] for column in data["train"])
            for i in range(0, 300, 60)
        ]
        places = {
            "train": [f"data_batch_{i}" for i in range(1, 6)],
            "test": ["test_batch"],
        }
    for part in ("train", "test"):
        for place, (images, label, coarse) in zip(
            places[part], pieces[part], strict=True
        ):
            if version == "python":
                batch = {b"data": images, b"filenames": [b"x.png"] * len(label)}
                if name == "cifar10":
                    batch[b"labels"] = label.tolist()
                else:
                    batch[b"fine_labels"] = label.tolist()
                    batch[b"coarse_labels"] = coarse.tolist()
                found[place] = pickle.dumps(batch, protocol)
            else:
                columns = [label] if name == "cifar10" else [coarse, label]
                table = [column[:, None].astype(np.uint8) for column in columns]
                found[f"{place}.bin"] = np.hstack([*table, images]).tobytes()
    if name == "cifar10" and version == "python":
        found["batches.meta"] = pickle.dumps(
            {b"label_names": _bytes(classes)}, protocol
        )
    elif name == "cifar10":
        found["batches.meta.txt"] = ("\n".join(classes) + "\n\n").encode()
    elif version == "python":
        meta = {"fine_label_names": classes, "coarse_label_names": superclasses}
        found["meta"] = pickle.dumps(meta, protocol)
    else:
        found["fine_label_names.txt"] = "\n".join(classes).encode()
        found["coarse_label_names.txt"] = "\n".join(superclasses).encode()
    folder = FOLDERS[name, version]
    return {f"{folder}/{place}": value for place, value in found.items()}


def _bytes(texts: list[str]) -> list[bytes]:
    return [text.encode() for text in texts]


def tarball(path: pathlib.Path, members: dict[str, bytes]) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for place, value in members.items():
            about = tarfile.TarInfo(place)
            about.size = len(value)
            archive.addfile(about, io.BytesIO(value))
    return path


def official(folder: pathlib.Path, name: str, version: str, **options) -> pathlib.Path:
    """Writes an archive under its official name."""
    number = "10" if name == "cifar10" else "100"
    path = folder / f"cifar-{number}-{version}.tar.gz"
    return tarball(path, files(name, version, **options))


def unpacked(folder: pathlib.Path, members: dict[str, bytes]) -> pathlib.Path:
    for place, value in members.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_bytes(value)
    return folder / next(iter(members)).partition("/")[0]


def images(name: str, part: str) -> np.ndarray:
    """The images as they should come out, `[N, 32, 32, 3]`."""
    table = content(name)[part][0]
    return np.stack([row.reshape(3, 32, 32).transpose(1, 2, 0) for row in table])
