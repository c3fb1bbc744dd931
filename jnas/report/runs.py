"""What a report knows of a run: read from its folder, whoever wrote it and how far.

Three kinds of folders hold a run: that of ``jnas search`` (with ``search/`` and
``retrain/`` in it), that of `jnas.run.search`, and that of `jnas.run.retrain` (with
``seed0/``, ... in it). All may be in the making.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jnas import spaces
from jnas.errors import JnasError
from jnas.report import records, trained

__all__ = ["Run", "read", "read_all"]


class Run(NamedTuple):
    """A run, as its folder tells it.

    Attributes:
      path: the folder.
      history: the rows of the search, one an epoch.
      epochs: the planned length of the search, or None.
      seed: of the search, or None.
      seconds: of the search so far.
      genotype: what was found (so far), or None.
      genotype_text: its text, which may be there when it can't be understood.
      space: the space that was searched, or None if it is not known here.
      networks: the retrained networks.
      finished: whether nothing is left to do.
      notes: the lines that the run printed about its result.
      config: all settings by dotted name.
      environment: versions and device; empty where they were not recorded.
      problems: what of the folder could not be shown, one line each.
      strengths: by group, what removals cost where a search decided by perturbation
        (`jnas.report.strengths`), or None.

    Example:
      >>> Run._fields[:2]
      ('path', 'history')
    """

    path: Path
    history: tuple[dict[str, Any], ...]
    epochs: int | None
    seed: int | None
    seconds: float | None
    genotype: spaces.Genotype | None
    genotype_text: str | None
    space: spaces.Space | None
    networks: tuple[trained.Network, ...]
    finished: bool
    notes: tuple[str, ...]
    config: Mapping[str, Any]
    environment: Mapping[str, str]
    problems: tuple[str, ...]
    strengths: Mapping[str, Any] | None = None

    @property
    def probabilities(self) -> Mapping[str, Any] | None:
        """Those of the last row, by group, or None."""
        return self.history[-1].get("probabilities") if self.history else None

    def setting(self, *names: str) -> str | None:
        """The first of some settings that the run has, as text, or None."""
        found = (str(self.config[name]) for name in names if name in self.config)
        return next(found, None)


def read_all(
    runs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
) -> list[Run]:
    """Reads one folder or several, at least one.

    Args:
      runs: the folders; one that holds the searches of several seeds stands for these.

    Returns:
      What they hold, in order.

    Raises:
      JnasError: none is given, or one is no run's.
    """
    given = [runs] if isinstance(runs, str | os.PathLike) else list(runs)
    if not given:
        raise JnasError("no run is given: give the folder that a search wrote")
    return [read(run) for folder in given for run in _of_seeds(Path(folder))]


def read(path: str | os.PathLike[str]) -> Run:
    """Reads the folder of a run; nothing in it is changed.

    Args:
      path: a folder that `jnas search`, `jnas.run.search` or `jnas.run.retrain` writes.

    Returns:
      The run.

    Raises:
      JnasError: if it is no such folder, or a file in it is damaged.

    Example:
      >>> read("no/such/folder")
      Traceback (most recent call last):
        ...
      jnas.errors.JnasError: run folder no/such/folder does not exist: give the folder \
