"""Configuration files: every run writes one, and ``--config FILE`` starts from one.

``{"format": 1, "jnas": "0.1.0", "command": "search", "arguments": {...}}``, with the
versions and the device under "environment"; options on the command line go before the
file's. The file is data: JSON, with the names and types of the command's own options.
"""

import dataclasses
import difflib
import json
import math
import types
import typing
from pathlib import Path
from typing import Any

from jnas.cli import shared
from jnas.errors import JnasError

__all__ = ["option", "read", "take", "text"]

FORMAT = 1
_OPTION = "--config"
_KEYS = ("format", "jnas", "command", "arguments", "environment")
# The place of a run is not part of what it is.
_PLACES = ("config", "workdir")
_MOST = 1_000_000  # bytes


def option(argv: list[str]) -> int | None:
    """The position of ``--config`` among the arguments, or None.

    Example:
      >>> option(["search", "--config", "run.json"])
      1
    """
    for position, word in enumerate(argv):
        if word == "--":
            return None
        if word == _OPTION or word.startswith(_OPTION + "="):
            return position
    return None


def take(argv: list[str], command: str, kind: type) -> tuple[list[str], Any]:
    """Reads the file that ``--config`` names.

    Args:
      argv: the arguments, with the option.
      command: the name of the command.
      kind: its class of arguments.

    Returns:
      The arguments without the option, and the file's arguments.

    Raises:
      JnasError: there is no file name, or the file is not for this command.
    """
    place = option(argv)
    if place is None:
        return argv, None
    rest = argv[:place] + argv[place + 1 :]
    name = argv[place].removeprefix(_OPTION).removeprefix("=")
    if not name:
        if place == len(rest) or rest[place].startswith("-"):
            raise JnasError(f"{_OPTION} needs the name of a file")
        name = rest.pop(place)
    if option(rest) is not None:
        raise JnasError(f"{_OPTION} can be given once only")
    return rest, read(Path(name), command, kind)


def text(command: str, arguments: Any) -> str:
    """What is written of a run.

    Args:
      command: the name of the command.
      arguments: a dataclass.

    Returns:
      JSON.

    Example:
      >>> from jnas.cli.listing import List
      >>> '"command": "list"' in text("list", List())
      True
    """
    import jnas
    from jnas.run.environment import environment

    values = shared.plain(arguments)
    for name in _PLACES:
        values.pop(name, None)
    whole = {
        "format": FORMAT,
        "jnas": jnas.__version__,
        "command": command,
        "arguments": values,
        "environment": environment(),
    }
    return json.dumps(whole, indent=2, allow_nan=False) + "\n"


def read(path: Path, command: str, kind: type) -> Any:
    """Reads a configuration file.

    Args:
      path: the file, or a run's folder that has a ``config.json``.
      command: for which it must be.
      kind: the dataclass of that command's arguments.

    Returns:
      An instance of it; what the file does not tell has its default.

    Raises:
      JnasError: the file can't be read, is for another command or of a newer version,
        or has a field that is unknown or of the wrong type.

    Example:
      >>> import tempfile
      >>> from jnas.cli.search import Search
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = Path(folder, "run.json")
      ...     _ = path.write_text(text("search", Search(epochs=7)))
      ...     read(path, "search", Search).epochs
      7
    """
    if path.is_dir():
        path = path / "config.json"
    whole = _load(path)
    told = whole.get("format")
    if isinstance(told, int) and not isinstance(told, bool) and told > FORMAT:
        raise JnasError(
            f"{path} has format {told}, written by jnas {whole.get('jnas', '?')}; this "
            f"jnas reads up to {FORMAT}: install a newer one"
        )
    if told != FORMAT or not isinstance(whole.get("arguments"), dict):
        raise JnasError(
            f"{path} is no configuration of a command: expected an object with "
            f'"format": {FORMAT}, "command" and "arguments", as a run\'s config.json'
        )
    _check_names(path, "field", whole, _KEYS)
    if whole.get("command") != command:
        raise JnasError(
            f"{path} is for 'jnas {whole.get('command')}', not for 'jnas {command}'"
        )
    given = whole["arguments"]
    fields = {f.name: f for f in dataclasses.fields(kind) if f.name not in _PLACES}
    _check_names(path, "argument", given, fields)
    hints = typing.get_type_hints(kind)
    missing = [
        name
        for name, field in fields.items()
        if field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
        and name not in given
    ]
    if missing:
        raise JnasError(f"{path} lacks the argument {missing[0]!r}")
    return kind(**{n: _convert(path, n, v, hints[n]) for n, v in given.items()})


def _load(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MOST:
            raise JnasError(f"{path} is too large for a configuration")
        whole = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_pairs)
    except FileNotFoundError as error:
        raise JnasError(f"there is no configuration file {path}") from error
    except OSError as error:
        raise JnasError(f"can't read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:120]
        raise JnasError(f"{path} is not valid JSON ({reason})") from error
    if not isinstance(whole, dict):
        raise JnasError(f"{path} must hold a JSON object, got {type(whole).__name__}")
    return whole


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name!r} is there twice")
    return dict(pairs)


def _check_names(path: Path, what: str, given: Any, known: Any) -> None:
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f": did you mean {near[0]!r}?" if near else ""
            raise JnasError(f"{path} has an unknown {what} {name!r}{hint}")


def _convert(path: Path, name: str, value: Any, hint: Any) -> Any:
    """The value as the option's type has it; JSON knows no paths and no tuples."""
    kinds = [hint]
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        kinds = list(typing.get_args(hint))
    for kind in kinds:
        if kind is type(None) and value is None:
            return None
        if kind is Path and isinstance(value, str):
            return Path(value)
        if kind is float and type(value) in (int, float) and math.isfinite(value):
            return float(value)
        if kind in (bool, int, str) and type(value) is kind:
            return value
        if typing.get_origin(kind) is typing.Literal and value in typing.get_args(kind):
            return value
        if typing.get_origin(kind) is tuple and isinstance(value, list):
            inner = typing.get_args(kind)[0]
            return tuple(_convert(path, name, item, inner) for item in value)
    wanted = " or ".join(
        "nothing" if kind is type(None) else getattr(kind, "__name__", str(kind))
        for kind in kinds
    )
    raise JnasError(f"{path}: argument {name!r} must be {wanted}, got {value!r:.80}")
