"""``jnas export``: a found network as a Python module that needs only Flax."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import tyro

from jnas.cli import shared
from jnas.errors import JnasError, unknown_name

__all__ = ["Export", "run"]

_STYLES = ("linen", "nnx")
_FORMS = (*_STYLES, "json", "text", "dot")
_SIZES = ("channels", "cells", "cells_per_stage", "num_classes", "stem", "colours")
_TEXT_SIZES = ("vocab_size", "width")
# The network that a search's folder retrains.
_FOUND = ("retrain/found/seed*/config.json", "seed*/config.json")


@dataclasses.dataclass(frozen=True)
class Export:
    """Write a found network as a small Python module, and its trained weights.

    The module needs nothing but Flax. The source may be the folder of a search or of
    one training, or a file of jnas retrain --export: then the network has the sizes it
    had there, and trained weights are written beside the module.
    """

    source: str
    """The folder of a search or of a seed of a retraining, an exported network, a
    genotype (a published name, its text or JSON) or a file that holds one."""
    form: Annotated[str, tyro.conf.arg(name="as")] = "linen"
    """linen or nnx: a Python module; json, text or dot: the genotype alone."""
    output: Path | None = None
    """Where to write it (default: print it)."""
    weights: Path | None = None
    """Trained weights to export: the folder of a seed of a retraining, or an exported
    network (default: those of the source, if it has any)."""
    weights_output: Path | None = None
    """Where to write the weights (default: the output with the suffix .npz)."""
    channels: int | None = None
    """Channels of the first stage (default: of the run, else 36, or 16 for
    NAS-Bench-201)."""
    cells: int | None = None
    """Cells (DARTS-like; default: of the run, else 20)."""
    cells_per_stage: int | None = None
    """Cells in each of three stages (NAS-Bench-201; default: of the run, else 5)."""
    num_classes: int | None = None
    """Classes (default: of the run, else 10)."""
    colours: int | None = None
    """Channels of the images, for nnx (default: of the weights, else 3)."""
    stem: str | None = None
    """cifar or imagenet (DARTS-like; default: of the run, else cifar)."""
    auxiliary: bool = False
    """Write the auxiliary head, too (DARTS-like)."""
    drop_path: bool = False
    """Make the module able to drop paths in training."""
    vocab_size: int | None = None
    """Size of the vocabulary (recurrent; default: of the run)."""
    width: int | None = None
    """Width (recurrent; default: of the run, else 850)."""
    force: bool = False
    """Overwrite existing files."""


class _Source(NamedTuple):
    """What is exported: the genotype, the sizes of a run, and trained weights."""

    genotype: Any
    sizes: dict[str, Any]
    exported: Any = None


def run(args: Export) -> None:
    """Runs the command."""
    if args.form not in _FORMS:
        raise unknown_name("form", args.form, _FORMS)
    source = _find(args)
    if args.form in _STYLES:
        text = _module(args, source)
    elif args.weights is not None or args.weights_output is not None:
        raise JnasError(f"--as {args.form} has no weights: use --as linen or nnx")
    else:
        text = _genotype_text(args.form, source.genotype)
    files = {} if args.output is None else {args.output: "--output"}
    arrays = _arrays(args, source)
    if arrays is not None:
        files[arrays] = "--weights-output"
    for read in (args.source, args.weights):
        if read is not None and arrays is not None and _same(Path(read), arrays):
            raise JnasError(
                f"{arrays} holds the weights that are exported: name another "
                "--weights-output"
            )
    for path, option in files.items():
        if path.exists() and not args.force:
            raise JnasError(
                f"{path} exists: add --force to overwrite it, or name another {option}"
            )
    if args.output is None:
        print(text, end="")
    else:
        _write(args.output, text)
    if arrays is not None:
        from jnas.networks.export_weights import export_variables, write_arrays

        variables = export_variables(
            source.genotype,
            *source.exported.variables,
            style=args.form,
            auxiliary=args.auxiliary,
        )
        arrays.parent.mkdir(parents=True, exist_ok=True)
        write_arrays(arrays, variables)
        if args.output is not None:
            shared.console().print(f"wrote {arrays}", highlight=False, soft_wrap=True)


def _find(args: Export) -> _Source:
    """What the arguments mean."""
    path = Path(args.source)
    found = None
    if len(args.source) < 1000 and path.is_dir():
        found = _folder(path)
    elif path.suffix in (".npz", ".safetensors"):
        found = _trained(path)
    if found is None:
        text = args.source
        if len(text) < 1000 and path.suffix and path.is_file():
            text = _read(path)
        elif "/" in text and not set(text) & set("|({"):
            raise JnasError(f"there is no file or folder {text}")
        from jnas.spaces import Genotype

        found = _Source(Genotype.parse(text), {})
    if args.weights is None:
        return found
    place = args.weights
    trained = _folder(place) if place.is_dir() else _trained(place)
    if trained.exported is None:
        raise JnasError(
            f"{args.weights} holds no trained weights: name the folder of a seed of a "
            "retraining, or an exported network"
        )
    if trained.genotype != found.genotype:
        raise JnasError(
            f"the weights in {args.weights} are of another genotype than "
            f"{args.source}: leave the latter out, and name the weights alone"
        )
    return trained


def _folder(path: Path) -> _Source:
    """A search, a training, or an exported network."""
    if (path / "metadata.json").exists():
        return _trained(path)
    if (path / "weights.npz").exists():
        return _trained(path / "weights.npz")
    if not (path / "genotype.json").is_file():
        raise JnasError(
            f"{path} has no genotype.json: give the folder of a finished search, of a "
            "seed of a retraining, or an exported network"
        )
    from jnas.spaces import Genotype

    genotype = Genotype.parse(_read(path / "genotype.json"))
    files = [file for pattern in _FOUND for file in sorted(path.glob(pattern))]
    if files:
        if (files[0].parent / "weights.npz").exists():
            # Not on the output, which may be the module.
            print(
                f"jnas: without weights; to export trained ones name {files[0].parent}",
                file=sys.stderr,
            )
        return _Source(genotype, _sizes(files[0], "network"))
    if (path / "search" / "config.json").is_file():
        return _Source(genotype, _sizes(path / "search" / "config.json", "search"))
    return _Source(genotype, {})


def _trained(path: Path) -> _Source:
    from jnas import run as runs

    exported = runs.load_weights(path)
    network, inputs = exported.network, exported.metadata["inputs"]
    if network.config.get("model") == "vanilla":
        raise JnasError(f"{path} holds a plain tanh network, which is not exported")
    sizes = dict(network.config)
    if inputs is not None:
        sizes["colours"] = inputs[2]
    return _Source(network.genotype, sizes, exported)


def _sizes(path: Path, key: str) -> dict[str, Any]:
    """The description of a network in the configuration of a run."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["config"][key]
        found = found["supernet"] if key == "search" else found
        return {name: found[name] for name in (*_SIZES, *_TEXT_SIZES) if name in found}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise JnasError(
            f"{path} is no configuration of a run: give the run's genotype.json as the "
            "source, and the sizes by --channels ..."
        ) from error


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise JnasError(f"{path} is not a genotype's text or JSON") from error


