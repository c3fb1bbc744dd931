"""Genotypes: discrete architectures in readable form, and their JSON.

A genotype is plain, immutable, hashable data. It knows nothing of the space's arrays;
`jnas.spaces.Space.encode` says whether (and where) it lies in a space.
"""

import dataclasses
import json
from typing import Any, NoReturn

from jnas import errors
from jnas.spaces import cells, published, text
from jnas.spaces.cells import Cell

__all__ = ["Genotype", "genotype", "genotype_names"]

_FORMAT = 1
_MAX_JSON = 1_000_000
_KEYS = {"format", "space", "cells"}
_CELL_KEYS = {"edges", "concat"}


@dataclasses.dataclass(frozen=True)
class Genotype:
    """One discrete architecture: for each cell, its edges and its output.

    Lists are accepted wherever tuples are named, and become tuples.

    Attributes:
      space: name of the space that it belongs to.
      cells: pairs (name, `Cell`), for instance of "normal" and "reduce"; "normal"
        alone stands between fixed reduction cells (`spaces.darts_frc`).

    Raises:
      JnasError: if a part is malformed, such as a source that is not before its
        target, or an operation that a published space does not know.

    Example:
      >>> g = Genotype("mine", [("cell", Cell([("skip_connect", 0, 1)], [1]))])
      >>> g["cell"].edges
      (Edge(operation='skip_connect', source=0, target=1),)
    """

    space: str
    cells: tuple[tuple[str, Cell], ...]

    def __post_init__(self):
        if (
            not isinstance(self.space, str)
            or not self.space
            or not self.space.isprintable()
        ):
            raise errors.JnasError(
                f"a genotype's space must be a name, got {cells.shown(self.space)}"
            )
        object.__setattr__(self, "cells", cells.checked(self.cells))
        # Here, not in the readers, so that whatever is written can be read back.
        text.check_operations(self.space, self.cells)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the cells."""
        return tuple(name for name, _ in self.cells)

    @property
    def is_darts_like(self) -> bool:
        """Whether it is of DARTS' network: "normal" and "reduce", or "normal" alone."""
        return set(self.names) in ({"normal", "reduce"}, {"normal"})

    def __getitem__(self, name: str) -> Cell:
        for other, cell in self.cells:
            if other == name:
                return cell
        raise errors.unknown_name("cell", name, self.names)

    def __str__(self) -> str:
        return self.to_text()

    def to_json(self) -> str:
        """Writes one line of JSON, which `from_json` reads back exactly.

        Returns:
          ``{"format": 1, "space": ..., "cells": {name: {"edges": [[operation, source,
          target], ...], "concat": [...]}}}``.

        Example:
          >>> cell = Cell((cells.Edge("a", 0, 1),), (1,))
          >>> Genotype("mine", (("cell", cell),)).to_json()
          '{"format": 1, "space": "mine", "cells": {"cell": {"edges": [["a", 0, 1]], "concat": [1]}}}'
        """  # noqa: E501
        content = {
            name: {"edges": cell.edges, "concat": cell.concat}
            for name, cell in self.cells
        }
        return json.dumps({"format": _FORMAT, "space": self.space, "cells": content})

    @classmethod
    def from_json(cls, content: str) -> "Genotype":
        """Reads what `to_json` wrote.

        Args:
          content: the JSON text.

        Returns:
          The genotype.

        Raises:
          JnasError: if it is not JSON, of a later format, or malformed.

        Example:
          >>> g = genotype("DARTS_V2")
          >>> Genotype.from_json(g.to_json()) == g
          True
        """
        data = _load(content)
        form = data.get("format")
        if type(form) is not int or form != _FORMAT:
            newer = type(form) is int and form > _FORMAT
            fix = "update jnas to read it" if newer else 'set "format": 1'
            raise errors.JnasError(
                f"genotype format must be {_FORMAT}, got {cells.shown(form)}: {fix}"
            )
        _check_keys(data, _KEYS, "a genotype's JSON")
        if not isinstance(data["cells"], dict):
            raise errors.JnasError(
                "a genotype's cells must be a JSON object by name, got "
                f"{cells.shown(data['cells'])}"
            )
        parts = []
        for name, cell in data["cells"].items():
            _check_keys(cell, _CELL_KEYS, f"cell {cells.shown(name)}")
            parts.append((name, Cell(cell["edges"], cell["concat"])))
        return cls(data["space"], tuple(parts))

    def to_text(self) -> str:
        """Writes the published text form of the space, or JSON where there is none.

        Returns:
          The form of the DARTS code or of NAS-Bench-201. JSON for any other space, and
          for cells that the space's form can't tell, so that `from_text` reads every
          result back exactly.

        Example:
          >>> print(genotype("PC_DARTS").to_text()[:61])
          Genotype(normal=[('sep_conv_3x3', 1), ('skip_connect', 0), ('
        """
        written = text.write(self.space, self.cells)
        return self.to_json() if written is None else written

    @classmethod
    def from_text(cls, content: str) -> "Genotype":
        """Reads either published text form, or JSON; nothing is ever evaluated.

        Args:
          content: ``Genotype(normal=[('sep_conv_3x3', 0), ...], ...)`` (FairDARTS has
            triples, ``('sep_conv_3x3', node, source)``; without ``reduce`` the
            reduction cells are fixed),
            ``Genotype(recurrent=[('tanh', 0), ...], concat=range(1, 9))``,
            ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|`` or JSON.

        Returns:
          The genotype, of "darts", "darts_frc", "darts_rnn", "nasbench201" or the space
          in the JSON.

        Raises:
          JnasError: saying what in the text is wrong.

        Example:
          >>> cell = "|none~0|+|none~0|skip_connect~1|+|none~0|none~1|none~2|"
          >>> Genotype.from_text(cell)["cell"].edges[2]
          Edge(operation='skip_connect', source=1, target=2)
        """
        _check_text(content)
        if content.lstrip().startswith("{"):
            return cls.from_json(content)
        return cls(*text.read(content))

    @classmethod
    def parse(cls, text_or_name: str) -> "Genotype":
        """Reads whatever names a genotype: a published name, JSON or a text form.

        Args:
          text_or_name: for instance ``"DARTS_V2"``, or what `from_text` reads.

        Returns:
          The genotype.

        Raises:
          JnasError: for an unknown name (with close matches) or a malformed text.

        Example:
          >>> Genotype.parse("DARTS_V2")["normal"].edges[0]
          Edge(operation='sep_conv_3x3', source=0, target=2)
        """
        _check_text(text_or_name)
        name = text_or_name.strip()
        # Whatever could be meant as a name gets the names' message.
        if len(name) <= 60 and name.replace("-", "_").isidentifier():
            return genotype(name)
        return cls.from_text(text_or_name)


