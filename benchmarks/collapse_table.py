"""Rows, table and picture of `collapse.py`."""

import json
import math
import statistics
from pathlib import Path
from typing import Any

REFERENCE = "random_search"
BASELINES = ("random_search", "random", "all_skip")
# Of the cell's edges, with nothing to learn: as `jnas.report.collapse` judges.
COLLAPSED = 2 / 3


def append(path: Path, row: dict[str, Any]) -> None:
    """Adds a row, whole or not at all."""
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def read(folder: Path) -> list[dict[str, Any]]:
    """The rows of a folder; a line that a kill cut short is none."""
    rows = []
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text().splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                print(f"{path}: a line is damaged and left out")
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
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "collapse.jsonl").write_text(text)
    for path in folder.glob("rows*.jsonl"):
        path.unlink()
    shown = table(rows)
    missing = len(wanted) - len(rows)
    about = describe(rows, missing, seconds)
    (folder / "collapse.md").write_text(f"{about}\n\n{shown}\n")
    print(f"{about}\n\n{shown}")
    picture(rows, folder / "collapse.png")


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
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def describe(rows: list[dict[str, Any]], missing: int, seconds: float) -> str:
    """What was run, where and with what."""
    first = rows[0]
    commits = ", ".join(sorted({row["commit"] for row in rows}))
    devices = ", ".join(sorted({f"{r['device']}, {r['machine']}" for r in rows}))
    worked = sum(row["wall_seconds"] for row in rows) / 60
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
        f"{first['optax']}, Python {first['python']}. {worked:.0f} minutes of work in "
        f"all; the last command took {seconds / 60:.0f} minutes. Accuracies are means "
        "± standard deviations, lambda_max medians, seconds those of a search without "
        "compilation; collapsed: skips, pools, none on 2/3 of the cell's edges or more."
    )


def picture(rows: list[dict[str, Any]], path: Path) -> None:
    """A point a seed: accuracy, and skips in the cell, by method."""
    from matplotlib.figure import Figure

    groups = by_method(rows)
    figure = Figure(figsize=(9, 1.2 + 0.26 * len(groups)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    names = list(groups)
    for place, own in enumerate(groups.values()):
        base = names[place] in BASELINES
        color = "#666666" if base else "#d55e00" if names[place] == "darts" else None
        color = color or "#0072b2"
        values = [100 * row["test_accuracy"] for row in own]
        jitter = [place + 0.05 * (i - (len(own) - 1) / 2) for i in range(len(own))]
        left.plot(values, jitter, "o", color=color, alpha=0.45, ms=4, mec="none")
        mean = statistics.fmean(values)
        left.plot([mean, mean], [place - 0.38, place + 0.38], color=color, lw=2)
        share = 100 * statistics.fmean(row["skip_share"] for row in own)
        right.barh(place, share, color=color, height=0.6)
    if REFERENCE in groups:
        mean = statistics.fmean(100 * r["test_accuracy"] for r in groups[REFERENCE])
        left.axvline(mean, color="#666666", lw=0.8, ls=(0, (4, 3)), zorder=0)
    left.set_yticks(range(len(names)), names)
    left.invert_yaxis()
    left.set_xlabel("test accuracy after retraining, % (bar: mean)")
    right.set_xlabel("skips in the cell, %")
    right.set_xlim(0, 100)
    for panel in (left, right):
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(axis="x", color="#e3e6ea", lw=0.6)
        panel.set_axisbelow(True)
    figure.savefig(path, dpi=150)