def _module(args: Export, source: _Source) -> str:
    """The Python module."""
    from jnas.networks import Dropouts
    from jnas.networks.export import export_module

    recurrent = source.genotype.names == ("recurrent",)
    stages = len(source.genotype.cells) == 1
    names, foreign = (_SIZES, _TEXT_SIZES) if not recurrent else (_TEXT_SIZES, _SIZES)
    for name in foreign:
        if getattr(args, name) is not None:
            raise JnasError(
                f"--{name.replace('_', '-')} is for "
                f"{'convolutional' if recurrent else 'recurrent'} cells only"
            )
    given = {n: getattr(args, n) for n in names if getattr(args, n) is not None}
    if source.exported is not None:
        for name, value in given.items():
            if value != source.sizes.get(name):
                raise JnasError(
                    f"--{name.replace('_', '-')} is {source.sizes.get(name)} in the "
                    f"trained network, got {value}: leave it out"
                )
        if args.auxiliary and not source.sizes.get("auxiliary"):
            raise JnasError("--auxiliary: the trained network has no auxiliary head")
    default = {"channels": 16} if stages and not recurrent else {}
    kept = {n: source.sizes[n] for n in names if source.sizes.get(n) is not None}
    options: dict[str, Any] = {**default, **kept, **given, "notes": _notes(source)}
    if recurrent:
        if args.auxiliary or args.drop_path:
            raise JnasError("--auxiliary and --drop-path are for convolutional cells")
        if "vocab_size" not in options:
            raise JnasError("a recurrent cell needs --vocab-size")
        if source.exported is not None:
            options["dropouts"] = Dropouts(**source.sizes["dropouts"])
    else:
        options |= {"auxiliary": args.auxiliary, "drop_path": args.drop_path}
    return export_module(source.genotype, style=args.form, **options)


def _notes(source: _Source) -> list[str]:
    """What users of trained weights must know of the data."""
    if source.exported is None:
        return []
    data = source.exported.metadata["data"] or {}
    notes = []
    if data.get("name"):
        notes.append(f"Trained on {json.dumps(data['name'])}.")
    if data.get("mean") and data.get("std"):
        notes.append(
            f"Images: pixels / 255, minus {data['mean']}, divided by {data['std']}."
        )
    if data.get("class_names"):
        notes.append(f"Classes: {json.dumps(data['class_names'])}.")
    if source.sizes.get("dtype") not in (None, "float32"):
        notes.append(f"Trained in {source.sizes['dtype']}; this is float32.")
    return notes


def _genotype_text(form: str, genotype: Any) -> str:
    if form == "json":
        return genotype.to_json() + "\n"
    if form == "text":
        return genotype.to_text() + "\n"
    from jnas import report

    return "".join(report.to_dot(genotype, name) for name in genotype.names)


def _arrays(args: Export, source: _Source) -> Path | None:
    """Where weights are written, or None."""
    if args.form not in _STYLES:
        return None
    if args.weights_output is not None:
        if source.exported is None:
            raise JnasError("--weights-output: there are no weights, give --weights")
        if args.weights_output.suffix != ".npz":
            raise JnasError(
                f"weights are written to an .npz file, got {args.weights_output}"
            )
        return args.weights_output
    if source.exported is None or args.output is None:
        return None
    return args.output.with_suffix(".npz")


def _same(one: Path, other: Path) -> bool:
    """Whether two paths are of one file; no long text of a genotype is a path."""
    return len(str(one)) < 1000 and one.resolve() == other.resolve()


def _write(path: Path, text: str) -> None:
    from jnas.run.metrics import write_atomically

    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text)
    shared.console().print(f"wrote {path}", highlight=False, soft_wrap=True)
