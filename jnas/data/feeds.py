"""Batches: a pure feed for the search and for training, plain batches to evaluate.

The training feed is a function of a key and a step number, so nothing but the step
has to be saved to resume it exactly. Train order: the positions of the steps run on
without gap, ``step * B + (0..B-1)``; position p belongs to epoch ``e = p // N`` and
takes entry ``p % N`` of that epoch's own permutation. So every example comes exactly
once per N positions and batches are always full: where an epoch ends inside a batch,
the next permutation completes it. (DARTS' loader ends each epoch with a smaller batch
instead; full batches keep one compiled program.) Validation batches are a fresh
uniform sample without replacement at every step, as ``next(iter(loader))`` on a
shuffled loader is in DARTS. Both are augmented alike: in DARTS the two samplers share
one dataset object and thus one transformation.

Shape letters: `B` batch, `N` examples, `H W C` image.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike, DTypeLike

from jnas import errors
from jnas.data import augment as augmenting
from jnas.data import base, checks

__all__ = [
    "Feed",
    "augment_keys",
    "augmented",
    "batches",
    "check_batch_size",
    "check_call",
    "check_options",
    "check_parts",
    "feed",
]

Batch = dict[str, jax.Array]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Feed:
    """A pure function ``(key, step) -> (train_batch, val_batch)``; made by `feed`.

    A pytree: pass it to a compiled function as an *argument*. Its arrays then stay on
    the device and are not copied into the program as constants.

    Attributes:
      arrays: ``{"train": {"image": uint8 [N, H, W, C], "label": int32 [N]},
        "validation": the same or None}``.
      batch_size: `B`.
      mean: one number per channel.
      std: one number per channel.
      augment: what is done to both batches.
      dtype: of the images in a batch.
    """

    arrays: dict[str, Any]
    batch_size: int = dataclasses.field(metadata={"static": True})
    mean: tuple[float, ...] = dataclasses.field(metadata={"static": True})
    std: tuple[float, ...] = dataclasses.field(metadata={"static": True})
    augment: base.Augment = dataclasses.field(metadata={"static": True})
    dtype: np.dtype = dataclasses.field(metadata={"static": True})

    @property
    def num_train(self) -> int:
        """Number of training examples `N`."""
        return self.arrays["train"]["label"].shape[0]

    @property
    def steps_per_epoch(self) -> int:
        """Steps until every training example has been seen: ``ceil(N / B)``."""
        return -(-self.num_train // self.batch_size)

    def __call__(self, key: jax.Array, step: ArrayLike) -> tuple[Batch, Batch | None]:
        """Returns the batches of one step.

        Args:
          key: typed key of the whole stream: the same one at every step. It must
            not be used for anything else.
          step: integer scalar, the number of the step from 0.

        Returns:
          The train batch and the validation batch (None without validation split),
          each ``{"image": [B, H, W, C], "label": int32 [B]}``.

        Raises:
          JnasError: for a key of the old kind or a step that is no integer scalar.
        """
        check_call(key, step)
        step = jnp.asarray(step, jnp.int32)
        # fold_in, not split: it does not count as a use of the key, which comes back
        # at the next step.
        key_order, key_sample = (jax.random.fold_in(key, use) for use in range(2))
        key_train, key_validation = augment_keys(key, step)
        index = _train_index(key_order, step, self.num_train, self.batch_size)
        train = self._batch("train", index, key_train)
        if self.arrays["validation"] is None:
            return train, None
        size = self.arrays["validation"]["label"].shape[0]
        key_sample = jax.random.fold_in(key_sample, step)
        index = jax.random.permutation(key_sample, size)[: self.batch_size]
        return train, self._batch("validation", index, key_validation)

    def _batch(self, part: str, index: jax.Array, key: jax.Array) -> Batch:
        """Gathers and augments the examples at `index`; the key is consumed."""
        batch = {name: array[index] for name, array in self.arrays[part].items()}
        look = (self.augment, self.mean, self.std, self.dtype)
        return augmented(batch, key, *look)


def augment_keys(key: jax.Array, step: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The keys of the two batches' augmentation, from the stream's key and the step."""
    train, validation = (
        jax.random.fold_in(jax.random.fold_in(key, use), step) for use in (2, 3)
    )
    return train, validation


