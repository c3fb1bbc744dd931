"""Stopping on SIGINT and SIGTERM without losing work.

The handlers only set a flag, which the loop reads after each chunk: whatever runs
inside JAX is left to finish, then the state is saved and `Interrupted` raised.
"""

import os
import signal
import threading
from types import FrameType, TracebackType

from jnas.errors import JnasError

__all__ = ["Guard", "Interrupted"]

_CAUGHT = (signal.SIGINT, signal.SIGTERM)


class Interrupted(JnasError):
    """A run that was stopped by a signal, after its state was saved.

    Attributes:
      signum: the number of the signal; a command exits with ``128 + signum``.

    Example:
      >>> Interrupted(15, "epoch 2/6, step 25", saved=True).signum
      15
    """

    def __init__(self, signum: int, where: str, *, saved: bool):
        name = signal.Signals(signum).name
        then = (
            "saved; run the same command again to go on"
            if saved
            else "not saved, for the run has no workdir"
        )
        super().__init__(f"stopped by {name} at {where}; {then}")
        self.signum = signum


class Guard:
    """Catches SIGINT and SIGTERM within a ``with`` block (main thread only).

    The first signal is remembered in `signum`; a second SIGINT raises
    `KeyboardInterrupt` at once. The handlers of before are put back at the end.

    Attributes:
      signum: the signal that came, or None.

    Example:
      >>> with Guard() as guard:
      ...     signal.raise_signal(signal.SIGTERM)
      >>> guard.signum == signal.SIGTERM
      True
    """

    def __init__(self, *, hint: bool = False):
        self.signum: int | None = None
        self._hint = hint
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> "Guard":
        if threading.current_thread() is threading.main_thread():
            for caught in _CAUGHT:
                self._before[caught] = signal.signal(caught, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        del kind, error, trace
        for caught, before in self._before.items():
            # None: the handler of before was not set from Python
            signal.signal(caught, before if before is not None else signal.SIG_DFL)  # pyrefly: ignore[bad-argument-type]

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        del frame
        if self.signum is not None and signum == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signum is None:
            self.signum = signum
            if self._hint:
                # print and rich are not safe to re-enter from a handler
                os.write(2, b"\nstopping after this chunk (again: at once)\n")
