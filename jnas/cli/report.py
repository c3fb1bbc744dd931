"""``jnas report``: one HTML file of runs, and their pictures as files."""

import dataclasses
from pathlib import Path

__all__ = ["Report", "run"]


@dataclasses.dataclass(frozen=True)
class Report:
    """Write an HTML report of one run, or of several side by side.

    A run is a folder that jnas search or jnas retrain wrote, complete or not. Runs that
    differ in their seeds only are summed up by mean and spread.
    """

    runs: tuple[Path, ...]
    """Folders of runs."""
    output: Path | None = None
    """The HTML file (default: report.html in the first run's folder)."""
    figures: Path | None = None
    """Folder for every picture as .png and .svg, and the cells as Graphviz .dot."""


def run(args: Report) -> None:
    """Runs the command."""
    from jnas import report
    from jnas.errors import JnasError

    if not args.runs:
        raise JnasError("no run is given: name the folder that a search wrote")
    output = args.output or args.runs[0] / "report.html"
    report.write_html(args.runs, output)
    print(f"wrote {output}")
    if args.figures is not None:
        written = report.write_figures(args.runs, args.figures)
        print(f"wrote {len(written)} files to {args.figures}")
