"""Genotypes as their authors published them, by name.

Kept in the short notation of the papers' figures and expanded to the text form of
the DARTS code, so that one reader checks them all. Sources: ``genotypes.py`` of
quark0/darts (DARTS_V1, DARTS_V2, and NASNet-A and AmoebaNet-A in that form; the
recurrent cells DARTS_RNN_V1 and _V2, DARTS_V1 and DARTS_V2 there, and ENAS_RNN),
yuhuixu1993/PC-DARTS (found on CIFAR-10), chenxin061/pdarts; PNASNet-5 from
chenxi116/PNASNet.pytorch, where both cells are the same.
"""

from jnas import errors

__all__ = ["names", "text"]

_SHORT = {
    "avg": "avg_pool_3x3",
    "max": "max_pool_3x3",
    "skip": "skip_connect",
    "sep3": "sep_conv_3x3",
    "sep5": "sep_conv_5x5",
    "sep7": "sep_conv_7x7",
    "dil3": "dil_conv_3x3",
    "dil5": "dil_conv_5x5",
    "conv7": "conv_7x1_1x7",
}
_PNASNET = (
    "sep5 0, max 0 | sep7 1, max 1 | sep5 1, sep3 1 | sep3 4, max 1 | sep3 0, skip 1"
)
# name: (normal, its concat, reduce, its concat); "|" parts the nodes.
_PUBLISHED = {
    "DARTS_V1": (
        "sep3 1, sep3 0 | skip 0, sep3 1 | skip 0, sep3 1 | sep3 0, skip 2",
        [2, 3, 4, 5],
        "max 0, max 1 | skip 2, max 0 | max 0, skip 2 | skip 2, avg 0",
        [2, 3, 4, 5],
    ),
    "DARTS_V2": (
        "sep3 0, sep3 1 | sep3 0, sep3 1 | sep3 1, skip 0 | skip 0, dil3 2",
        [2, 3, 4, 5],
        "max 0, max 1 | skip 2, max 1 | max 0, skip 2 | skip 2, max 1",
        [2, 3, 4, 5],
    ),
    "NASNet": (
        "sep5 1, sep3 0 | sep5 0, sep3 0 | avg 1, skip 0 | avg 0, avg 0"
        " | sep3 1, skip 1",
        [2, 3, 4, 5, 6],
        "sep5 1, sep7 0 | max 1, sep7 0 | avg 1, sep5 0 | skip 3, avg 2"
        " | sep3 2, max 1",
        [4, 5, 6],
    ),
    "AmoebaNet": (
        "avg 0, max 1 | sep3 0, sep5 2 | sep3 0, avg 3 | sep3 1, skip 1"
        " | skip 0, avg 1",
        [4, 5, 6],
        "avg 0, sep3 1 | max 0, sep7 2 | sep7 0, avg 1 | max 0, max 1"
        " | conv7 0, sep3 5",
        [3, 4, 6],
    ),
    "PC_DARTS": (
        "sep3 1, skip 0 | sep3 0, dil3 1 | sep5 0, sep3 1 | avg 0, dil3 1",
        [2, 3, 4, 5],
        "sep5 1, max 0 | sep5 1, sep5 2 | sep3 0, sep3 3 | sep3 1, sep3 2",
        [2, 3, 4, 5],
    ),
    "PDARTS": (
        "skip 0, dil3 1 | skip 0, sep3 1 | sep3 1, sep3 3 | sep3 0, dil5 4",
        [2, 3, 4, 5],
        "avg 0, sep5 1 | sep3 0, dil5 2 | max 0, dil3 1 | dil3 1, dil5 3",
        [2, 3, 4, 5],
    ),
    "PNASNet5": (_PNASNET, [2, 3, 4, 5, 6], _PNASNET, [2, 3, 4, 5, 6]),
}
# name: (one "operation source" per node, concat)
_RECURRENT = {
    "DARTS_RNN_V1": (
        "relu 0, relu 1, tanh 2, relu 3, relu 4, identity 1, relu 5, relu 1",
        list(range(1, 9)),
    ),
    "DARTS_RNN_V2": (
        "sigmoid 0, relu 1, relu 1, identity 1, tanh 2, sigmoid 5, tanh 3, relu 5",
        list(range(1, 9)),
    ),
    "ENAS_RNN": (
        "tanh 0, tanh 1, relu 1, tanh 3, tanh 3, relu 3, relu 4, relu 7, relu 8,"
        " relu 8, relu 8",
        [2, 5, 6, 9, 10, 11],
    ),
}


def names() -> tuple[str, ...]:
    """Returns the names of the published genotypes, in order of publication here.

    Example:
      >>> names()[:2]
      ('DARTS_V1', 'DARTS_V2')
    """
    return (*_PUBLISHED, *_RECURRENT)


def text(name: str) -> str:
    """Returns a published genotype in the text form of the DARTS code.

    Args:
      name: one of `names()`.

    Returns:
      ``Genotype(normal=[...], normal_concat=[...], ...)``, or
      ``Genotype(recurrent=[...], concat=[...])``.

    Raises:
      JnasError: for another name, with close matches.

    Example:
      >>> text("DARTS_V1")[:39]
      "Genotype(normal=[('sep_conv_3x3', 1), ("
    """
    if name in _RECURRENT:
        listed, concat = _RECURRENT[name]
        return f"Genotype(recurrent={_edges(listed)}, concat={concat})"
    if name not in _PUBLISHED:
        raise errors.unknown_name("genotype", name, names())
    normal, normal_concat, reduce, reduce_concat = _PUBLISHED[name]
    return (
        f"Genotype(normal={_edges(normal)}, normal_concat={normal_concat}, "
        f"reduce={_edges(reduce)}, reduce_concat={reduce_concat})"
    )


def _edges(short: str) -> list[tuple[str, int]]:
    pairs = [item.split() for item in short.replace("|", ",").split(",")]
    return [
        (_SHORT.get(operation, operation), int(source)) for operation, source in pairs
    ]