def augmented(
    batch: Batch,
    key: jax.Array,
    augment: base.Augment,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    dtype: DTypeLike,
) -> Batch:
    """Augments and normalises a batch of uint8 images; the key is consumed."""
    number, height, width, _ = batch["image"].shape
    drawn = augmenting.draw(key, number, height, width, augment)
    image = augmenting.apply(batch["image"], drawn, augment, mean, std, dtype)
    return {"image": image, "label": batch["label"]}


def feed(
    train: base.Split,
    validation: base.Split | None,
    *,
    batch_size: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    augment: base.Augment,
    dtype: DTypeLike = jnp.float32,
) -> Feed:
    """Puts the splits on the device and returns their feed.

    Args:
      train: examples for the weights; for retraining `Dataset.full`.
      validation: examples for the architecture; None for retraining.
      batch_size: `B`, at most the size of the smaller split.
      mean: one number per channel, of pixel/255.
      std: one number per channel.
      augment: augmentation of both batches.
      dtype: floating type of the images in a batch.

    Returns:
      The feed.

    Raises:
      JnasError: for a batch size, statistics or augmentation that do not fit.

    Example:
      >>> import jnas.data
      >>> data = jnas.data.load("digits")
      >>> stream = feed(data.train, data.validation, batch_size=64, mean=data.mean,
      ...               std=data.std, augment=data.augment)
      >>> draw = jax.jit(lambda stream, key, step: stream(key, step))
      >>> train, val = draw(stream, jax.random.key(0), 0)
      >>> train["image"].shape, val["label"].shape, stream.steps_per_epoch
      ((64, 8, 8, 1), (64,), 12)
    """
    mean, std = check_options(batch_size, mean, std, augment, dtype, train.image_shape)
    check_parts(train, validation, batch_size)
    if len(train) * batch_size >= 2**31:
        # _train_index counts in int32.
        raise errors.JnasError(
            f"examples x batch_size must be below 2^31, got {len(train)} x "
            f"{batch_size}: use a smaller batch"
        )
    return Feed(
        arrays={
            "train": _on_device(train),
            "validation": None if validation is None else _on_device(validation),
        },
        batch_size=int(batch_size),
        mean=mean,
        std=std,
        augment=augment,
        dtype=np.dtype(dtype),
    )


