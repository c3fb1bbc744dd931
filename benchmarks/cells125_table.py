"""Rows, table, figures and picture of `cells125.py`."""

import contextlib
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

COUNTED = ("val", "test", "train")
TIMED = ("seconds", "eval_seconds")
SHORT = ("none", "skip", "conv 1x1", "conv 3x3", "pool")


def read(folder: Path) -> list[dict[str, Any]]:
    """The rows of a folder; a line that a kill cut short is none."""
    path, rows = folder / "rows.jsonl", []
    if path.exists():
        for line in path.read_text().splitlines():
            with contextlib.suppress(ValueError):
                rows.append(json.loads(line))
    return rows


def check(folder: Path, setting: dict[str, Any]) -> None:
    """Ends where the folder has rows of another setting."""
    for row in read(folder):
        for name, value in setting.items():
            if row["setting"].get(name) != value:
                raise SystemExit(
                    f"{folder} has rows with {name}={row['setting'].get(name)}, not "
                    f"{value}: give another --out or the same options"
                )


def commit() -> str:
    """Of the code that runs; "+" where files differ from it."""
    try:
        head = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--exclude=*"],
            cwd=Path(__file__).parent, capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip()


def write(config: Any, wanted: list[tuple[tuple[int, ...], int]]) -> None:
    """Writes the table if all rows are there, and figures and picture."""
    rows = {(tuple(row["genes"]), row["seed"]): row for row in read(config.out)}
    missing = sum(item not in rows for item in wanted)
    if missing:
        print(f"{missing} of {len(wanted)} rows are missing: the same command goes on")
        return
    arrays = gathered(config, {item: rows[item] for item in wanted})
    if config.npz is not None:
        if config.quick:
            raise SystemExit("a table has all cells: leave out --quick")
        from jnas.tabular import files

        files.write(config.npz, arrays)
        print(f"wrote {config.npz}, {config.npz.stat().st_size / 1000:.0f} kB")
    sizes = {name: getattr(config, n) for name, n in zip(COUNTED, SPLITS, strict=True)}
    accuracy = {name: arrays[name] * (100.0 / sizes[name]) for name in COUNTED}
    text = figures(arrays, accuracy)
    (config.out / "cells125.md").write_text(text)
    print(text)
    picture(arrays, accuracy, config.out / "cells125.png")


SPLITS = ("validation", "test", "train")


def gathered(config: Any, rows: dict[Any, dict[str, Any]]) -> dict[str, np.ndarray]:
    """The arrays of the table; see `jnas.tabular.table125`."""
    from jnas import cost, tabular

    seeds = list(dict.fromkeys(seed for _, seed in rows))
    cells = list(dict.fromkeys(genes for genes, _ in rows))

    def stacked(name, dtype):
        return np.array(
            [[rows[cell, seed][name] for seed in seeds] for cell in cells], dtype
        )

    params, multiply_adds = cost.count_genes(
        tabular.cells125_space(),
        np.array(cells),
        channels=config.channels,
        cells_per_stage=config.cells_per_stage,
        num_classes=10,
        image_shape=(config.side, config.side, 1),
        affine=True,
    )
    some = next(iter(rows.values()))
    of_all = {
        name: sorted({json.dumps(row[name]) for row in rows.values()})
        for name in ("environment", "commit", "data")
    }
    meta = {
        "setting": some["setting"],
        "command": "python benchmarks/cells125.py --out cells125 --core 0",
        **{name: list(map(json.loads, found)) for name, found in of_all.items()},
        "seconds": "processor time of one core, compiling left out",
        "wall_seconds": round(sum(row["wall_seconds"] for row in rows.values())),
    }
    return {
        "genes": np.array(cells, np.int8),
        "seeds": np.array(seeds, np.int32),
        **{name: stacked(name, np.uint16) for name in COUNTED},
        **{name: stacked(name, np.float32) for name in TIMED},
        "params": params.astype(np.int32),
        "multiply_adds": multiply_adds.astype(np.int64),
        "meta": np.array(json.dumps(meta)),
    }


def tau(a: np.ndarray, b: np.ndarray) -> float:
    """Kendall's tau-b of two lists, which counts ties as such."""
    first = np.sign(a[:, None] - a[None])
    second = np.sign(b[:, None] - b[None])
    unequal = np.sqrt((first**2).sum() * (second**2).sum())
    return float((first * second).sum() / unequal) if unequal else float("nan")


def pooled(values: np.ndarray) -> float:
    """Standard deviation within rows ``[N, S]``, over all rows together."""
    return float(np.sqrt(values.var(axis=1, ddof=1).mean()))


