"""Reading the arguments: what tyro says of bad ones, in one line."""

import contextlib
import io
import re
from typing import Any

from jnas.errors import JnasError

__all__ = ["one_line", "parse"]


def parse(commands: Any, argv: list[str]) -> Any:
    """Reads the arguments of a command.

    Args:
      commands: the type of the arguments, for tyro.
      argv: the words.

    Returns:
      An instance of it.

    Raises:
      JnasError: they can't be read.
      SystemExit: after help was printed.
    """
    import tyro

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(
                commands,
                prog="jnas",
                description="Differentiable neural architecture search in JAX.",
                args=argv,
                config=(tyro.conf.OmitArgPrefixes, tyro.conf.PositionalRequiredArgs),
            )
    except SystemExit as end:
        if not end.code:
            raise
        raise JnasError(one_line(said.getvalue(), argv)) from None


def one_line(said: str, argv: list[str]) -> str:
    r"""The gist of an error that was drawn in a box.

    Args:
      said: the box.
      argv: the words that were read.

    Returns:
      The first paragraph, the options that are meant, and where help is.

    Example:
      >>> one_line("╭─ Oops ─╮\n│ Bad: --epoch │\n│ ──── │\n│ --epochs INT │\n╰──╯",
      ...          ["search", "--epoch"])
      "Bad: --epoch; did you mean --epochs? (see 'jnas search --help')"
    """
    lines = [line.strip("│ ") for line in said.splitlines()]
    lines = [line for line in lines if line and line[0] not in "╭╰"]
    rules = [i for i, line in enumerate(lines) if not line.strip("─-")]
    if "╭" not in said and rules[:1] == [1]:  # no frame, but a ruled title
        lines, rules = lines[2:], [i - 2 for i in rules[1:]]
    first = rules[0] if rules else len(lines)
    text = " ".join(" ".join(lines[:first]).split()).rstrip(".")
    meant = [m[0] for line in lines[first:] if (m := re.match(r"--[\w-]+(?= )", line))]
    meant = list(dict.fromkeys(meant))[:3]
    # With a value that can't be read the option itself is the only one named.
    if meant and not {*meant} & {*re.findall(r"--[\w-]+", text)}:
        text += f"; did you mean {' or '.join(meant)}?"
    elif not meant and first < len(lines):
        rest = " ".join(s for s in lines[first:] if s.strip("─-"))
        more = re.search(r"Available subcommands: [a-z, ]+?(?= For |$)", rest)
        more = more[0] if more else ""
        text += f"; {more}" if more else ""
    command = f" {argv[0]}" if argv and re.fullmatch(r"[a-z]+", argv[0]) else ""
    command = "" if "Available" in text else command
    return f"{text} (see 'jnas{command} --help')"
