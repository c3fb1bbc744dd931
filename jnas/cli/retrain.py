"""``jnas retrain``: the network of one genotype, from scratch."""

import contextlib
import dataclasses
import statistics
from pathlib import Path
from typing import Any, Literal

from jnas.cli import config, shared
from jnas.errors import JnasError

__all__ = ["Retrain", "run"]

# What stands in for a recipe: a small network and a short training.
_SMALL = {"epochs": 30, "batch_size": 64, "channels": 8, "width": 64, "bptt": 35}
_FIELDS = (
    *("epochs", "batch_size", "channels", "cells", "cells_per_stage", "width", "bptt"),
    *("dtype", "learning_rate", "weight_decay", "drop_path"),
    *("label_smoothing", "mixup"),
)
_OF_TEXT, _OF_IMAGES = ("width", "bptt"), ("channels", "cells", "cells_per_stage")


@dataclasses.dataclass(frozen=True)
class Retrain:
    """Train the network of one genotype from scratch and test it.

    Without --recipe: a small network and a short training, by the papers' optimizer.
    The same command again goes on where it stopped (with --workdir).
    """

    genotype: str
    """A published name (DARTS_V2), its text, JSON, a file that holds one, or the folder
    of a search."""
    data: str = "digits"
    """On what: a name (see: jnas list), an .npz file with images and labels, a folder
    of images, or a text file (.txt, .txt.gz; words:FILE reads it by word)."""
    data_dir: Path | None = None
    """Folder of the data files; by default $JNAS_DATA and the usual places."""
    image_size: int | None = None
    """Side that images of folders and other encoded images are resized to."""
    stream: bool = False
    """Read images batch by batch, for sets larger than the device's memory (needs
    Grain: pip install jnas[grain])."""
    recipe: str | None = None
    """darts, darts_imagenet, nasbench201, nasbench201_12, nasbench301, darts_rnn,
    quick, or a .json file of a recipe; the options below change parts of it."""
    epochs: int | None = None
    """Length of each training (without a recipe: 30)."""
    batch_size: int | None = None
    """Images per step (without a recipe: 64)."""
    channels: int | None = None
    """Channels of the first stage (without a recipe: 8)."""
    cells: int | None = None
    """Cells of DARTS-like genotypes (without a recipe: 8)."""
    cells_per_stage: int | None = None
    """Cells in each of three stages (NAS-Bench-201; without a recipe: 1)."""
    width: int | None = None
    """Width of recurrent networks (without a recipe: 64)."""
    bptt: int | None = None
    """Times of a window of text (without a recipe: 35)."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """What the network computes in (default: the recipe's, which is float32 of all
    published ones); weights, statistics and losses are float32 in any case."""
    learning_rate: float | None = None
    """At the start."""
    weight_decay: float | None = None
    """Coupled L2."""
    drop_path: float | None = None
    """Rate towards the end; it grows from 0."""
    label_smoothing: float | None = None
    """Share of the label that is spread over all classes."""
    mixup: float | None = None
    """Parameter of the Beta distribution by which images are blended; 0 for none."""
    cutout: int | None = None
    """Side of the square that is cut out of training images; 0 for none."""
    auxiliary: bool = False
    """Train with the auxiliary head (DARTS-like genotypes, images from 32x32); the
    recipes that have one need not be told."""
    without_auxiliary: bool = False
    """Train without the auxiliary head of the recipe, e.g. on smaller images."""
    seeds: int | None = None
    """How many trainings (default 3; with --protocol 1 in each setting)."""
    protocol: bool = False
    """Retrain under nine settings, 3 learning rates times 3 weight decays around those
    of the recipe, and tell the mean over all of them."""
    export: Path | None = None
    """Write the trained network to this .npz or .safetensors file, or to an Orbax
    folder (no suffix); of several seeds each, NAME-seedN."""
    on_nan: Literal["stop", "skip", "rollback"] = "stop"
    """When a loss is not finite: stop and say so, leave such steps out, or go back to
    the last checkpoint and on with the data in another order."""
    workdir: Path | None = None
    """Where checkpoints and metrics are written (default: nowhere)."""
    config: Path | None = None
    """Start from the options of a configuration file, such as the config.json of a run;
    options given here go before them."""


def run(args: Retrain) -> None:
    """Runs the command."""
    from jnas import run as runs
    from jnas.run.metrics import write_atomically
    from jnas.run.retraining import export_path
    from jnas.run.workdir import claim

    seeds = args.seeds if args.seeds is not None else 1 if args.protocol else 3
    for name in ("epochs", "batch_size", "channels", "cells", "width", "bptt"):
        if getattr(args, name) is not None:
            shared.positive(args, name)
    if seeds < 1:
        raise JnasError(f"--seeds must be at least 1, got {seeds}")
    if args.auxiliary and args.without_auxiliary:
        raise JnasError("--auxiliary and --without-auxiliary exclude each other")
    if args.protocol and args.export is not None:
        raise JnasError(
            "--export writes one network, not those of --protocol: with --workdir each "
            "of these leaves its weights.npz"
        )
    _check_data(args)
    genotype = _genotype(args.genotype)
    data = shared.load(args)
    recipe = _recipe(args, genotype, data)
    console = shared.console()
    options: dict[str, Any] = {"seeds": range(seeds), "workdir": args.workdir}
    options |= {"on_nan": args.on_nan, "stream": args.stream}
    with contextlib.ExitStack() as stack:
        if args.workdir is not None:
            stack.enter_context(claim(args.workdir))
            # From the start, so that it can be told what a killed run was.
            if not (args.workdir / "config.json").exists():
                text = config.text("retrain", args)
                write_atomically(args.workdir / "config.json", text)
        if args.protocol:
            result = runs.retrain_protocol(genotype, data, recipe, **options)
            _settings(console, result)
        else:
            row = runs.retrain(genotype, data, recipe, export=args.export, **options)
            shared.table(console, {"given": row})
        if args.workdir is not None:
            # The trainings accepted these options for this folder.
            text = config.text("retrain", args)
            write_atomically(args.workdir / "config.json", text)
            write_atomically(args.workdir / "genotype.json", genotype.to_json() + "\n")
    if args.workdir is not None:
        console.print(f"see {args.workdir}/", highlight=False, soft_wrap=True)
    if args.export is not None:
        every = range(seeds)
        paths = ", ".join(str(export_path(args.export, s, every)) for s in every)
        console.print(f"exported to {paths}", highlight=False, soft_wrap=True)


def _check_data(args: Retrain) -> None:
    """Refuses to train on the default data what was searched on other data."""
    from jnas.cli.search import Search

    file = Path(args.genotype) / "config.json" if len(args.genotype) < 1000 else None
    if args.data != "digits" or file is None or not file.is_file():
        return
    try:
        searched = config.read(file, "search", Search).data
    except JnasError:  # not a folder of the command
        return
    if searched != args.data:
        raise JnasError(
            f"the search in {args.genotype} used {searched}: give --data {searched}, "
            f"or its genotype.json instead of the folder for {args.data}"
        )


def _genotype(text: str) -> Any:
    """What an argument means: a folder, a file, or the genotype itself."""
    from jnas.spaces import Genotype

    path = Path(text)
    if len(text) < 1000 and path.is_dir():
        path = path / "genotype.json"
        if not path.is_file():
            raise JnasError(
                f"{text} has no genotype.json: give the folder of a finished search"
            )
    if len(text) < 1000 and path.suffix and path.is_file():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise JnasError(f"{path} is not a genotype's text or JSON") from error
    return Genotype.parse(text)


def _recipe(args: Retrain, genotype: Any, data: Any) -> Any:
    """The recipe with the options of the command."""
    from jnas.networks import recipes
    from jnas.run.retraining import choose_recipe

    given = {n: getattr(args, n) for n in _FIELDS if getattr(args, n) is not None}
    recurrent = genotype.names == ("recurrent",)
    for name in _OF_IMAGES if recurrent else _OF_TEXT:
        if name in given:
            raise JnasError(
                f"--{name.replace('_', '-')} is for "
                f"{'convolutional' if recurrent else 'recurrent'} cells only"
            )
    if args.auxiliary or args.without_auxiliary:
        given["auxiliary"] = args.auxiliary
    base: Any = None
    if args.recipe is not None:
        base = args.recipe
        if Path(base).suffix == ".json":
            base = recipes.from_json(_read(Path(base)))
        elif base not in recipes.names():
            base = recipes.get(base)  # it says what there is
    else:
        foreign = _OF_IMAGES if recurrent else _OF_TEXT
        small: dict[str, Any] = {n: v for n, v in _SMALL.items() if n not in foreign}
        if not recurrent:
            small |= shared.size(not genotype.is_darts_like, args)
        given = {**small, **given}
    recipe = choose_recipe(genotype, base, **given)
    if args.cutout is not None:
        usual = recipe.augment or data.augment
        recipe = recipe.replace(augment=dataclasses.replace(usual, cutout=args.cutout))
    return recipe


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise JnasError(f"there is no recipe file {path}") from error
    except UnicodeDecodeError as error:
        raise JnasError(f"{path} is not a recipe's JSON") from error


def _settings(console: Any, result: Any) -> None:
    """Prints what the protocol gave."""
    from rich.table import Table

    count = sum(len(row.accuracies) for row in result.results)
    title = f"retrained under {len(result.settings)} settings, test split, {count} "
    table = Table(title=title + "trainings in all", title_justify="left")
    table.add_column("setting", overflow="fold")
    for column in ("test accuracy", "lowest", "highest", "seconds"):
        table.add_column(column, justify="right", no_wrap=True)
    for changes, row in zip(result.settings, result.results, strict=True):
        table.add_row(
            ", ".join(f"{name}={value}" for name, value in changes.items()),
            f"{statistics.fmean(row.accuracies):.2%}",
            f"{min(row.accuracies):.2%}",
            f"{max(row.accuracies):.2%}",
            f"{sum(row.seconds):.0f}",
        )
    console.print(table)
    spread = f" ± {result.deviation:.2%} (standard deviation)" if count > 1 else ""
    console.print(
        f"mean of all trainings {result.mean:.2%}{spread}, from {result.lowest:.2%} to "
        f"{result.highest:.2%}; to pick the best setting here is to pick on the test "
        "split",
        highlight=False,
        soft_wrap=True,
    )
