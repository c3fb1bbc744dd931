"""``jnas evaluate``: a trained network on a split of a dataset."""

import dataclasses
from pathlib import Path

from jnas.cli import shared

__all__ = ["Evaluate", "run"]


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Test an exported or retrained network."""

    path: Path
    """A file or folder of ``jnas retrain --export``, or the folder of a seed of a
    retraining."""
    data: str = "digits"
    """On what: a name (see: jnas list), an .npz file with images and labels, a folder
    of images, or a text file."""
    data_dir: Path | None = None
    """Folder of the data files; by default $JNAS_DATA and the usual places."""
    image_size: int | None = None
    """Side that images of folders and other encoded images are resized to."""
    stream: bool = False
    """Read images batch by batch, for sets larger than the memory."""
    split: str = "test"
    """test, validation or train (retraining learns from both of the latter)."""
    predictions: Path | None = None
    """Write each image's prediction to this .csv or .npz file."""


def run(args: Evaluate) -> None:
    """Runs the command."""
    from jnas import run as runs

    data = shared.load(args)
    found = runs.evaluate(args.path, data, args.split, predictions=args.predictions)
    if "bits" in found:
        figures = (
            f"{found['bits']:.4f} bits per token, perplexity "
            f"{found['perplexity']:.2f}, accuracy {found['accuracy']:.2%} of "
            f"{found['count']:,} tokens"
        )
    else:
        figures = (
            f"accuracy {found['accuracy']:.2%} ± {found['standard_error']:.2%} of "
            f"{found['count']:,} images, loss {found['loss']:.4f}"
        )
    console = shared.console()
    console.print(
        f"{data.name}, {args.split}: {figures}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    if args.predictions is not None:
        console.print(
            f"predictions in {args.predictions}", highlight=False, soft_wrap=True
        )
