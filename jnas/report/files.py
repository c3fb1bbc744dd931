"""Saving pictures: checked paths, the same bytes for the same picture."""

import pathlib
from typing import TYPE_CHECKING

from jnas import errors

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["picture", "save"]

_SUFFIXES = (".png", ".svg", ".pdf")


def picture(path: pathlib.Path) -> pathlib.Path:
    """Checks that a picture can be written, before any work is done for it.

    Args:
      path: file to write.

    Returns:
      The path.

    Raises:
      JnasError: if its suffix is no picture's, or its folder does not exist.

    Example:
      >>> picture(pathlib.Path("cells.png")).name
      'cells.png'
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise errors.JnasError(
            f"unknown picture format {path.suffix!r} of {path.name!r}: end the name "
            f"in {', '.join(_SUFFIXES)}"
        )
    if not path.parent.is_dir():
        raise errors.JnasError(
            f"folder {str(path.parent)!r} does not exist: make it before saving "
            f"{path.name!r}"
        )
    return path


def save(figure: "Figure", path: pathlib.Path) -> None:
    """Writes a figure.

    Args:
      figure: the figure.
      path: file to write, checked by ``picture``.

    Example:
      >>> import tempfile
      >>> from matplotlib.figure import Figure
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     save(Figure(), pathlib.Path(folder) / "empty.png")
    """
    import matplotlib

    # without these an SVG has random names and the time in it
    metadata = {
        ".svg": {"Date": None},
        ".pdf": {"CreationDate": None},
    }.get(path.suffix.lower())
    with matplotlib.rc_context({"svg.hashsalt": "jnas"}):
        figure.savefig(path, dpi=150, metadata=metadata, facecolor="white")
