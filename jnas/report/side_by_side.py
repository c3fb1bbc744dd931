"""The section of a report that sums up several runs: mean, spread, genotypes."""

import collections
from collections.abc import Sequence

from jnas.report import page, records, spread, words
from jnas.report.runs import Run

__all__ = ["runs"]

_COLUMNS = {
    "val_accuracy": "validation accuracy",
    "val_bits": "validation bits",
    "arch_entropy": "entropy",
    "derived_skip_share": "skip share",
}


def runs(given: Sequence[Run], names: Sequence[str]) -> str:
    """Several runs: the numbers of each, mean and spread, and their genotypes."""
    if len(given) < 2:
        return ""
    every = [_numbers(run) for run in given]
    quantities = list(dict.fromkeys(name for numbers in every for name in numbers))
    settings = spread.settings(given)
    head, columns = ["quantity"], []
    for setting in settings:
        for index in setting.indices:
            alone = setting.label and len(setting.indices) == 1
            head.append(f"{names[index]} ({setting.label})" if alone else names[index])
            columns.append([_shown(q, every[index].get(q)) for q in quantities])
        if len(setting.indices) > 1:
            head.append(f"{setting.label or 'all'}: mean ± deviation")
            mine = [every[index] for index in setting.indices]
            columns.append([_spread(quantity, mine) for quantity in quantities])
    rows = [
        [quantity, *(column[number] for column in columns)]
        for number, quantity in enumerate(quantities)
    ]
    if verdicts := _verdicts(given, settings):
        rows.append(["verdict", *verdicts])
    note = (
        '<p class="soft">Runs that differ in their seeds only belong together: mean ± '
        "sample standard deviation over these runs. A run's own test figure is the "
        "mean over its retraining seeds.</p>"
    )
    return page.section(
        "runs",
        "Runs side by side",
        page.table(head, rows),
        note,
        *(_genotypes(given, names, setting) for setting in settings),
    )


def _numbers(run: Run) -> dict[str, float]:
    """What of a run is compared with other runs."""
    found: dict[str, float] = {}
    for network in run.networks:
        if network.values:
            kind = "test bits" if network.bits else "test accuracy"
            found[f"{network.label}: {kind}"] = spread.spread(network.values).mean
    for network in run.networks[:1]:
        if network.parameters is not None:
            found[f"{network.label}: parameters"] = network.parameters
    if run.history:
        last = run.history[-1]
        for name in ("val_accuracy", "val_bits", "arch_entropy", "derived_skip_share"):
            if (value := records.number(last.get(name))) is not None:
                found[_COLUMNS[name]] = value
        found["epochs"] = last["epoch"]
    if (since := spread.last_change(run.history)) is not None:
        found["genotype since epoch"] = since
    if run.seconds is not None:
        found["search seconds"] = run.seconds
    return found


def _verdicts(given: Sequence[Run], settings: Sequence[spread.Setting]) -> list[str]:
    """The level of each run's verdict, and how many of a setting had which."""
    levels = [words.judged(run).level for run in given]
    if all(level == "unknown" for level in levels):
        return []
    told = []
    for setting in settings:
        mine = [levels[index] for index in setting.indices]
        told += ["–" if level == "unknown" else level for level in mine]
        if len(mine) > 1:
            counts = collections.Counter(mine)
            told.append(", ".join(f"{n} of {len(mine)} {x}" for x, n in counts.items()))
    return told


def _spread(column: str, rows: list[dict[str, float]]) -> str:
    values = [row[column] for row in rows if column in row]
    if not values:
        return "–"
    found = spread.spread(values)
    if found.deviation is None:
        return _shown(column, found.mean)
    return f"{_shown(column, found.mean)} ± {_shown(column, found.deviation)}"


def _shown(column: str, value: float | None) -> str:
    if value is None:
        return "–"
    if "accuracy" in column or "entropy" in column or "share" in column:
        return f"{value:.2%}"
    if "bits" in column:
        return f"{value:.4f}"
    if "parameters" in column:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value == int(value) else f"{value:.1f}"


def _genotypes(
    given: Sequence[Run], names: Sequence[str], setting: spread.Setting
) -> str:
    """How stable the genotype was over the runs of one setting."""
    known = [
        (names[index], genotype)
        for index in setting.indices
        if (genotype := given[index].genotype) is not None
    ]
    share = spread.agreement([genotype for _, genotype in known])
    if share is None or len({genotype.names for _, genotype in known}) > 1:
        return ""
    different = len({genotype for _, genotype in known})
    # [cell, target, source] -> operations of each run
    chosen: dict[tuple[int, int, int], dict[str, str]] = {}
    for name, genotype in known:
        for place, (_, cell) in enumerate(genotype.cells):
            for edge in cell.edges:
                key = (place, edge.target, edge.source)
                entry = chosen.setdefault(key, {})
                both = f"{entry[name]}, " if name in entry else ""
                entry[name] = both + edge.operation
    cell_names = known[0][1].names
    rows, kinds = [], []
    for (place, target, source), entry in sorted(chosen.items()):
        operations = [entry.get(name, "–") for name, _ in known]
        rows.append([f"{cell_names[place]} {target}←{source}", *operations])
        kinds.append("differs" if len(set(operations)) > 1 else "")
    title = "How stable the genotype was"
    title += f", {setting.label}" if setting.label else ""
    return (
        f"<h3>{page.text(title)}</h3><p>{len(known)} runs found {different} different "
        f"genotype{'s'[: different > 1]}; two of them have {share:.0%} of their edges "
        "in common on average (same source, target and operation). Edges on which "
        "they differ are marked.</p>"
        + page.table(
            ["edge", *(name for name, _ in known)], rows, numbers=False, kinds=kinds
        )
    )
