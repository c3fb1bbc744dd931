"""The names users load datasets by."""

import os
import pathlib
from typing import Any

from jnas import errors
from jnas.data import base, digits, idx, npz, text, tfds

__all__ = ["load", "names"]

# Sets that need tensorflow-datasets, with the augmentation usual in the literature.
TFDS = {
    "cifar10": (
        base.Augment(crop=4, flip=True),
        "32x32 colour photographs, 10 classes (tensorflow-datasets)",
    ),
    "cifar100": (
        base.Augment(crop=4, flip=True),
        "32x32 colour photographs, 100 classes (tensorflow-datasets)",
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
        **text.names(),
    }


def load(
    name_or_path: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
) -> Any:
    """Loads a dataset into memory; nothing is ever downloaded.

    Args:
      name_or_path: one of `names`, ``"tfds:NAME"`` for any other prepared image
        classification set of tensorflow-datasets, the path of an ``.npz`` file with
        images, or of a ``.txt`` or ``.txt.gz`` file, which is read by character;
        ``"words:PATH"`` reads it by word.
      data_dir: where the set's files are; by default ``$JNAS_DATA`` and the usual
        places are searched.

    Returns:
      A `Dataset`, or for texts a `TextDataset`.

    Raises:
      JnasError: for an unknown name, missing or damaged files, or unusable arrays.

    Example:
      >>> load("digits").num_classes
      10
    """
    name = os.fspath(name_or_path)
    if name == "digits":
        return digits.load()
    if name == "fashion_mnist":
        return idx.load_fashion_mnist(data_dir)
    if name in TFDS:
        return tfds.load(name, data_dir, augment=TFDS[name][0])
    if name.startswith(PREFIX):
        return tfds.load(name.removeprefix(PREFIX), data_dir)
    if name in text.names():
        return text.load_named(name, data_dir)
    if name.startswith(WORDS):
        return text.load_text(name.removeprefix(WORDS), level="word")
    if text.is_text_file(name):
        return text.load_text(name)
    if name.endswith(".npz"):
        return npz.load(name)
    if isinstance(name_or_path, os.PathLike) or pathlib.Path(name).exists():
        raise errors.JnasError(
            f"a dataset file must end in .npz, got {name}: save it with "
            "np.savez(path, image=..., label=...); texts end in .txt or .txt.gz"
        )
    unknown = errors.unknown_name("dataset", name, names())
    raise errors.JnasError(
        f"{unknown}; an .npz file or a .txt file or 'tfds:NAME' also works"
    )
