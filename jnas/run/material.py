"""What a run needs of a dataset, whether it holds images or text."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jnas import data as datasets
from jnas.errors import JnasError

__all__ = [
    "BPTT",
    "Material",
    "check_outputs",
    "for_retraining",
    "for_search",
    "uses_all",
    "validation_batches",
]

BPTT = 35  # of text, where nobody says otherwise


class Material(NamedTuple):
    """A dataset as a run sees it.

    Attributes:
      feed: ``(key, step) -> (train_batch, val_batch)``, or a stream.
      example: shapes of the inputs, for ``init``.
      per_step: images that a step of one batch reads; 0 for text.
    """

    feed: Any
    example: Any
    per_step: int


def for_search(
    data: Any, batch_size: int, config: dict[str, Any], stream: bool = False
) -> Material:
    """The training and the validation part of a dataset.

    Args:
      data: a `Dataset`, a `StreamDataset` or a `TextDataset`.
      batch_size: of both batches.
      config: of the search; "bptt" is the window of text. If "data" is "full", the
        weights and the architecture learn from the same batches of both parts, and the
        feed has no validation batch.
      stream: whether to read images batch by batch though they are in memory.

    Returns:
      The material.

    Raises:
      JnasError: the sizes don't fit the dataset.
    """
    parts = data.train, data.validation
    if uses_all(config):
        parts = data.full, None
    return _material(data, *parts, batch_size, config.get("bptt"), stream)


def uses_all(config: dict[str, Any]) -> bool:
    """Whether a search's weights and architecture learn from the same batches.

    Args:
      config: of the search.

    Returns:
      Whether they do.

    Example:
      >>> uses_all({"data": "full"}), uses_all({})
      (True, False)
    """
    return config.get("data") == "full"


def for_retraining(
    data: Any, batch_size: int, bptt: int | None = None, stream: bool = False
) -> Material:
    """Training and validation part as one.

    Args:
      data: a `Dataset`, a `StreamDataset` or a `TextDataset`.
      batch_size: of the training.
      bptt: window of text.
      stream: whether to read images batch by batch though they are in memory.

    Returns:
      The material.

    Raises:
      JnasError: the sizes don't fit the dataset.
    """
    return _material(data, data.full, None, batch_size, bptt, stream)


def _material(data, train, validation, batch_size, bptt, stream) -> Material:
    if isinstance(data, datasets.TextDataset):
        if stream:
            raise JnasError(f"only images can be streamed, but {data.name!r} is text")
        bptt = bptt or BPTT
        feed = datasets.text_feed(train, validation, batch_size=batch_size, bptt=bptt)
        tokens = jax.ShapeDtypeStruct((batch_size, bptt), jnp.int32)
        return Material(feed, {"tokens": tokens}, 0)
    make = datasets.feed
    if stream or isinstance(data, datasets.StreamDataset):
        make = datasets.stream
    feed = make(
        train,
        validation,
        batch_size=batch_size,
        mean=data.mean,
        std=data.std,
        augment=data.augment,
    )
    example = jax.ShapeDtypeStruct((batch_size, *data.image_shape), feed.dtype)
    return Material(feed, example, batch_size)


def check_outputs(config: dict[str, Any], data: Any) -> None:
    """Refuses a network that was built for other data.

    Args:
      config: of the network.
      data: the dataset.

    Raises:
      JnasError: the kind of data, or the number of classes or tokens, differs.

    Example:
      >>> check_outputs({"num_classes": 10}, datasets.load("digits"))
    """
    is_text = isinstance(data, datasets.TextDataset)
    if ("num_classes" if is_text else "vocab_size") in config:
        raise JnasError(
            f"this network is for {'images' if is_text else 'text'}, but {data.name!r} "
            f"holds {'text' if is_text else 'images'}"
        )
    if is_text:
        size = config.get("vocab_size")
        if size is not None and size != data.vocab_size:
            raise JnasError(
                f"the network has {size} tokens but {data.name!r} has "
                f"{data.vocab_size}: build it with vocab_size={data.vocab_size}"
            )
        return
    classes = config.get("num_classes")
    if classes is not None and classes != data.num_classes:
        raise JnasError(
            f"the supernet has {classes} outputs but {data.name!r} has "
            f"{data.num_classes} classes: build it with num_classes="
            f"{data.num_classes}"
        )


def validation_batches(
    data: Any, batch_size: int, config: dict[str, Any]
) -> tuple[int, Iterator[Any]]:
    """The full batches of the validation part.

    Args:
      data: a `Dataset` or a `TextDataset`.
      batch_size: of each.
      config: of the search.

    Returns:
      How many there are, and the batches. Windows of text begin from a zero state.
    """
    if isinstance(data, datasets.TextDataset):
        bptt = config.get("bptt") or BPTT
        count = (len(data.validation) - 1) // batch_size // bptt
        windows = datasets.text_batches(data.validation, batch_size, bptt)
        return count, ({**window, "reset": True} for window in windows)
    batches = datasets.batches(data.validation, batch_size, data.mean, data.std)
    return len(data.validation) // batch_size, batches
