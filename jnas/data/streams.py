"""Sets larger than the device's memory, or the host's: streamed through Grain.

Grain (an optional extra) shuffles positions and reads ahead in threads; here they
become batches of uint8 images, which the compiled step augments and normalises like
those of a `Feed`, with the same keys. Differences from `Feed`:

* Order: each epoch visits every training example exactly once, in an order of its own;
  where it ends inside a batch the next epoch's order completes the batch, as in `Feed`.
  But the order is drawn on the host from a whole-number seed, not from a key, so
  searches that are mapped over seeds in one program see the same examples.
* Validation batches come from a shuffled stream of their own that visits every example
  once per round; `Feed` draws a fresh sample at each step.

The state of the iterator is text (JSON around Grain's own state) and belongs to a
checkpoint: opened with it, the stream goes on with exactly the next batch.

Shape letters: `K` batches, `B` batch, `N` examples, `H W C` image.
"""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike, DTypeLike

from jnas import errors
from jnas.data import base, feeds, pixels, rows

__all__ = ["Fed", "Stream", "StreamIterator", "stream"]

HostBatch = dict[str, np.ndarray]
HostBatches = tuple[HostBatch, HostBatch | None]
FORMAT = 1
PARTS = ("train", "validation")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Fed:
    """A pure function ``(key, step) -> (train_batch, val_batch)`` of a few batches.

    Made by `Stream.fed`; a pytree, to be passed to a compiled function as an argument.

    Attributes:
      batches: ``{"train": {"image": uint8 [K, B, H, W, C], "label": int32 [K, B]},
        "validation": the same or None}``.
      step0: int32 scalar, the step that the first batches belong to.
      mean: one number per channel.
      std: one number per channel.
      augment: what is done to both batches.
      dtype: of the images in a batch.
    """

    batches: dict[str, Any]
    step0: ArrayLike
    mean: tuple[float, ...] = dataclasses.field(metadata={"static": True})
    std: tuple[float, ...] = dataclasses.field(metadata={"static": True})
    augment: base.Augment = dataclasses.field(metadata={"static": True})
    dtype: np.dtype = dataclasses.field(metadata={"static": True})

    def __call__(
        self, key: jax.Array, step: ArrayLike
    ) -> tuple[feeds.Batch, feeds.Batch | None]:
        """Returns the batches of one of the steps that were handed over.

        Args:
          key: typed key of the whole stream, as for a `Feed`.
          step: integer scalar in ``step0 .. step0 + K - 1``.

        Returns:
          The train batch and the validation batch, as a `Feed` returns them.

        Raises:
          JnasError: for a key of the old kind or a step that is no integer scalar.
        """
        feeds.check_call(key, step)
        step = jnp.asarray(step, jnp.int32)
        slot = step - jnp.asarray(self.step0, jnp.int32)
        keys = feeds.augment_keys(key, step)
        train = self._batch("train", slot, keys[0])
        if self.batches["validation"] is None:
            return train, None
        return train, self._batch("validation", slot, keys[1])

    def _batch(self, part: str, slot: jax.Array, key: jax.Array) -> feeds.Batch:
        batch: feeds.Batch = {
            name: lax.dynamic_index_in_dim(jnp.asarray(array), slot, keepdims=False)
            for name, array in self.batches[part].items()
        }
        look = (self.augment, self.mean, self.std, self.dtype)
        return feeds.augmented(batch, key, *look)


