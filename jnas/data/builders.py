"""CIFAR-10 and CIFAR-100 prepared for tensorflow-datasets, without TensorFlow.

The stock builders of tensorflow-datasets need TensorFlow to prepare a set, though not
to read it. Here the official archive is read by `jnas.data.cifar` and written by
tensorflow-datasets itself as ``array_record`` under the stock name, version and
features (``id``, PNG images, ``label``, and ``coarse_label`` for CIFAR-100), with the
stock example keys, which fix the order in the files. What comes out is read by anyone
as plain ``tfds.data_source("cifar10", data_dir=...)``.
"""

import contextlib
import io
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from jnas import errors
from jnas.data import cifar, cifar_files, pixels

__all__ = ["prepare"]


def prepare(
    name: str,
    archive: str | os.PathLike[str] | None,
    data_dir: str | os.PathLike[str],
) -> pathlib.Path:
    """Writes a set where tensorflow-datasets finds it.

    Args:
      name: ``"cifar10"`` or ``"cifar100"``.
      archive: the official archive, python or binary version, or its unpacked folder;
        None: search for it, see `jnas.data.folders`.
      data_dir: the data folder of tensorflow-datasets; the set gets folders of its
        own in it, named by set and version.

    Returns:
      The folder that was written.

    Raises:
      JnasError: for an unknown name, an archive that cannot be used, a set that is
        there already, or a folder that cannot be written.
    """
    if name not in cifar_files.LAYOUTS:
        raise errors.unknown_name("set to prepare", name, cifar_files.LAYOUTS)
    archive = archive or cifar.find(name)
    if archive is None:
        raise cifar.not_found(name, None)
    content = cifar.read(archive, name)
    if content.class_names is None or (content.coarse and not content.coarse_names):
        names = ", ".join(file for file, _ in cifar_files.LAYOUTS[name][0].names)
        raise errors.JnasError(
            f"{archive} must hold the names of the classes, got none: use the whole "
            f"archive with {names}"
        )
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise errors.JnasError(
            f"preparing {name!r} needs tensorflow-datasets, which cannot be imported "
            f"({error}): install tensorflow-datasets"
        ) from error
    pixels.pillow()
    try:
        builder = _builder_class(tfds, name, content)(data_dir=os.fspath(data_dir))
        folder = pathlib.Path(builder.data_dir)
        if folder.exists():
            raise errors.JnasError(
                f"{folder} is there already: read it as {name!r}, or remove it to "
                "prepare it anew"
            )
        with _quiet(tfds):
            builder.download_and_prepare(file_format="array_record")
    except errors.JnasError:
        raise
    # Whatever the library raises while it writes, e.g. on a full disk.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise errors.JnasError(
            f"cannot prepare {name!r} in {data_dir}: {reason}: check the space and "
            "permissions there"
        ) from error
    return folder


def _builder_class(tfds: Any, name: str, content: cifar.Content) -> Any:
    """The stock builder with another source of examples."""
    stock = tfds.builder_cls(name)

    class Prepared(stock, skip_registration=True):
        """Writes examples that are in memory."""

        def _split_generators(self, dl_manager: Any) -> Any:
            del dl_manager
            self.info.features["label"].names = content.class_names
            if content.coarse:
                self.info.features["coarse_label"].names = content.coarse_names
            return {part: _examples(content, part) for part in ("train", "test")}

    Prepared.name = stock.name
    Prepared.pkg_dir_path = stock.pkg_dir_path
    return Prepared


def _examples(content: cifar.Content, part: str) -> Iterator[tuple[int, Any]]:
    """Keys and rows in the official order."""
    for index, image in enumerate(content.image[part]):
        row: dict[str, Any] = {
            "id": f"{part}_{index:05d}",
            "image": io.BytesIO(_png(image)),
            "label": int(content.label[part][index]),
        }
        if content.coarse:
            row["coarse_label"] = int(content.coarse[part][index])
        yield index, row


def _png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    pixels.pillow().fromarray(image).save(file, "PNG")
    return file.getvalue()


@contextlib.contextmanager
def _quiet(tfds: Any) -> Iterator[None]:
    """Hides bars, and words of a download that is none."""
    from tensorflow_datasets.core.utils import tqdm_utils

    active = getattr(tqdm_utils, "_active", True)
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        if active:
            tfds.enable_progress_bar()
