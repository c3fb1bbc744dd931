"""The one kind of error that users see: what, got, expected, how to fix."""

import difflib
from collections.abc import Iterable

__all__ = ["JnasError", "unknown_name"]


class JnasError(ValueError):
    """A user error told in one line; the command line prints it and exits with 2.

    Example:
      >>> raise JnasError("batch_size must be >= 1, got 0: use a positive number")
      Traceback (most recent call last):
        ...
      jnas.errors.JnasError: batch_size must be >= 1, got 0: use a positive number
    """


def unknown_name(kind: str, name: object, known: Iterable[str]) -> JnasError:
    """Builds the error for a name that is not registered, listing close matches.

    Args:
      kind: what is named, e.g. ``"space"``.
      name: what the user gave.
      known: the names that exist.

    Returns:
      The error, to be raised by the caller.

    Example:
      >>> str(unknown_name("space", "dart", ["darts", "nasbench201"]))
      "unknown space 'dart': did you mean 'darts'? (known: darts, nasbench201)"
    """
    names = sorted(known)
    close = difflib.get_close_matches(str(name), names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(repr(c) for c in close)}? " if close else ""
    listed = ", ".join(names) if names else "none"
    known_text = f"(known: {listed})" if hint else f"known: {listed}"
    return JnasError(f"unknown {kind} {name!r}: {hint}{known_text}")
