"""The names users load datasets by."""

import os
import pathlib
from typing import Any

from jnas import errors
from jnas.data import (
    archives,
    base,
    cifar,
    cifar_files,
    digits,
    idx,
    imagefolder,
    imagenet16,
    jpeg,
    npz,
    text,
    tfds,
)

__all__ = ["load", "names"]

# Sets that need tensorflow-datasets, with the augmentation usual in the literature.
TFDS = {
    "cifar10": (
        cifar.AUGMENT,
        "32x32 photographs, 10 classes (official archive or tensorflow-datasets)",
    ),
    "cifar100": (
        cifar.AUGMENT,
        "32x32 photographs, 100 classes (official archive or tensorflow-datasets)",
    ),
    "mnist": (
        base.Augment(crop=2),
        "28x28 handwritten digits (tensorflow-datasets)",
    ),
    "svhn_cropped": (
        base.Augment(crop=4),
        "32x32 colour house numbers (tensorflow-datasets)",
    ),
}
PREFIX = "tfds:"
WORDS = "words:"


def names() -> dict[str, str]:
    """Returns the names that `load` knows, each with one line about the set.

    Example:
      >>> names()["digits"]
      '8x8 handwritten digits, comes with scikit-learn'
    """
    return {
        "digits": "8x8 handwritten digits, comes with scikit-learn",
        "fashion_mnist": f"28x28 clothes, from idx files (package {idx.PACKAGE})",
        **{name: line for name, (_, line) in TFDS.items()},
        jpeg.CIFAR10: f"CIFAR-10 as JPEG images, from {jpeg.CIFAR10}.npz",
        imagenet16.NAME: "16x16 photographs, 120 classes of ImageNet (official files)",
        **text.names(),
    }


def load(
    name_or_path: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    stream: bool = False,
    resize: int | None = None,
) -> Any:
    """Loads a dataset; nothing is ever downloaded.

    Args:
      name_or_path: one of `names`, ``"tfds:NAME"`` for any other prepared image
        classification set of tensorflow-datasets, or a path: an ``.npz`` file with
        images, an official CIFAR archive, a folder (images in class folders, unpacked
        CIFAR archives, the files of ImageNet16), or a ``.txt`` or ``.txt.gz`` file,
        which is read by character; ``"words:PATH"`` reads it by word.
      data_dir: where the set's files are; by default ``$JNAS_DATA`` and the usual
        places are searched.
      stream: keep encoded images (folders, JPEG files, tensorflow-datasets) as they
        are, and decode them when they are needed. Other sets come into memory all the
        same; `jnas.data.stream` takes their parts, too.
      resize: side that encoded images are resized to: the shorter side is scaled to
        it, then the centre is cut out.

    Returns:
      A `Dataset`, with `stream` a `StreamDataset` where possible, or for texts a
      `TextDataset`.

    Raises:
      JnasError: for an unknown name, missing or damaged files, or unusable arrays.

    Example:
      >>> load("digits").num_classes
      10
    """
    if resize is not None and not (
        type(resize) is int and resize >= base.SMALLEST_SIDE
    ):
        raise errors.JnasError(
            f"resize must be a whole number >= {base.SMALLEST_SIDE}, got {resize!r}"
        )
    name = os.fspath(name_or_path)
    lazy: dict[str, Any] = {"stream": stream, "resize": resize}
    if name in TFDS:
        return _known(name, data_dir, lazy)
    if name.startswith(PREFIX):
        return tfds.load(name.removeprefix(PREFIX), data_dir, **lazy)
    if name == jpeg.CIFAR10:
        return npz.load(jpeg.find_cifar10(data_dir), **lazy)
    is_path = isinstance(name_or_path, os.PathLike) or name not in names()
    path = pathlib.Path(name).expanduser()
    if is_path and name.endswith(".npz"):
        return npz.load(path, **lazy)
    if is_path and _is_image_folder(path):
        return imagefolder.load(path, **lazy)
    if resize is not None:
        raise errors.JnasError(
            f"resize is for encoded images (folders, JPEG files, tensorflow-datasets), "
            f"not for {name}: leave it out"
        )
    if is_path:
        return _from_path(name, path, isinstance(name_or_path, os.PathLike))
    if name == "digits":
        return digits.load()
    if name == "fashion_mnist":
        return idx.load_fashion_mnist(data_dir)
    if name == imagenet16.NAME:
        return imagenet16.load(data_dir=data_dir)
    return text.load_named(name, data_dir)


def _known(
    name: str, data_dir: str | os.PathLike[str] | None, lazy: dict[str, Any]
) -> Any:
    """One of the sets of tensorflow-datasets, or what serves as well."""
    augment = TFDS[name][0]
    try:
        return tfds.load(name, data_dir, augment=augment, **lazy)
    except tfds.MissingError as error:
        if name not in cifar_files.LAYOUTS:
            raise
        path = cifar.find(name, data_dir)
        if path is None:
            raise cifar.not_found(name, data_dir) from error
    if lazy["resize"] is not None:
        raise errors.JnasError(f"{path} has images of 32x32: leave resize out")
    return cifar.load(path, name)


def _from_path(name: str, path: pathlib.Path, sure: bool) -> Any:
    """A file or a folder of a kind that is loaded into memory."""
    if name.startswith(WORDS):
        return text.load_text(name.removeprefix(WORDS), level="word")
    if text.is_text_file(name):
        return text.load_text(name)
    if archives.is_archive(name):
        return cifar.load(path)
    if path.is_dir():
        return imagenet16.load(path) if imagenet16.is_folder(path) else cifar.load(path)
    if sure or path.exists() or os.sep in name:
        if not path.exists():
            raise errors.JnasError(f"there is no file or folder {name}")
        raise errors.JnasError(
            f"a dataset file must end in .npz, got {name}: save it with "
            "np.savez(path, image=..., label=...); texts end in .txt or .txt.gz, "
            f"archives of CIFAR in {', '.join(archives.ENDINGS)}"
        )
    unknown = errors.unknown_name("dataset", name, names())
    raise errors.JnasError(
        f"{unknown}; an .npz file or a .txt file, a folder of images or 'tfds:NAME' "
        "also works"
    )


def _is_image_folder(path: pathlib.Path) -> bool:
    known = imagenet16.is_folder(path) or cifar.is_folder(path)
    return path.is_dir() and not text.is_text_file(path.name) and not known
