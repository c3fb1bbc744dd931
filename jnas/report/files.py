"""Saving pictures: checked paths, the same bytes for the same picture."""

import contextlib
import io
import pathlib
import warnings
from collections.abc import Iterator
from typing import Any

from jnas import errors

__all__ = ["any_text", "check_format", "picture", "plain", "save", "svg"]

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


def check_format(name: str) -> str:
    """Checks the name of a picture format.

    Args:
      name: such as "png", with or without a dot.

    Returns:
      The name without dot, in small letters.

    Raises:
      JnasError: if it is not known.

    Example:
      >>> check_format(".PNG")
      'png'
    """
    known = [suffix[1:] for suffix in _SUFFIXES]
    plain_name = str(name).lower().removeprefix(".")
    if plain_name not in known:
        raise errors.unknown_name("picture format", name, known)
    return plain_name


def save(figure: Any, path: pathlib.Path) -> None:
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
    with matplotlib.rc_context({"svg.hashsalt": "jnas"}), any_text():
        figure.savefig(path, dpi=150, metadata=metadata, facecolor="white")


def svg(figure: Any) -> str:
    """Writes a figure as SVG whose text stays text, without a background.

    Args:
      figure: the figure.

    Returns:
      The file's text.

    Example:
      >>> from matplotlib.figure import Figure
      >>> svg(Figure())[:5]
      '<?xml'
    """
    import matplotlib

    buffer = io.StringIO()
    settings = {"svg.hashsalt": "jnas", "svg.fonttype": "none"}
    with matplotlib.rc_context(settings), any_text():
        figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    return buffer.getvalue()


def plain(text: str) -> str:
    r"""Prepares text of any origin for matplotlib, which reads dollars as formulas.

    Args:
      text: the text.

    Returns:
      What matplotlib shows as that text; what can't be printed is a question mark.

    Example:
      >>> print(plain("$x$"), plain("_a"))
      \$x\$  _a
    """
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    # legends leave out what begins with an underscore
    return (" " if text.startswith("_") else "") + text.replace("$", r"\$")


@contextlib.contextmanager
def any_text() -> Iterator[None]:
    """Keeps matplotlib silent about letters that its font lacks: names may have any.

    Example:
      >>> with any_text():
      ...     warnings.warn("Glyph 1 (X) missing from font(s) Y.", stacklevel=1)
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not supp")
        yield
