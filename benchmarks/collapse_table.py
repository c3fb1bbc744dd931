"""Rows, table and picture of `collapse.py`."""

import contextlib
import json
import math
import statistics
from pathlib import Path
from typing import Any

import numpy as np

REFERENCE = "random_search"
BASELINES = ("random_search", "random", "all_skip")
# Of the cell's edges, with nothing to learn: as `jnas.report.collapse` judges.
COLLAPSED = 2 / 3
PUBLISHED = "nasbench201_cifar10"


def append(path: Path, row: dict[str, Any]) -> None:
    """Adds a row, whole or not at all."""
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def read(folder: Path) -> list[dict[str, Any]]:
    """The rows of a folder; a line that a kill cut short is none."""
    rows = []
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text().splitlines():
            with contextlib.suppress(ValueError):
                rows.append(json.loads(line))
    return list({(row["method"], row["seed"]): row for row in rows}.values())


def check(folder: Path, setting: dict[str, Any]) -> None:
    """Ends where the folder has rows of another setting."""
    for row in read(folder):
        for name, value in setting.items():
            if row.get(name) != value:
                raise SystemExit(
                    f"{folder} has rows with {name}={row.get(name)}, not {value}: give "
                    "another --out or the same options"
                )


def write(folder: Path, wanted: list[tuple[str, int]], seconds: float) -> None:
    """Writes and prints what there is of the wanted rows."""
    places = {item: i for i, item in enumerate(wanted)}
    rows = [r for r in read(folder) if (r["method"], r["seed"]) in places]
    if not rows:
        print("no rows yet: the same command goes on")
        return
    rows.sort(key=lambda r: places[r["method"], r["seed"]])
    known = published()
    for row in rows:
        if row["genotype"] in known:
            row[PUBLISHED] = known[row["genotype"]]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    # The only copy of the rows of earlier slices: never half of it.
    (folder / "collapse.new").write_text(text)
    (folder / "collapse.new").replace(folder / "collapse.jsonl")
    for path in folder.glob("rows*.jsonl"):
        path.unlink()
    shown = table(rows)
    missing = len(wanted) - len(rows)
    about = describe(rows, missing, seconds)
    (folder / "collapse.md").write_text(f"{about}\n\n{shown}\n")
    print(f"{about}\n\n{shown}")
    picture(rows, folder / "collapse.png")


def published() -> dict[str, float]:
    """CIFAR-10 test accuracy of every cell in NAS-Bench-201's table, in %.

    After 200 epochs in the table's own large network, mean of its seeds; empty where
    ``nasbench201.npz`` is not among the data files.
    """
    from jnas.data import folders

    for folder in folders.candidates("nasbench201"):
        path = folder / "nasbench201.npz"
        if not path.exists():
            continue
        with np.load(path, allow_pickle=False) as table:
            names, edges = table["op_names"], table["edges"].tolist()
            operations, accuracies = table["ops"], table["cifar10_test_200"]
        texts = {}
        for columns, accuracy in zip(operations, accuracies.tolist(), strict=True):
            nodes: dict[int, str] = {}
            for column, (source, target) in zip(columns, edges, strict=True):
                text = f"{names[column]}~{source}|"
                nodes[target] = nodes.get(target, "|") + text
            texts["+".join(nodes.values())] = round(accuracy, 3)
        return texts
    return {}


def has_published(rows: list[dict[str, Any]]) -> bool:
    """Whether all rows know what the table has for their cell."""
    return all(PUBLISHED in row for row in rows)


def spread(values: list[float], digits: int = 2) -> str:
    """Mean and standard deviation."""
    mean = f"{statistics.fmean(values):.{digits}f}"
    if len(values) < 2:
        return mean
    return f"{mean} ± {statistics.stdev(values):.{digits}f}"


def difference(own: dict[int, float], other: dict[int, float]) -> str:
    """Mean difference over common seeds and its standard error."""
    pairs = [value - other[seed] for seed, value in own.items() if seed in other]
    if len(pairs) < 2:
        return "-"
    error = statistics.stdev(pairs) / math.sqrt(len(pairs))
    return f"{statistics.fmean(pairs):+.2f} ± {error:.2f}"