def genotype(name: str) -> Genotype:
    """Returns a genotype as its authors published it.

    Args:
      name: one of `genotype_names()`.

    Returns:
      The genotype, of the space "darts" or "darts_rnn". NASNet, AmoebaNet, PNASNet5 and
      ENAS_RNN are written in these forms but lie outside the search spaces.

    Raises:
      JnasError: for another name, with close matches.

    Example:
      >>> genotype("NASNet")["reduce"].concat
      (4, 5, 6)
    """
    return Genotype.from_text(published.text(name))


def genotype_names() -> tuple[str, ...]:
    """Returns the names that `genotype` knows.

    Example:
      >>> genotype_names()[:4], genotype_names()[-3:]
      (('DARTS_V1', 'DARTS_V2', 'NASNet', 'AmoebaNet'), \
('DARTS_RNN_V1', 'DARTS_RNN_V2', 'ENAS_RNN'))
    """
    return published.names()


def _check_text(content: object) -> None:
    if not isinstance(content, str):
        raise errors.JnasError(
            f"a genotype is read from text, got {cells.shown(content)}: pass a str"
        )


def _load(content: str) -> dict[str, Any]:
    """Reads a JSON object strictly: no repeated keys, no NaN, no endless nesting."""
    _check_text(content)
    if len(content) > _MAX_JSON:
        raise errors.JnasError(
            f"a genotype's JSON has at most {_MAX_JSON} characters, got {len(content)}"
        )
    try:
        data = json.loads(
            content, object_pairs_hook=_unique, parse_constant=_no_constant
        )
    except errors.JnasError:
        raise
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise errors.JnasError(
            f"not a genotype's JSON: {cells.shown(content)}: {reason}"
        ) from None
    if not isinstance(data, dict):
        raise errors.JnasError(
            f"a genotype's JSON must be an object, got {cells.shown(data)}"
        )
    return data


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise errors.JnasError("a genotype's JSON repeats a key: name each part once")
    return result


def _no_constant(name: str) -> NoReturn:
    raise errors.JnasError(f"a genotype's JSON can't hold {name}: use integers")


def _check_keys(data: object, expected: set[str], what: str) -> None:
    if not isinstance(data, dict) or set(data) != expected:
        got = sorted(data) if isinstance(data, dict) else data
        raise errors.JnasError(
            f"{what} must have exactly the keys {', '.join(sorted(expected))}, got "
            f"{cells.shown(got)}"
        )
