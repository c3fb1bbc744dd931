"""The command line: one module for each command, all of them light to import.

Heavy imports happen inside the commands, so that ``--help`` is quick.
"""

import importlib
import os
import sys
from typing import Annotated, Any, Union, cast

from jnas.errors import JnasError

__all__ = ["entry", "main"]

# The module of each command and the name of its class of arguments there.
_COMMANDS = {
    "search": ("search", "Search"),
    "retrain": ("retrain", "Retrain"),
    "evaluate": ("evaluate", "Evaluate"),
    "report": ("report", "Report"),
    "export": ("export", "Export"),
    "prepare": ("prepare", "Prepare"),
    "tables": ("tables", "Tables"),
    "list": ("listing", "List"),
}
# These compile nothing.
_LIGHT = ("list", "report", "prepare", "tables")

# XLA:CPU allocates its temporaries anew at each step; without these settings of glibc's
# allocator the pages are returned to and fetched from the system every time, which can
# double the time of memory-bound parts. They are read at start-up only.
_ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "8589934592",
    "MALLOC_TOP_PAD_": "268435456",
}


def main(argv: list[str] | None = None) -> int:
    """Runs the command line.

    Args:
      argv: the arguments, by default those of the process.

    Returns:
      The exit status: 0, 2 for an error of the user's, 128 + signal when stopped.

    Example:
      >>> main(["list"])  # doctest: +ELLIPSIS
      methods...
      0
    """
    try:
        return _run(sys.argv[1:] if argv is None else list(argv))
    except JnasError as error:
        message = " ".join(str(error).split())
        print(f"jnas: {message}", file=sys.stderr)
        signum = getattr(error, "signum", None)
        return 2 if signum is None else 128 + signum
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        print(f"jnas: can't use{where}: {error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _run(argv: list[str]) -> int:
    import tyro

    from jnas.cli import config, parsing, shared

    commands: list[Any] = []
    # Of types that are known at run time only, which checkers of types don't expect.
    annotated = cast(Any, Annotated)
    runs = {}
    for name, (place, kind) in _COMMANDS.items():
        module = importlib.import_module(f"jnas.cli.{place}")
        arguments = getattr(module, kind)
        runs[arguments] = name, module.run
        subcommand: Any = tyro.conf.subcommand(name)
        takes = hasattr(arguments, "config") and config.option(argv) is not None
        if argv[:1] == [name] and takes:
            argv, given = config.take(argv, name, arguments)
            subcommand = tyro.conf.subcommand(name, default=given)
        commands.append(annotated[arguments, subcommand])
    command = parsing.parse(cast(Any, Union)[tuple(commands)], argv)
    name, run = runs[type(command)]
    if name not in _LIGHT:
        shared.use_cache()
    run(command)
    return 0


def entry() -> None:
    """The program ``jnas``: sets the allocator on Linux, then runs `main`."""
    if sys.platform == "linux" and not any(name in os.environ for name in _ALLOCATOR):
        env = {**os.environ, **_ALLOCATOR}
        os.execve(sys.executable, [sys.executable, "-m", "jnas", *sys.argv[1:]], env)
    sys.exit(main())