class StreamIterator:
    """Host batches of consecutive steps, read ahead; made by `Stream.open`.

    ``next`` gives ``(train, validation or None)``, each ``{"image": uint8 [B, H, W,
    C], "label": int32 [B]}`` of NumPy arrays. Use it in a ``with`` block, or call
    `close`, so that its threads end.
    """

    def __init__(self, iterators: dict[str, Any], state: str | None):
        self._iterators = iterators
        if state is not None:
            self._restore(state)

    def __enter__(self) -> "StreamIterator":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __iter__(self) -> "StreamIterator":
        return self

    def __next__(self) -> HostBatches:
        if not self._iterators:
            raise errors.JnasError("this stream is closed: open it again")
        try:
            train = next(self._iterators["train"])
            if "validation" not in self._iterators:
                return train, None
            return train, next(self._iterators["validation"])
        except errors.JnasError as error:
            # Anew, without the advice that Grain adds to every ValueError.
            raise errors.JnasError(str(error)) from error.__cause__

    def state(self) -> str:
        """Returns the state after the last batch, as JSON text."""
        if not self._iterators:
            raise errors.JnasError("this stream is closed: ask for its state before")
        parts = {part: it.get_state() for part, it in self._iterators.items()}
        return json.dumps({"format": FORMAT, **parts})

    def close(self) -> None:
        """Stops reading ahead and ends the threads; twice does no harm."""
        iterators, self._iterators = self._iterators, {}
        for iterator in iterators.values():
            iterator.close()

    def _restore(self, state: str) -> None:
        try:
            stored = json.loads(state)
            if set(stored) != {"format", *self._iterators}:
                raise ValueError(f"it has {', '.join(sorted(stored))}")
            if stored["format"] != FORMAT:
                raise ValueError(f"its format is {stored['format']!r}, not {FORMAT}")
            for part, iterator in self._iterators.items():
                iterator.set_state(stored[part])
                # What is no number would only be noticed by a thread.
                if json.loads(self.state())[part] != stored[part]:
                    raise ValueError(f"{part} is not a state")
                if not all(type(v) is int and v >= 0 for v in stored[part].values()):
                    raise ValueError(f"{part} is not a state")
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            self.close()
            raise errors.JnasError(
                f"the state of the stream cannot be used ({error}): give what state() "
                "returned for a stream of the same parts"
            ) from error


