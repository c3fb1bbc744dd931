"""The text around exported networks: header, blocks of the templates, long lines."""

import ast
import textwrap
from collections.abc import Sequence
from pathlib import Path

from jnas.spaces import Genotype

__all__ = ["blocks", "header"]

_WIDTH = 88
_TEMPLATES = Path(__file__).parent / "templates"


def header(genotype: Genotype, usage: list[str], notes: Sequence[str] = ()) -> str:
    """The docstring and the comment at the top of a module.

    Args:
      genotype: what it is the network of.
      usage: lines of code.
      notes: more lines for the comment.

    Returns:
      The text. What others wrote stands in comments, which no text of one line leaves.
    """
    import jnas

    shown = [line for text in (genotype.to_text(), *notes) for line in _wrapped(text)]
    return "\n".join(
        [
            '"""A network found by architecture search; needs nothing but Flax.',
            "",
            "To use it:",
            "",
            *(f"    {line}" for line in usage),
            '"""',
            "",
            f"# Written by jnas {jnas.__version__}, from the genotype",
            *(f"# {line}" for line in shown),
            "",
            "",
        ]
    )


def blocks(style: str, source: str, extra: tuple[str, ...] = ("load",)) -> str:
    """The imports, constants, functions and classes of a style that a source needs.

    Args:
      style: "linen" or "nnx"; its template is read, not imported.
      source: what uses them.
      extra: names that are needed besides.

    Returns:
      Their source, in the template's order.

    Example:
      >>> "class BatchNorm" in blocks("linen", "max_pool(x)")
      False
    """
    text = (_TEMPLATES / f"{style}.py").read_text(encoding="utf-8")
    lines = text.splitlines()
    tree = ast.parse(text)
    body = [node for node in tree.body if not isinstance(node, ast.Expr)]
    named = {name: node for node in body for name in _defined(node)}
    kept: set[ast.stmt] = set()
    open_names = _used(ast.parse(source)) | set(extra)
    while open_names:
        node = named.get(open_names.pop())
        if node is not None and node not in kept:
            kept.add(node)
            open_names |= _used(node)
    imports, rest = [], []
    for node in body:
        if node not in kept:
            continue
        start = node.lineno
        while lines[start - 2].startswith("#"):
            start -= 1
        code = "\n".join(lines[start - 1 : node.end_lineno])
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports.append(code)
        else:
            # One empty line before a constant, two before a function.
            rest.append("\n" * (1 if isinstance(node, ast.Assign) else 2) + code)
    return "\n".join([*imports, *rest]) + "\n\n\n"


def _wrapped(text: str) -> list[str]:
    """Lines of printable characters, for comments."""
    return textwrap.wrap(text if text.isprintable() else ascii(text), _WIDTH - 2)


def _defined(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name for alias in node.names}
    targets = node.targets if isinstance(node, ast.Assign) else []
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _used(tree: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
