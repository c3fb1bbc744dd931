"""The official files of CIFAR-10 and CIFAR-100: names, layouts, checksums.

As given at https://www.cs.toronto.edu/~kriz/cifar.html.
"""

from typing import NamedTuple

__all__ = ["CLASSES", "COARSE_CLASSES", "LAYOUTS", "NAMES", "Layout"]

CLASSES = {"cifar10": 10, "cifar100": 100}
COARSE_CLASSES = 20
NAMES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)


class Layout(NamedTuple):
    """One version of one set, as published.

    Attributes:
      archive: the file's name.
      folder: what it unpacks to.
      train: the files of the training set, in order.
      test: the file of the test set.
      names: the files of the class names, and the keys in those of a python version.
      labels: the keys of the labels, the class first.
      binary: whether the files are records of bytes, not pickles.
      md5: of the archive.
      md5s: of the files, as far as they are published (with torchvision, for one).
    """

    archive: str
    folder: str
    train: tuple[str, ...]
    test: str
    names: tuple[tuple[str, str], ...]
    labels: tuple[str, ...]
    binary: bool
    md5: str
    md5s: dict[str, str]


LAYOUTS = {
    "cifar10": (
        Layout(
            "cifar-10-python.tar.gz",
            "cifar-10-batches-py",
            tuple(f"data_batch_{number}" for number in range(1, 6)),
            "test_batch",
            (("batches.meta", "label_names"),),
            ("labels",),
            False,
            "c58f30108f718f92721af3b95e74349a",
            {
                "data_batch_1": "c99cafc152244af753f735de768cd75f",
                "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
                "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
                "data_batch_4": "634d18415352ddfa80567beed471001a",
                "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
                "test_batch": "40351d587109b95175f43aff81a1287e",
            },
        ),
        Layout(
            "cifar-10-binary.tar.gz",
            "cifar-10-batches-bin",
            tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
            "test_batch.bin",
            (("batches.meta.txt", ""),),
            ("labels",),
            True,
            "c32a1d4ab5d03f1284b67883e8d87530",
            {},
        ),
    ),
    "cifar100": (
        Layout(
            "cifar-100-python.tar.gz",
            "cifar-100-python",
            ("train",),
            "test",
            (("meta", "fine_label_names"), ("meta", "coarse_label_names")),
            ("fine_labels", "coarse_labels"),
            False,
            "eb9058c3a382ffc7106e4002c42a8d85",
            {
                "train": "16019d7e3df5f24257cddd939b257f8d",
                "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
            },
        ),
        Layout(
            "cifar-100-binary.tar.gz",
            "cifar-100-binary",
            ("train.bin",),
            "test.bin",
            (("fine_label_names.txt", ""), ("coarse_label_names.txt", "")),
            ("fine_labels", "coarse_labels"),
            True,
            "03b5dce01913d631647c71ecec9e9cb8",
            {},
        ),
    ),
}