@dataclasses.dataclass(frozen=True, eq=False)
class Stream:
    """Batches of a set that is read as training goes; made by `stream`.

    Attributes:
      train: the examples for the weights.
      validation: the examples for the architecture, or None.
      batch_size: `B`.
      mean: one number per channel.
      std: one number per channel.
      augment: what is done to both batches.
      dtype: of the images in a batch.
      threads: that read and decode, for each part.
      prefetch: batches that each part reads ahead.
    """

    train: base.Examples
    validation: base.Examples | None
    batch_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: base.Augment
    dtype: np.dtype
    threads: int
    prefetch: int

    @property
    def num_train(self) -> int:
        """Number of training examples `N`."""
        return len(self.train)

    @property
    def steps_per_epoch(self) -> int:
        """Steps until every training example has been seen: ``ceil(N / B)``."""
        return -(-self.num_train // self.batch_size)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of one image."""
        return self.train.image_shape

    def open(self, seed: int, state: str | None = None) -> StreamIterator:
        """Begins to read.

        Args:
          seed: whole number that fixes the orders.
          state: of an iterator opened with the same seed, to go on after it.

        Returns:
          The endless iterator.

        Raises:
          JnasError: the seed or the state cannot be used. A bad example ends in a
            `JnasError` when its batch is asked for.
        """
        whole = isinstance(seed, int | np.integer) and not isinstance(seed, bool)
        if not whole or seed < 0:
            raise errors.JnasError(f"seed must be a whole number >= 0, got {seed!r}")
        iterators = {}
        for number, part in enumerate(PARTS):
            examples = getattr(self, part)
            if examples is not None:
                iterators[part] = self._iterator(examples, (int(seed), number))
        return StreamIterator(iterators, state)

    def _iterator(self, examples: base.Examples, seed: tuple[int, int]) -> Any:
        grain = _grain()

        def batch(index: Sequence[int]) -> HostBatch:
            # One thread a batch: Grain runs this for several batches at once.
            if isinstance(examples, rows.StreamSplit):
                image, label = examples.read(np.asarray(index), threads=1)
            else:
                image, label = examples.read(np.asarray(index))
            return {"image": image, "label": label}

        order = _order(grain, len(examples), seed)
        batches = order.batch(self.batch_size, batch_fn=batch)
        options = grain.ReadOptions(
            num_threads=self.threads, prefetch_buffer_size=self.prefetch
        )
        return iter(batches.to_iter_dataset(options))

    def fed(self, batches: Sequence[HostBatches], step0: int) -> Fed:
        """Makes a compiled program's argument of the batches of some steps.

        Args:
          batches: what the iterator gave, `K` in order.
          step0: the step of the first, from 0.

        Returns:
          The function of key and step; its arrays are on the host.

        Raises:
          JnasError: there are no batches.
        """
        if not batches:
            raise errors.JnasError("fed needs the batches of at least one step, got 0")
        stacked: dict[str, Any] = {"train": _stack([batch[0] for batch in batches])}
        second = [batch[1] for batch in batches if batch[1] is not None]
        stacked["validation"] = _stack(second) if second else None
        return Fed(
            stacked, np.int32(step0), self.mean, self.std, self.augment, self.dtype
        )

    def description(self) -> dict[str, Any]:
        """Returns what a resumed run must find again, of JSON's types.

        The examples are compared by a sample; "order" is the beginning of one order,
        for another version of Grain might draw another.
        """
        found: dict[str, Any] = {
            "kind": "stream",
            "batch_size": self.batch_size,
            "image_shape": list(self.image_shape),
            "mean": list(self.mean),
            "std": list(self.std),
            "augment": json.loads(json.dumps(dataclasses.asdict(self.augment))),
            "dtype": str(self.dtype),
        }
        for part in PARTS:
            examples = getattr(self, part)
            if examples is None:
                found[part] = None
                continue
            order = _order(_grain(), len(examples), (0, 0))
            found[part] = {
                "examples": len(examples),
                "fingerprint": rows.fingerprint(examples),
                "order": [int(order[i]) for i in range(4)],
            }
        return found


def stream(
    train: base.Examples,
    validation: base.Examples | None,
    *,
    batch_size: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    augment: base.Augment,
    dtype: DTypeLike = jnp.float32,
    threads: int | None = None,
    prefetch: int | None = None,
) -> Stream:
    """Makes the stream of a training and a validation part; the streamed `feed`.

    Args:
      train: examples for the weights: a part of a `StreamDataset`, or of a `Dataset`
        that fits the host's memory but not the device's.
      validation: examples for the architecture; None for retraining.
      batch_size: `B`, at most the size of the smaller part.
      mean: one number per channel, of pixel/255.
      std: one number per channel.
      augment: augmentation of both batches.
      dtype: floating type of the images in a batch.
      threads: that read and decode, for each part; None: one a core.
      prefetch: batches that each part reads ahead; None: two a thread.

    Returns:
      The stream; nothing is read before it is opened.

    Raises:
      JnasError: Grain is not installed, or an option does not fit.

    Example:
      >>> import jnas.data
      >>> data = jnas.data.load("digits")
      >>> batches = stream(data.train, data.validation, batch_size=64, mean=data.mean,
      ...                  std=data.std, augment=data.augment)
      >>> with batches.open(seed=0) as iterator:
      ...     feed = batches.fed([next(iterator)], step0=0)
      ...     state = iterator.state()
      >>> train, val = jax.jit(lambda f, k, s: f(k, s))(feed, jax.random.key(0), 0)
      >>> train["image"].shape, batches.steps_per_epoch
      ((64, 8, 8, 1), 12)
      >>> state
      '{"format": 1, "train": {"next_index": 1}, "validation": {"next_index": 1}}'
    """
    _grain()
    mean, std = feeds.check_options(
        batch_size, mean, std, augment, dtype, train.image_shape
    )
    feeds.check_parts(train, validation, batch_size)
    threads = pixels.default_threads() if threads is None else threads
    prefetch = 2 * threads if prefetch is None else prefetch
    for name, value in (("threads", threads), ("prefetch", prefetch)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise errors.JnasError(f"{name} must be a whole number >= 1, got {value!r}")
    return Stream(
        train=train,
        validation=validation,
        batch_size=int(batch_size),
        mean=mean,
        std=std,
        augment=augment,
        dtype=np.dtype(dtype),
        threads=threads,
        prefetch=prefetch,
    )


def _grain() -> Any:
    try:
        import grain
    except ImportError as error:
        raise errors.JnasError(
            f"streaming needs Grain, which cannot be imported ({error}): install "
            "jnas[grain], or load the set into memory"
        ) from error
    return grain


def _order(grain: Any, size: int, seed: tuple[int, int]) -> Any:
    """All epochs' orders, one after the other, of the positions below `size`."""
    number = int(np.random.SeedSequence(seed).generate_state(1)[0])
    return grain.MapDataset.range(size).seed(number).shuffle().repeat(None)


def _stack(batches: Sequence[HostBatch]) -> HostBatch:
    if len(batches) == 1:
        return {name: array[None] for name, array in batches[0].items()}
    return {name: np.stack([b[name] for b in batches]) for name in batches[0]}