def batches(
    split: base.Examples,
    batch_size: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> Iterator[dict[str, np.ndarray]]:
    """Goes once through a split in order, in full batches, for exact evaluation.

    The last batch is filled up with examples from the beginning whose weight is 0,
    so that one compiled program serves all batches and weighted sums stay exact.

    Args:
      split: the examples, in memory or streamed.
      batch_size: `B`, any positive number.
      mean: one number per channel, of pixel/255.
      std: one number per channel.

    Returns:
      An iterator over ``{"image": float32 [B, H, W, C], "label": int32 [B],
      "weight": float32 [B]}`` of NumPy arrays.

    Raises:
      JnasError: for a batch size or statistics that do not fit (at once).

    Example:
      >>> part = base.Split(np.zeros((5, 8, 8, 1), np.uint8), np.arange(5, dtype="i4"))
      >>> [b["weight"].tolist() for b in batches(part, 3, (0.5,), (0.5,))]
      [[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]]
    """
    check_batch_size(batch_size)
    checks.check_statistics(tuple(mean), tuple(std), split.image_shape[2])
    return _batches(
        split, batch_size, np.asarray(mean, np.float32), np.asarray(std, np.float32)
    )


def _batches(
    split: base.Examples, batch_size: int, mean: np.ndarray, std: np.ndarray
) -> Iterator[dict[str, np.ndarray]]:
    """Generates the batches; apart from `batches` so that errors come at once."""
    for start in range(0, len(split), batch_size):
        position = np.arange(start, start + batch_size)
        image, label = split.read(position % len(split))
        yield {
            "image": (image.astype(np.float32) / np.float32(255) - mean) / std,
            "label": label,
            "weight": (position < len(split)).astype(np.float32),
        }


def _train_index(
    key: jax.Array, step: jax.Array, size: int, batch_size: int
) -> jax.Array:
    """Returns int32 `[B]`, the examples at positions ``step * B + (0..B-1)``."""
    # The epoch and the place in it of position step * B. The order of epochs repeats
    # every `size` steps; taken apart this way nothing overflows int32.
    start = (step % size) * batch_size
    epoch = (step // size) * batch_size + start // size
    place = start % size + jnp.arange(batch_size, dtype=jnp.int32)

    def order(number):
        shuffled = jax.random.permutation(jax.random.fold_in(key, number), size)
        return shuffled.astype(jnp.int32)

    current = order(epoch)
    # Sorting is the price of a permutation; most batches need only one. The step is
    # not batched under vmap over keys, so there too only one branch runs.
    following = lax.cond(place[-1] >= size, lambda: order(epoch + 1), lambda: current)
    return jnp.where(place < size, current[place % size], following[place % size])


def _on_device(split: base.Split) -> Batch:
    """Copies a split to the device."""
    return {"image": jnp.asarray(split.image), "label": jnp.asarray(split.label)}


def check_options(
    batch_size: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    augment: base.Augment,
    dtype: DTypeLike,
    image_shape: tuple[int, int, int],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns mean and std as plain numbers; raises a `JnasError` for what is amiss."""
    check_batch_size(batch_size)
    mean, std = tuple(map(float, mean)), tuple(map(float, std))
    checks.check_statistics(mean, std, image_shape[2])
    augment.check(*image_shape)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise errors.JnasError(
            f"dtype must be a floating type, got {np.dtype(dtype)}: use float32 or "
            "bfloat16"
        )
    return mean, std


def check_parts(
    train: base.Examples, validation: base.Examples | None, batch_size: int
) -> None:
    """Raises a `JnasError` unless the parts have one shape and can fill a batch."""
    for part, split in (("train", train), ("validation", validation)):
        if split is None:
            continue
        if split.image_shape != train.image_shape:
            raise errors.JnasError(
                f"train and validation must have one image shape, got "
                f"{list(train.image_shape)} and {list(split.image_shape)}"
            )
        if batch_size > len(split):
            raise errors.JnasError(
                f"batch_size must be at most the size of the {part} split "
                f"({len(split)}), got {batch_size}: use a smaller batch"
            )


def check_batch_size(batch_size: int) -> None:
    """Raises a `JnasError` unless this is a positive whole number."""
    whole = isinstance(batch_size, int | np.integer)
    if isinstance(batch_size, bool) or not whole or batch_size < 1:
        raise errors.JnasError(
            f"batch_size must be a whole number >= 1, got {batch_size!r}"
        )


def check_call(key: jax.Array, step: ArrayLike) -> None:
    """Raises a `JnasError` unless the key is typed and the step an integer scalar."""
    dtype = getattr(key, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jax.dtypes.prng_key):
        raise errors.JnasError(
            f"key must be a typed key, got {dtype or type(key).__name__}: use "
            "jax.random.key(seed)"
        )
    if jnp.ndim(key):
        raise errors.JnasError(
            f"key must be one key, got shape {list(jnp.shape(key))}: use jax.vmap over "
            "keys, with the step not batched"
        )
    if jnp.ndim(step) or not jnp.issubdtype(jnp.result_type(step), jnp.integer):
        raise errors.JnasError(
            f"step must be an integer scalar, got {jnp.result_type(step)} "
            f"{list(jnp.shape(step))}"
        )