that a search wrote
    """
    path = Path(path)
    _check_folder(path)
    summary = records.read_object(path / "summary.json") or {}
    command = records.read_object(path / "config.json") or {}
    search, networks = _parts(path, command)
    config = command
    if search is not None and search != path:
        config = records.read_object(search / "config.json") or {}
    elif search is None and (seeds := trained.seeds(path)):
        first = next(iter(seeds.values()))
        config = records.read_object(first / "config.json") or {}
        config |= _told(records.read_object(first / "result.json"), "environment")
    history = _history(search)
    table = trained.of_summary(summary, path / "summary.json")
    merged = trained.merged(table, networks)
    problems: list[str] = []
    strengths = _strengths(search, problems)
    genotype, text = _genotype(path, summary, history, merged, problems)
    epochs, seed = (records.whole(config.get(name)) for name in ("epochs", "seed"))
    seconds = records.number(summary.get("search_seconds"))
    if seconds is None and history:
        seconds = sum(records.number(row.get("seconds")) or 0.0 for row in history)
    return Run(
        path=path,
        history=history,
        epochs=epochs if search is not None else None,
        seed=seed if search is not None else None,
        seconds=seconds,
        genotype=genotype,
        genotype_text=text,
        space=_space(search, config, genotype, history),
        networks=merged,
        finished=bool(summary) or _finished(command, history, epochs, search, merged),
        notes=_strings(summary.get("notes"), f"{path / 'summary.json'}: notes"),
        config=_settings(command, summary, config, search is not None),
        environment=_environment(summary, command, config),
        problems=tuple(problems),
        strengths=strengths,
    )


def _of_seeds(path: Path) -> list[Path]:
    """The folders of the seeds that ``seeds.json`` names and that are begun."""
    file = path / "seeds.json"
    told = records.read_object(file)
    if told is None:
        return [path]
    seeds = told.get("seeds")
    seeds = [records.whole(seed) for seed in seeds] if isinstance(seeds, list) else []
    if not seeds or None in seeds:
        raise JnasError(
            f"{file} must name its seeds by whole numbers: restore it, or give the "
            "folders of the seeds"
        )
    begun = [path / f"seed{seed}" for seed in seeds]
    return [folder for folder in begun if (folder / "config.json").exists()] or begun


def _strengths(search: Path | None, problems: list[str]) -> dict[str, Any] | None:
    """What a search that decided by perturbation measured, if it is well formed."""
    path = None if search is None else search / "regularizer.json"
    told = None if path is None else records.read_object(path)
    groups = (told or {}).get("strengths")
    if groups is None:
        return None
    try:
        for group in groups.values():
            weights, drops, chosen = (
                group[name] for name in ("magnitude", "strength", "chosen")
            )
            if not len(weights) == len(drops) == len(chosen):
                raise ValueError
            for row, other in zip(weights, drops, strict=True):
                if len(row) != len(other):
                    raise ValueError
                for x in (*row, *other):
                    if x is not None and records.number(x) is None:
                        raise ValueError
    except (AttributeError, KeyError, TypeError, ValueError):
        problems.append(f"{path}: its strengths can't be drawn: remove the file")
        return None
    return groups


def _finished(
    command: dict[str, Any],
    history: tuple[dict[str, Any], ...],
    epochs: int | None,
    search: Path | None,
    networks: tuple[trained.Network, ...],
) -> bool:
    """Whether a run without a summary has done what is known to be planned."""
    if search is None:
        arguments = command.get("arguments")
        planned = arguments.get("seeds") if isinstance(arguments, Mapping) else None
        least = records.whole(planned) or 1
        done = all(
            len(network.seeds) >= max(least, len(network.histories))
            for network in networks
        )
        return bool(networks) and done
    if "command" in command:  # it ends with a summary
        return False
    reached = history[-1]["epoch"] if history else 0
    done = all(len(network.seeds) == len(network.histories) for network in networks)
    return epochs is not None and reached >= epochs and done


def _check_folder(path: Path) -> None:
    if path.is_dir():
        return
    if path.exists():
        raise JnasError(f"{path} is a file: give the folder that a search wrote")
    raise JnasError(
        f"run folder {path} does not exist: give the folder that a search wrote"
    )


def _parts(
    path: Path, command: dict[str, Any]
) -> tuple[Path | None, list[trained.Network]]:
    """The folder of the search, or None, and the networks found in folders."""
    inside = {entry.name for entry in records.folders(path)}
    if {"search", "retrain"} & inside or (path / "summary.json").exists():
        networks = _networks(path / "retrain") or _networks(path)
        return (path / "search" if "search" in inside else None), networks
    if not (path / "metrics.jsonl").exists() and (networks := _networks(path)):
        return None, networks
    inner = command.get("config")
    inner = inner if isinstance(inner, Mapping) else {}
    if "trainer" in inner and "search" not in inner:  # one seed of a retraining
        parent = path.resolve().parent
        return None, [trained.of_folder(parent, parent.name, only=path)]
    if (path / "metrics.jsonl").exists() or inner or "command" in command:
        return path, []
    raise JnasError(
        f"{path} holds no run: give a folder that jnas search, jnas.run.search or "
        "jnas.run.retrain wrote (with search/, metrics.jsonl or seed0/ in it)"
    )


def _networks(path: Path) -> list[trained.Network]:
    """The network whose seeds are in a folder, or else those in its folders."""
    if trained.seeds(path):
        return [trained.of_folder(path, path.resolve().name)]
    return [
        trained.of_folder(folder, folder.name)
        for folder in records.folders(path)
        if trained.seeds(folder)
    ]


def _history(search: Path | None) -> tuple[dict[str, Any], ...]:
    if search is None:
        return ()
    path = search / "metrics.jsonl"
    rows = records.read_rows(path)
    shapes = None
    for row in rows:
        if row.get("probabilities") is None:
            row.pop("probabilities", None)
            continue
        what = f"{path}, epoch {row['epoch']}: probabilities"
        if not isinstance(row["probabilities"], Mapping):
            raise JnasError(f"{what} must be an object by group: remove that line")
        row["probabilities"] = {
            group: records.table(values, what)
            for group, values in row["probabilities"].items()
        }
        found = {g: (len(t), len(t[0])) for g, t in row["probabilities"].items()}
        if found != (shapes or found):
            raise JnasError(f"{what} have other shapes than before: remove that line")
        shapes = found
    return rows


def _genotype(
    path: Path,
    summary: dict[str, Any],
    history: tuple[dict[str, Any], ...],
    networks: tuple[trained.Network, ...],
    problems: list[str],
) -> tuple[spaces.Genotype | None, str | None]:
    """What was found; of a retraining alone, what was trained."""
    texts = [summary.get("genotype"), history[-1].get("genotype") if history else None]
    if not history:
        texts += [network.genotype for network in networks[:1]]
    text = next((text for text in texts if isinstance(text, str)), None)
    form = summary.get("genotype_json") or records.read_object(path / "genotype.json")
    try:
        if isinstance(form, Mapping):
            genotype = spaces.Genotype.from_json(json.dumps(form))
            return genotype, text or str(genotype)
        return (None if text is None else spaces.Genotype.parse(text)), text
    except JnasError as error:
        problems.append(f"the genotype can't be drawn: {error}")
        return None, text


def _space(
    search: Path | None,
    config: dict[str, Any],
    genotype: spaces.Genotype | None,
    history: tuple[dict[str, Any], ...],
) -> spaces.Space | None:
    """The space of the search, if it fits what is recorded."""
    if search is None:
        return None
    flat = _flat(config)
    name = flat.get("config.search.supernet.space")
    name = name if name is not None or genotype is None else genotype.space
    space = None
    try:
        if (own := records.read_object(search / "space.json")) is not None:
            space = _own_space(own)
        elif name in spaces.names():
            space = spaces.get(str(name))
    except (JnasError, KeyError, TypeError):
        return None
    last = history[-1].get("probabilities") if history else None
    if space is None or last is None:
        return space
    shapes = {
        group.name: (group.num_edges, group.num_operations) for group in space.groups
    }
    fits = shapes == {name: (len(t), len(t[0])) for name, t in last.items()}
    return space if fits else None


def _own_space(content: dict[str, Any]) -> spaces.Space:
    groups = [
        spaces.Group(
            group["name"],
            group["operations"],
            group["edges"],
            group["inputs"],
            group["concat"],
            group.get("candidates"),
        )
        for group in content["groups"]
    ]
    return spaces.Space(content["name"], tuple(groups))


def _settings(
    command: dict[str, Any],
    summary: dict[str, Any],
    config: dict[str, Any],
    searched: bool,
) -> dict[str, Any]:
    """All settings by dotted name: arguments of the command, then of the search."""
    arguments = command.get("arguments") or summary.get("config") or {}
    arguments = dict(arguments) if isinstance(arguments, Mapping) else {}
    inner = config.get("config") or {}
    inner = dict(inner) if isinstance(inner, Mapping) else {}
    if "search" in inner:
        arguments.pop("search", None)
    if "trainer" in inner:
        inner.pop("network", None)  # the trainer has it, too
    names = ("seed", "epochs", "steps_per_epoch", "chunk")
    # of a retraining every folder has its own seed
    own = {n: config[n] for n in names[0 if searched else 1 :] if n in config}
    return _flat(arguments) | _flat(inner) | _flat(own)


def _environment(*contents: dict[str, Any]) -> dict[str, str]:
    for content in contents:
        found = content.get("environment")
        if isinstance(found, Mapping):
            return {str(name): str(value) for name, value in found.items()}
    versions = (content.get("jnas") for content in contents)
    version = next((v for v in versions if isinstance(v, str)), None)
    return {} if version is None else {"jnas": version}


def _told(content: dict[str, Any] | None, name: str) -> dict[str, Any]:
    return {name: content[name]} if content and name in content else {}


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, Mapping) or not tree:
        return {prefix: tree} if prefix else {}
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= _flat(value, f"{prefix}.{name}" if prefix else str(name))
    return flat


def _strings(values: Any, what: str) -> tuple[str, ...]:
    if values is None:
        return ()
    if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
        raise JnasError(f"{what} must be a list of texts: restore or remove the file")
    return tuple(values)
