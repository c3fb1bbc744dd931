"""Where the batches of a run come from: arrays on the device, or a stream.

A feed of arrays is put on the device once and is the same argument of every dispatch.
A stream hands out host batches; those of a dispatch become its argument, and the place
in the stream is saved with every checkpoint, so that a resumed run goes on with
exactly the next batch.
"""

from typing import Any

import jax

from jnas.errors import JnasError
from jnas.run.workdir import fingerprint

__all__ = ["Feeding"]


class Feeding:
    """The batches of a run, dispatch by dispatch.

    Attributes:
      place: the state of the stream after the batches that were taken, a text; None
        for a feed of arrays, whose place is the number of the step.

    Example:
      >>> feed = jax.tree_util.Partial(lambda key, step: (None, None))
      >>> Feeding(feed, seed=0, chunk=1).description()
      'sha256:e3b0c44298fc1c14 (0 arrays, 0 numbers)'
    """

    def __init__(self, feed: Any, *, seed: int, chunk: int):
        self._stream = feed if hasattr(feed, "fed") else None
        self._arrays = None if self._stream is not None else _on_device(feed)
        self._seed, self._chunk = seed, chunk
        self._batches: Any = None
        self._ahead: list[Any] | None = None
        self.place: str | None = None

    def description(self) -> Any:
        """What a resumed run must match, made of JSON's types."""
        if self._stream is None:
            return fingerprint(self._arrays)
        return self._stream.description()

    def begin(self, place: str | None) -> None:
        """Opens the stream.

        Args:
          place: where, as saved; None for the beginning.
        """
        if self._stream is not None:
            self._batches = self._stream.open(self._seed, place)
            self.place = place

    def look(self, step: int) -> Any:
        """The argument of the dispatch that begins at `step`, without taking it."""
        if self._stream is None:
            return self._arrays
        if self._ahead is None:
            self._ahead = [next(self._batches) for _ in range(self._chunk)]
        return jax.device_put(self._stream.fed(self._ahead, step))

    def take(self, step: int) -> Any:
        """The argument of the dispatch that begins at `step`."""
        fed = self.look(step)
        if self._stream is not None:
            # The batches looked at are the last ones that were read.
            self.place, self._ahead = self._batches.state(), None
        return fed

    def close(self) -> None:
        """Ends the threads of the stream."""
        if self._batches is not None:
            self._batches.close()
            self._batches = None


def _on_device(feed: Any) -> Any:
    """Puts the feed's arrays where the program reads them, once."""
    for leaf in jax.tree.leaves(feed):
        if not (hasattr(leaf, "dtype") or isinstance(leaf, bool | int | float)):
            raise JnasError(
                "feed must be a pytree with arrays as leaves, got "
                f"{type(leaf).__name__}: register its class, or wrap a function that "
                "holds no data in jax.tree_util.Partial"
            )
    return jax.device_put(feed)