def name_of(genes: Any) -> str:
    """A cell as a short text: the edges 0-1, 0-2 and 1-2."""
    return " / ".join(SHORT[int(gene)] for gene in genes)


def figures(arrays: dict[str, np.ndarray], accuracy: dict[str, np.ndarray]) -> str:
    """What can be said of the table, as Markdown."""
    from jnas.tabular import table125

    genes = arrays["genes"].astype(np.int32)
    linked, kinds = table125.connected(genes), table125.classes(genes)
    val, test = (accuracy[name][:, :, -1] for name in ("val", "test"))
    mean = {"val": val.mean(1), "test": test.mean(1)}
    place = np.flatnonzero(linked)
    order = place[np.argsort(-mean["test"][place], kind="stable")]
    skip = np.flatnonzero((genes == 1).all(1))
    listed = [("best by test", order[0])]
    listed.append(("best by validation", place[np.argmax(mean["val"][place])]))
    listed.append(("median", order[len(order) // 2]))
    listed.append(("worst with a path", order[-1]))
    if len(skip):
        rank = int(np.flatnonzero(order == skip[0])[0]) + 1
        listed.append((f"all skips (rank {rank} of {len(order)})", skip[0]))
    if not linked.all():
        listed.append(("no path", np.flatnonzero(~linked)[0]))
    seconds = np.median(arrays["seconds"].sum(-1), 1)
    lines = [
        "| cell | edges 0-1 / 0-2 / 1-2 | validation, % | test, % | parameters | "
        "multiply-adds | s |",
        "|---|---|---|---|---|---|---|",
    ]
    for what, row in listed:
        lines.append(
            f"| {what} | {name_of(genes[row])} | {plus_minus(val[row])} | "
            f"{plus_minus(test[row])} | {arrays['params'][row]:,} | "
            f"{arrays['multiply_adds'][row] / 1e3:,.0f} k | {seconds[row]:.1f} |"
        )
    pairs = [(a, b) for a in range(val.shape[1]) for b in range(a)]
    curve = accuracy["val"].mean(1)[place]
    early = [tau(curve[:, e], curve[:, -1]) for e in range(curve.shape[1])]
    lines += [
        "",
        f"{len(genes)} cells, {len(set(kinds.tolist()))} isomorphism classes, "
        f"{int((~linked).sum())} cells without a path; all that follows is of the "
        f"{len(place)} others.",
        "",
        "| | validation | test |",
        "|---|---|---|",
    ]
    for what, function in (
        ("standard deviation over cells, points", lambda v: v.mean(1).std(ddof=1)),
        ("the same between seeds of a cell", pooled),
        (
            "the same between cells of a class, of one seed",
            lambda v: within(v, kinds[place]),
        ),
        ("Kendall tau between two seeds", lambda v: tau_of_seeds(v, pairs)),
    ):
        lines.append(
            f"| {what} | {function(val[place]):.2f} | {function(test[place]):.2f} |"
        )
    distinct = len({arrays["val"][row].tobytes() for row in place})
    skips, plain = open_paths(genes, (1,)), open_paths(genes, (1, 2, 3))
    adds = arrays["multiply_adds"][place]
    agreement = {
        "validation": tau(mean["val"][place], mean["test"][place]),
        "parameters": tau(arrays["params"][place], mean["test"][place]),
        "multiply-adds": tau(adds, mean["test"][place]),
        "seconds": tau(adds, seconds[place]),
    }
    lines += [
        "",
        "Kendall tau of the mean validation accuracy after each epoch with that after "
        f"the last: {', '.join(f'{t:.2f}' for t in early)}.",
        f"Of validation with test accuracy: {agreement['validation']:.2f}; of test "
        f"accuracy with parameters: {agreement['parameters']:.2f}, with multiply-adds: "
        f"{agreement['multiply-adds']:.2f}; of seconds with multiply-adds: "
        f"{agreement['seconds']:.2f}.",
        f"Seconds of one training: {seconds.min():.2f} to {seconds.max():.2f}, median "
        f"{np.median(seconds):.2f}; of all {arrays['seconds'].sum() / 60:.1f} min, and "
        f"{arrays['eval_seconds'].sum() / 60:.1f} min for counting validation images.",
        f"Distinct curves: {distinct} of {len(place)}; where an edge leads nowhere, or "
        "comes from nothing, its operation does not matter.",
        "",
        "| cells with | number | mean test accuracy, least, highest |",
        "|---|---|---|",
        *(
            f"| {what} | {own[place].sum()} | {spread(mean['test'][own & linked])} |"
            for what, own in (
                ("a path of skips alone", skips),
                ("a path of convolutions and skips", plain & ~skips),
                ("a pool on every path", ~plain),
            )
        ),
        "",
        "| mean test accuracy of cells with | 0-1 | 0-2 | 1-2 |",
        "|---|---|---|---|",
    ]
    for gene, name in enumerate(SHORT):
        own = [place[genes[place, edge] == gene] for edge in range(3)]
        texts = [f"{mean['test'][o].mean():.2f}" if len(o) else "-" for o in own]
        lines.append(f"| {name} | {' | '.join(texts)} |")
    return "\n".join(lines) + "\n"


def plus_minus(values: np.ndarray) -> str:
    """Mean and standard deviation."""
    return f"{values.mean():.2f} ± {values.std(ddof=1):.2f}"


def spread(values: np.ndarray) -> str:
    """Mean, least and highest."""
    if not len(values):
        return "-"
    return f"{values.mean():.2f}, {values.min():.2f}, {values.max():.2f}"


def within(values: np.ndarray, kinds: np.ndarray) -> float:
    """Standard deviation ``[N, S]`` between cells of a class, of one seed, pooled."""
    squares, freedom = 0.0, 0
    for kind in set(kinds.tolist()):
        own = values[kinds == kind]
        squares += float(((own - own.mean(0)[None]) ** 2).sum())
        freedom += (len(own) - 1) * values.shape[1]
    return float(np.sqrt(squares / freedom)) if freedom else float("nan")


def tau_of_seeds(values: np.ndarray, pairs: list[tuple[int, int]]) -> float:
    """Kendall's tau of two seeds, mean over the pairs."""
    return float(np.mean([tau(values[:, a], values[:, b]) for a, b in pairs]))


def picture(
    arrays: dict[str, np.ndarray], accuracy: dict[str, np.ndarray], path: Path
) -> None:
    """Curves of all cells that have a path, and every seed of them in order."""
    from matplotlib.figure import Figure

    from jnas.tabular import table125

    genes = arrays["genes"].astype(np.int32)
    val, test = accuracy["val"].mean(1), accuracy["test"][:, :, -1]
    place = np.flatnonzero(table125.connected(genes))
    order = place[np.argsort(-test[place].mean(1), kind="stable")]
    rank = {row: number for number, row in enumerate(order, start=1)}
    epochs = np.arange(1, val.shape[1] + 1)
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    curves, points = figure.subplots(1, 2, width_ratios=(1, 1.3))
    skips, plain = open_paths(genes, (1,)), open_paths(genes, (1, 2, 3))
    groups = (
        ("a path of convolutions and skips", "#0072b2", plain & ~skips, 1),
        ("a path of skips alone", "#d55e00", skips, 2),
        ("a pool on every path", "#666666", ~plain, 1),
    )
    for label, color, own, level in groups:
        rows = [row for row in order if own[row]]
        if not rows:
            continue
        curves.plot(epochs, val[rows].T, color=color, lw=0.7, alpha=0.45, zorder=level)
        curves.plot([], [], color=color, label=f"{label} ({len(rows)})")
        x = np.array([rank[row] for row in rows])
        points.plot(x, test[rows], "o", color=color, ms=2.8, alpha=0.45, mec="none")
        points.plot(x, test[rows].mean(1), "_", color=color, ms=5, mew=1.6)
    for row in order:
        if (genes[row] == 1).all():
            at = rank[row], float(test[row].mean())
            points.annotate(
                f"all skips (rank {rank[row]})", at, xytext=(22, 2), fontsize=9,
                textcoords="offset points", va="center",
                arrowprops={"arrowstyle": "-", "lw": 0.6},
            )  # fmt: skip
    curves.set_xlabel("epoch")
    curves.set_ylabel("validation accuracy, %, mean of the seeds")
    curves.set_xticks(epochs)
    curves.legend(loc="lower right", frameon=False, fontsize=9)
    points.set_xlabel("cell, by its mean test accuracy")
    points.set_ylabel("test accuracy, %; dots: seeds, bar: mean")
    for panel in (curves, points):
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(color="#e3e6ea", lw=0.6)
        panel.set_axisbelow(True)
    figure.savefig(path, dpi=150)


def open_paths(genes: np.ndarray, operations: tuple[int, ...]) -> np.ndarray:
    """Which cells ``[N, 3]`` have a path of these operations alone."""
    first, direct, second = np.isin(genes, operations).T
    return direct | (first & second)
