"""Reading and writing ``Genotype(...)``, the call that DARTS' code prints.

The text is parsed, never evaluated.
"""

import ast
import re
import warnings

from jnas import errors
from jnas.spaces import cells

__all__ = ["arguments", "pairs", "states", "triples", "written_states"]

# No operator, dot or backslash: with these characters nothing but names, calls,
# lists, tuples, strings and numbers can be written.
_CHARACTERS = re.compile(r"[A-Za-z0-9_\s'\"(),\[\]=]*")


def arguments(text: str, fields: tuple[str, ...], example: str) -> dict[str, ast.expr]:
    """Returns the arguments of ``Genotype(...)`` as syntax trees.

    Args:
      text: what was given.
      fields: names of the arguments, all of which are needed.
      example: how it should look, for the message.

    Returns:
      ``{field: expression}``.

    Raises:
      JnasError: if it is no such call.

    Example:
      >>> sorted(arguments("Genotype(a=1, b=[])", ("a", "b"), "Genotype(a=..., b=...)"))
      ['a', 'b']
    """
    stray = _CHARACTERS.sub("", text)
    if stray:
        raise errors.JnasError(
            f"Genotype(...) can't hold the character {stray[0]!r}: expected lists of "
            "('operation', source) and range(first, last)"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of doubtful literals, refused below
            call = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = getattr(error, "msg", None) or type(error).__name__
        raise errors.JnasError(
            f"can't read {cells.shown(text)}: {reason}: expected {example}"
        ) from None
    if not (
        isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id == "Genotype"
        and not call.args
        and sorted(keyword.arg or "" for keyword in call.keywords) == sorted(fields)
    ):
        raise errors.JnasError(
            f"can't read {cells.shown(text)}: expected one Genotype(...) with "
            f"{', '.join(fields)}"
        )
    return {str(keyword.arg): keyword.value for keyword in call.keywords}


def _integer(node: ast.expr, what: str) -> int:
    value = node.value if isinstance(node, ast.Constant) else None
    if type(value) is not int:
        raise errors.JnasError(f"{what}: expected a state number, got {_source(node)}")
    return cells.state(value, what)


def states(node: ast.expr, what: str) -> tuple[int, ...]:
    """Reads ``range(first, last)`` or a list of states.

    Args:
      node: the expression.
      what: what it is, for messages.

    Returns:
      The states.

    Raises:
      JnasError: if it is anything else.

    Example:
      >>> states(ast.parse("range(2, 4)", mode="eval").body, "concat")
      (2, 3)
    """
    if isinstance(node, (ast.List, ast.Tuple)):
        return tuple(_integer(item, what) for item in node.elts)
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "range"
        and not node.keywords
        and 1 <= len(node.args) <= 2
    ):
        return tuple(range(*(_integer(item, what) for item in node.args)))
    raise errors.JnasError(
        f"{what}: expected range(first, last) or a list of states, got {_source(node)}"
    )


def pairs(node: ast.expr, what: str) -> list[tuple[str, int]]:
    """Reads a list of ``('operation', source)``.

    Args:
      node: the expression.
      what: what it is, for messages.

    Returns:
      The pairs.

    Raises:
      JnasError: if it is anything else.

    Example:
      >>> pairs(ast.parse("[('tanh', 0)]", mode="eval").body, "recurrent")
      [('tanh', 0)]
    """
    return [(name, source) for name, (source,) in _entries(node, what, 1)]


def triples(node: ast.expr, what: str) -> list[tuple[str, int, int]] | None:
    """Reads a list of ``('operation', target, source)``.

    Args:
      node: the expression.
      what: what it is, for messages.

    Returns:
      The triples, or None if the first entry is not one.

    Raises:
      JnasError: if it is, but another one isn't.

    Example:
      >>> triples(ast.parse("[('skip_connect', 2, 0)]", mode="eval").body, "normal")
      [('skip_connect', 2, 0)]
    """
    items = node.elts if isinstance(node, (ast.List, ast.Tuple)) else []
    if not items or not isinstance(items[0], (ast.List, ast.Tuple)):
        return None
    if len(items[0].elts) != 3:
        return None
    entries = _entries(node, what, 2)
    return [(name, target, source) for name, (target, source) in entries]


def _entries(
    node: ast.expr, what: str, numbers: int
) -> list[tuple[str, tuple[int, ...]]]:
    """Reads a list of tuples of a name and so many states."""
    if not isinstance(node, (ast.List, ast.Tuple)):
        raise errors.JnasError(f"{what}: expected a list, got {_source(node)}")
    expected = (
        "('operation', source)" if numbers == 1 else "('operation', node, source)"
    )
    result = []
    for i, item in enumerate(node.elts):
        parts = item.elts if isinstance(item, (ast.List, ast.Tuple)) else []
        name = parts[0].value if parts and isinstance(parts[0], ast.Constant) else None
        if len(parts) != 1 + numbers or not isinstance(name, str):
            raise errors.JnasError(
                f"{what}[{i}]: expected {expected}, got {_source(item)}"
            )
        states = tuple(_integer(part, f"{what}[{i}]") for part in parts[1:])
        result.append((name, states))
    return result


def written_states(concat: tuple[int, ...]) -> str:
    """Writes states as a range where they are one, else as a list.

    Args:
      concat: at least one state.

    Returns:
      The text that `states` reads.

    Example:
      >>> written_states((1, 2, 3)), written_states((2, 5))
      ('range(1, 4)', '[2, 5]')
    """
    first, last = concat[0], concat[-1] + 1
    contiguous = concat == tuple(range(first, last))
    return f"range({first}, {last})" if contiguous else str(list(concat))


def _source(node: ast.expr) -> str:
    """Returns what was written, shortened; for messages."""
    try:
        return cells.shown(ast.unparse(node))
    except (RecursionError, ValueError):
        return "a deeply nested expression"