def by_method(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The rows of each method: baselines first, then by falling accuracy."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["method"], []).append(row)
    places = {name: i for i, name in enumerate((*BASELINES, "darts"))}

    def order(name):
        mean = statistics.fmean(row["test_accuracy"] for row in found[name])
        return places.get(name, len(places)), -mean

    return {name: found[name] for name in sorted(found, key=order)}


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: one line a method."""
    lines = [
        "| method | seeds | test accuracy, % | to random search (SE) | skips in the "
        "cell | collapsed | lambda_max | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    in_table = has_published(rows)
    if in_table:
        lines = [f"{lines[0]} the cell on CIFAR-10, % |", f"{lines[1]}---|"]
    groups = by_method(rows)
    reference = {r["seed"]: 100 * r["test_accuracy"] for r in groups.get(REFERENCE, [])}
    for name, own in groups.items():
        accuracy = {row["seed"]: 100 * row["test_accuracy"] for row in own}
        sharp = [row["lambda_max"] for row in own if row["lambda_max"] is not None]
        collapsed = sum(row["empty_share"] >= COLLAPSED - 1e-9 for row in own)
        cells = [
            f"`{name}`",
            str(len(own)),
            spread(list(accuracy.values())),
            "0" if name == REFERENCE else difference(accuracy, reference),
            f"{statistics.fmean(row['skip_share'] for row in own):.0%}",
            f"{collapsed} of {len(own)}",
            f"{statistics.median(sharp):.2f}" if sharp else "",
            f"{statistics.fmean(row['search_seconds'] for row in own):.0f}",
        ]
        if in_table:
            cells.append(spread([row[PUBLISHED] for row in own]))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def describe(rows: list[dict[str, Any]], missing: int, seconds: float) -> str:
    """What was run, where and with what."""
    first = rows[0]
    commits = ", ".join(sorted({row["commit"] for row in rows}))
    devices = ", ".join(sorted({f"{r['device']}, {r['machine']}" for r in rows}))
    worked = sum(row["wall_seconds"] for row in rows) / 60
    last = f"; the last command took {seconds / 60:.0f} minutes" if seconds > 60 else ""
    source = ""
    if has_published(rows):
        source = (
            "; the cell on CIFAR-10: what NAS-Bench-201's table has for the found cell "
            "after 200 epochs of training there (Dong & Yang, ICLR 2020)"
        )
    part = f" {missing} rows are missing yet." if missing else ""
    return (
        f"NAS-Bench-201 space, images of Fashion-MNIST at {first['side']}x"
        f"{first['side']}, {first['channels']} channels, {first['cells_per_stage']} "
        f"cells per stage; searches of {first['epochs']} epochs on {first['images']} "
        f"images, batch {first['batch_size']}, weights' learning rate "
        f"{first['learning_rate']}, arch's {first['arch_learning_rate']}; retrained "
        f"for {first['retrain_epochs']} epochs on {first['retrain_images']} images, "
        f"batch {first['retrain_batch_size']}. "
        f"{len(rows)} rows.{part} Commit "
        f"{commits}; {devices}; jax {first['jax']}, flax {first['flax']}, optax "
        f"{first['optax']}, Python {first['python']}. {worked:.0f} minutes of work of "
        f"one process in all{last}. Accuracies are means "
        "± standard deviations, lambda_max medians, seconds those of a search without "
        "compilation; collapsed: skips, pools, none on 2/3 of the cell's edges or more"
        f"{source}."
    )


def picture(rows: list[dict[str, Any]], path: Path) -> None:
    """A point a seed: accuracies, and skips in the cell, by method."""
    from matplotlib.figure import Figure

    groups = by_method(rows)
    quantities = [("test accuracy after retraining, %", _percent)]
    if has_published(rows):
        label = "the cell on CIFAR-10 (NAS-Bench-201's table), %"
        quantities.append((label, lambda row: row[PUBLISHED]))
    count = len(quantities)
    figure = Figure(
        figsize=(4 + 3.6 * count, 1.2 + 0.26 * len(groups)), layout="constrained"
    )
    panels = figure.subplots(
        1, count + 1, sharey=True, width_ratios=(*[3] * count, 1.2)
    )
    names = list(groups)
    colors = [
        "#666666" if name in BASELINES else "#d55e00" if name == "darts" else "#0072b2"
        for name in names
    ]
    for panel, (label, value) in zip(panels, quantities, strict=False):
        least = _least([value(row) for row in rows])
        for place, (color, own) in enumerate(zip(colors, groups.values(), strict=True)):
            values = [value(row) for row in own]
            for i, x in enumerate(values):
                y = place + 0.05 * (i - (len(own) - 1) / 2)
                # Far below all others: at the edge, so that these can be told apart.
                shape = "o" if x >= least else "<"
                x = max(x, least)
                panel.plot(x, y, shape, color=color, alpha=0.45, ms=4.5, mec="none")
            mean = statistics.fmean(values)
            panel.plot([mean, mean], [place - 0.38, place + 0.38], color=color, lw=2)
        if REFERENCE in groups:
            mean = statistics.fmean(value(row) for row in groups[REFERENCE])
            panel.axvline(mean, color="#666666", lw=0.8, ls=(0, (4, 3)), zorder=0)
        below = sum(value(row) < least for row in rows)
        note = f"; <: far below, {below} in all" if below else ""
        panel.set_xlabel(f"{label}\n(bar: mean; dashed: {REFERENCE}{note})")
    for place, (color, own) in enumerate(zip(colors, groups.values(), strict=True)):
        share = 100 * statistics.fmean(row["skip_share"] for row in own)
        panels[-1].barh(place, share, color=color, height=0.6)
    panels[-1].set_xlabel("skips in the cell, %")
    panels[-1].set_xlim(0, 100)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].invert_yaxis()
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(axis="x", color="#e3e6ea", lw=0.6)
        panel.set_axisbelow(True)
    figure.savefig(path, dpi=150)


def _least(values: list[float]) -> float:
    """The smallest value that is not far below the others."""
    if len(values) < 2:
        return values[0]
    low, _, high = statistics.quantiles(values, n=4)
    return min(x for x in values if x >= low - 3 * (high - low))


def _percent(row: dict[str, Any]) -> float:
    return 100 * row["test_accuracy"]
