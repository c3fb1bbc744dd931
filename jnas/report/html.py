"""`write_html`: one file that tells all of a run, or of several side by side."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from jnas.errors import JnasError
from jnas.report import (
    maps,
    page,
    pictures,
    sections,
    shares,
    side_by_side,
    spread,
    strengths,
)
from jnas.report import runs as reading
from jnas.report.runs import Run

__all__ = ["write_html"]

_POINTS = 200  # of a curve on the page; its ends are among them


def write_html(
    runs: Sequence[str | os.PathLike[str]] | str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    title: str | None = None,
) -> Path:
    """Writes a report: one HTML file with all its pictures in it.

    Runs that differ in their seeds only are summed up by mean and spread. The file is
    replaced in one move, and only if it is a report: nothing else is ever overwritten.

    Args:
      runs: folders that `jnas search`, `jnas.run.search` or `jnas.run.retrain` wrote,
        complete or not.
      path: the file.
      title: of the page; by default the runs' names.

    Returns:
      The file.

    Raises:
      JnasError: a folder is no run's, a file in it is damaged, or `path` can't be
        written or holds something else.

    Example:
      >>> write_html("no/such/run", "report.html")
      Traceback (most recent call last):
        ...
      jnas.errors.JnasError: run folder no/such/run does not exist: give the folder \
that a search wrote
    """
    import matplotlib

    found = reading.read_all(runs)
    path = Path(path)
    _check_target(path)
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # not the style of whoever calls
        content = _page(found, title)
    _replace(path, content)
    return path


def _check_target(path: Path) -> None:
    if path.is_dir():
        raise JnasError(f"{path} is a folder: name the file to write, e.g. report.html")
    if not path.parent.is_dir():
        raise JnasError(f"folder {path.parent} does not exist: make it first")
    try:
        with open(path, "rb") as file:
            start = file.read(2000)
    except FileNotFoundError:
        return
    except OSError as error:
        raise JnasError(f"can't read {path}: {error.strerror or error}") from error
    if start and page.GENERATOR.encode() not in start:
        raise JnasError(f"{path} is no report of jnas: choose another file to write")


def _replace(path: Path, content: str) -> None:
    """Writes beside the file, then moves: a reader finds the old one or the new."""
    part = None
    try:
        number, part = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with open(number, "w", encoding="utf-8", errors="replace") as file:
            file.write(content)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(part, 0o666 & ~umask)  # as any new file, not for its owner alone
        os.replace(part, path)
    except OSError as error:
        if part is not None and os.path.exists(part):
            os.unlink(part)
        raise JnasError(
            f"can't write {path}: {error.strerror or error}: name another file"
        ) from error


def _page(runs: list[Run], title: str | None) -> str:
    names = spread.names(runs)
    shown = page.Pictures()
    if title is None:
        title = names[0] if len(runs) == 1 else f"{len(runs)} runs: {', '.join(names)}"
        title = title if len(title) < 120 else f"{len(runs)} runs"
    searches = pictures.search_histories(runs, most=_POINTS)
    trainings = pictures.training_histories(runs, most=_POINTS)
    parts = [
        ("Summary", sections.summary(runs, names)),
        ("Genotype", sections.genotypes(runs, names, shown)),
        ("Comparison", sections.comparison(runs, shown)),
        ("Side by side", side_by_side.runs(runs, names)),
        ("Search", sections.curves("search", searches, shown)),
        ("Nothing to learn", shares.section(runs, names, shown, most=_POINTS)),
        ("Removals", strengths.section(runs, names, shown)),
        ("Probabilities", maps.probabilities(runs, names, shown)),
        ("Retraining", sections.curves("retraining", trainings, shown)),
        ("Configuration", sections.configuration(runs, names)),
        ("Versions", sections.versions(runs, names)),
        ("Going on", sections.commands(runs, names)),
    ]
    return page.document(title, sections.chips(runs), parts)
