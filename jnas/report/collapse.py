"""A verdict in plain words on whether a search collapses, from its rows alone.

A collapsed search prefers what has no weights: such candidates train fastest, and the
supernet needs them least to be good itself. The signs, each from the literature:

* parameter-free operations (skips, pools, none, noise) on most edges of the derived
  cell (Zela et al., ICLR 2020; DARTS+ stops at two skips in a normal cell);
* lambda_max, the largest eigenvalue of the validation loss' Hessian by arch, rising:
  the mean of its last measurements over 1.3 times that of the first, the ratio at which
  DARTS-ES stops (Zela et al., section 4);
* the discretisation gap: the derived one-hot's validation accuracy far below that of
  the mixture, at the same weights.

A search whose entropy is nearly that of the uniform mixture has decided nothing yet,
so its derived cell says little.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jnas import errors
from jnas.spaces import Genotype, kinds

__all__ = ["Verdict", "empty_edges", "genotype_of", "rise", "verdict"]

MOST = 2 / 3  # of the edges of a cell: collapsed
HALF = 1 / 2  # and curvature rising or the share growing: collapsing
RISE = 1.3  # DARTS-ES
UNDECIDED = 0.95  # of the entropy of the uniform mixture
GAP = 0.2  # of accuracy, told as a reason
WINDOW = 5  # measurements of an average, as in DARTS-ES
_FIXES = {  # by preset
    "sdarts_rs": "random smoothing",
    "r_darts_l2": "more weight decay",
    "darts_es": "early stopping",
}


class Verdict(NamedTuple):
    """What is to be said of a search.

    Attributes:
      level: "unknown", "undecided", "healthy", "collapsing" or "collapsed".
      text: one line, with the reasons and what to try.
    """

    level: str
    text: str


def empty_edges(genotype: Genotype) -> dict[str, tuple[int, int, tuple[str, ...]]]:
    """The edges of each cell whose operation has nothing to learn.

    Args:
      genotype: a candidate.

    Returns:
      ``{cell: (how many, of how many, their operations)}``; not of recurrent cells,
      where every edge has its gate's weights.

    Example:
      >>> import jnas
      >>> genotype = jnas.spaces.nasbench201().decode([1, 1, 1, 3, 3, 4])
      >>> empty_edges(genotype)
      {'cell': (4, 6, ('avg_pool_3x3', 'skip_connect'))}
    """
    found = {}
    for name, cell in genotype.cells:
        if name == "recurrent":
            continue
        operations = [edge.operation for edge in cell.edges]
        empty = [op for op in operations if kinds.kind(op) is not None]
        found[name] = (len(empty), len(operations), tuple(sorted(set(empty))))
    return found


def rise(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """How many times lambda_max is what it was at first.

    Args:
      rows: of the epochs, some with "lambda_max".

    Returns:
      The mean of the last `WINDOW` measurements (at most half of them) by that of as
      many first ones; None below four measurements, or if they were not positive.

    Example:
      >>> rise([{"lambda_max": x} for x in (0.1, 0.1, 0.2, 0.4)])
      3.0
    """
    values = [row["lambda_max"] for row in rows if _number(row.get("lambda_max"))]
    size = min(WINDOW, len(values) // 2)
    if size < 2 or sum(values[:size]) <= 0:
        return None
    return round(sum(values[-size:]) / sum(values[:size]), 6)


def verdict(
    rows: Sequence[Mapping[str, Any]],
    genotype: Genotype | None = None,
    method: str | None = None,
) -> Verdict:
    """Judges a search by its rows.

    Args:
      rows: those of ``metrics.jsonl``, one an epoch.
      genotype: the result, where it may be another than that of the last row.
      method: name of the preset, which is not advised again.

    Returns:
      The verdict; of what rows lack nothing is said.

    Example:
      >>> cell = "|skip_connect~0|+|skip_connect~0|skip_connect~1|"
      >>> cell += "+|skip_connect~0|skip_connect~1|nor_conv_3x3~2|"
      >>> verdict([{"epoch": e, "genotype": cell} for e in (1, 2)]).text
      'collapsed: skip_connect on 5 of 6 edges (cell) since epoch 1; try random \
smoothing (sdarts_rs), more weight decay (r_darts_l2) or early stopping (darts_es)'
    """
    told = [(row, genotype_of(row)) for row in rows]
    told = [(row, genotype) for row, genotype in told if genotype is not None]
    if not told:
        return Verdict("unknown", "unknown: no epoch has a derived genotype")
    last, latest = told[-1]
    if genotype is None:
        genotype = latest
    else:
        told[-1] = (last, genotype)
    ratio = rise(rows)
    reasons, worst, grows = [], 0.0, False
    fixes = [f"{what} ({name})" for name, what in _FIXES.items() if name != method]
    advice = f"try {', '.join(fixes[:-1])} or {fixes[-1]}"
    for name, (count, of, operations) in empty_edges(genotype).items():
        share = count / max(of, 1)
        worst = max(worst, share)
        first = _share(told[0][1], name)
        grows = grows or (share >= HALF and share > first)
        if share >= HALF:
            since = _since(told, name, share if share < MOST else MOST)
            reasons.append(
                f"{'/'.join(operations)} on {count} of {of} edges ({name}) "
                f"since epoch {since}"
            )
    rising = ratio is not None and ratio > RISE
    if rising:
        reasons.append(f"lambda_max rose {ratio:.1f}x")
    gap = _gap(rows)
    if gap is not None and gap > GAP:
        reasons.append(
            f"the derived cell's accuracy is {gap:.0%} below that of the mixture"
        )
    entropy = last.get("arch_entropy")
    if isinstance(entropy, float | int) and entropy > UNDECIDED:
        text = f"undecided: the architecture's entropy is {entropy:.0%} of uniform"
        text += "".join(f"; {reason}" for reason in reasons)
        return Verdict(
            "undecided", f"{text}; search longer or raise the arch learning rate"
        )
    if worst >= MOST:
        return Verdict("collapsed", f"collapsed: {'; '.join(reasons)}; {advice}")
    if worst >= HALF and (rising or grows):
        return Verdict("collapsing", f"collapsing: {'; '.join(reasons)}; {advice}")
    if reasons:
        return Verdict("healthy", f"no collapse, but watch: {'; '.join(reasons)}")
    return Verdict("healthy", "no sign of collapse")


def genotype_of(row: Mapping[str, Any]) -> Genotype | None:
    """The derived genotype of a row, if it has one that can be read."""
    text = row.get("genotype")
    if not isinstance(text, str):
        return None
    try:
        return Genotype.parse(text)
    except errors.JnasError:
        return None


def _share(genotype: Genotype | None, name: str) -> float:
    """The share of empty edges in one cell."""
    found = {} if genotype is None else empty_edges(genotype)
    count, of, _ = found.get(name, (0, 1, ()))
    return count / max(of, 1)


def _since(told: Sequence[tuple[Any, Any]], name: str, share: float) -> Any:
    """The epoch since when a cell has had at least that share of empty edges."""
    since = told[-1][0].get("epoch")
    for row, genotype in reversed(told):
        if _share(genotype, name) < share:
            break
        since = row.get("epoch")
    return since


def _gap(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """The last measured accuracy of the mixture, less that of the derived cell."""
    for row in reversed(rows):
        mixture, derived = row.get("mixture_accuracy"), row.get("derived_accuracy")
        if isinstance(mixture, float | int) and isinstance(derived, float | int):
            return mixture - derived
    return None


def _number(value: Any) -> bool:
    return isinstance(value, int | float)
