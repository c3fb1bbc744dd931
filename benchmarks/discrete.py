"""Strategies without gradients on NAS-Bench-201's table, and how fast they run.

A row of JSON for each dataset and strategy, appended at once, so that the same command
goes on where it was stopped, then a Markdown table::

    python benchmarks/discrete.py --out discrete
    python benchmarks/discrete.py --out discrete --only-table

Protocol of NAS-Bench-201 (Dong & Yang, ICLR 2020) for searchers that train each
candidate: they see the validation accuracy of the 12-epoch runs; the incumbent is
reported by its accuracies after 200 epochs. Reported are incumbents after 150 and 300
evaluations, and within simulated times (20,000, 40,000, 120,000 s), where validation
time is not counted, as the table has none. Of searches on CIFAR-10 the incumbents
within 12,000 s are reported on all three datasets, too.
Strategies keep their published hyper-parameters; those that fit a model at every step
run for fewer seeds and 150 evaluations.

Another part compares fronts of accuracy and FLOPs by their hypervolume. The last times
1,000 searches of 300 evaluations by regularized evolution against the same algorithm as
a plain Python loop (``discrete_python.py``), in turn.
"""

import dataclasses
import json
import math
import statistics
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from discrete_python import evolve

from jnas import discrete, tabular
from jnas.run.environment import environment

BUDGETS = {"cifar10": 20_000, "cifar100": 40_000, "imagenet16": 120_000}
FRONTS = "NSGA-II (and FLOPs)"
SHORT_BUDGET = 12_000  # on CIFAR-10, the incumbents are reported on all datasets
POINTS = (150, 300)
REPORTS = ("val_200", "test_200")
# Label: (strategy, options, whether it fits a model).
STRATEGIES: dict[str, tuple[str, dict[str, Any], bool]] = {
    "random search": ("random_search", {}, False),
    "regularized evolution 10/3, by node": (
        "regularized_evolution",
        {"population": 10, "sample": 3, "mutation": "node"},
        False,
    ),
    "regularized evolution 100/25": (
        "regularized_evolution",
        {"population": 100, "sample": 25},
        False,
    ),
    "evolution 30/10, worst dies": (
        "regularized_evolution",
        {"population": 30, "sample": 10, "ageing": False},
        False,
    ),
    "local search, first better": ("local_search", {}, False),
    "local search, whole neighbourhood": ("local_search", {"query": "full"}, False),
    "genetic with crossover": ("genetic", {}, False),
    "REINFORCE": ("reinforce", {}, False),
    "REINFORCE, LSTM": ("reinforce", {"policy": "lstm"}, True),
    "PPO, LSTM": ("ppo", {}, True),
    "Q-learning": ("q_learning", {}, False),
    "BANANAS": ("bananas", {}, True),
    "PNAS, 72 survivors": ("pnas", {"survivors": 72}, True),
    "TPE (Optuna)": ("optuna_sampler", {}, True),
    "NSGA-II (and FLOPs)": ("nsga2", {}, False),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run.

    Attributes:
      out: folder of rows and tables.
      datasets: of the table.
      strategies: labels; default all.
      seeds: of strategies that fit no model at every step.
      model_seeds: of those that do.
      evaluations: of the former.
      model_evaluations: of the latter.
      fronts: whether to compare fronts, too.
      speed: whether to time evolution, too.
      only_table: write the Markdown of the rows that there are.
      quick: few seeds.
    """

    out: Path = Path("discrete")
    datasets: tuple[str, ...] = ("cifar10", "cifar100", "imagenet16")
    strategies: tuple[str, ...] = tuple(STRATEGIES)
    seeds: int = 500
    model_seeds: int = 50
    evaluations: int = 300
    model_evaluations: int = 150
    fronts: bool = True
    speed: bool = True
    only_table: bool = False
    quick: bool = False


def main(config: Config) -> None:
    config.out.mkdir(parents=True, exist_ok=True)
    path = config.out / "discrete.jsonl"
    if config.quick:
        config = dataclasses.replace(
            config, seeds=20, model_seeds=2, datasets=config.datasets[:1]
        )
    rows = read(path)
    if not config.only_table:
        table = tabular.nasbench201()
        for dataset in config.datasets:
            for label in config.strategies:
                if not any(
                    r["dataset"] == dataset and r["label"] == label for r in rows
                ):
                    rows.append(measure(table, dataset, label, config))
                    append(path, rows[-1])
                    print(
                        f"{dataset}: {label}: {rows[-1]['seconds']:.1f} s", flush=True
                    )
        if config.fronts:
            for row in fronts(table, config):
                append(config.out / "fronts.jsonl", row)
        if config.speed:
            append(config.out / "speed.jsonl", speed(table, config))
    text = markdown(rows) + fronts_text(read(config.out / "fronts.jsonl"))
    text += speed_text(read(config.out / "speed.jsonl"))
    (config.out / "discrete.md").write_text(text)
    print(text)


def measure(table: Any, dataset: str, label: str, config: Config) -> dict[str, Any]:
    """Runs all seeds of one strategy."""
    name, options, models = STRATEGIES[label]
    seeds = config.model_seeds if models else config.seeds
    evaluations = config.model_evaluations if models else config.evaluations
    strategy = discrete.make(name, table.space, evaluations, **options)
    metric: Any = "val_12" if strategy.scores is None else ("val_12", "-flops")
    start = time.perf_counter()
    found = discrete.run(
        strategy, table.objective(dataset, metric), evaluations=evaluations, seeds=seeds
    )
    seconds = time.perf_counter() - start
    row = {
        "label": label,
        "dataset": dataset,
        "seeds": seeds,
        "evaluations": evaluations,
        "config": found.strategy,
        "seconds": seconds,
        **environment(),
    }
    points = {str(n): found.best(n) for n in POINTS if n <= evaluations}
    points["budget"] = found.best(budget=BUDGETS[dataset])
    spent = found.spent()
    row["within_budget"] = float((spent <= BUDGETS[dataset]).sum(axis=1).mean())
    row["reaches_budget"] = bool(spent[:, -1].min() >= BUDGETS[dataset])
    for point, incumbents in points.items():
        row[f"val_12 at {point}"] = discrete.spread(incumbents[1])
        for report in REPORTS:
            row[f"{report} at {point}"] = told(table, incumbents, dataset, report)
    if dataset == "cifar10":
        incumbents = found.best(budget=SHORT_BUDGET)
        row["within_short_budget"] = float((spent <= SHORT_BUDGET).sum(axis=1).mean())
        row["in short budget"] = {
            f"{other} {report}": told(table, incumbents, other, report)
            for other in BUDGETS
            for report in REPORTS
        }
    return row


def told(table: Any, incumbents: Any, dataset: str, report: str) -> dict[str, float]:
    """Mean and spread of what incumbents reach after full training."""
    genes, scores = incumbents
    values = np.asarray(table.values(genes, dataset, report))
    return discrete.spread(np.where(np.isfinite(scores), values, np.nan))


def fronts(table: Any, config: Config) -> list[dict[str, Any]]:
    """Hypervolumes of what was evaluated: accuracy, and how far below the most FLOPs.

    Both are shares, the reference is (0, 0), and 1 is what the whole table has.
    """
    flops = np.asarray(table.values(table.genes, "cifar10", "flops"), np.float64)
    most = flops.max()

    def shares(genes):
        accuracy = table.values(genes, "cifar10", "val_12") / 100
        small = 1 - table.values(genes, "cifar10", "flops") / most
        return jnp.stack([accuracy, small], axis=-1)

    volume = jax.jit(lambda genes: discrete.hypervolume(shares(genes), jnp.zeros(2)))
    # Of the whole table only what no other cell dominates.
    every = np.asarray(shares(jnp.asarray(table.genes)))
    order = np.lexsort((-every[:, 1], -every[:, 0]))
    best = np.maximum.accumulate(every[order, 1])
    leads = np.concatenate([[True], every[order, 1][1:] > best[:-1]])
    whole = float(volume(jnp.asarray(table.genes[order][leads])))
    rows = []
    for label in ("random search", "regularized evolution 10/3, by node", FRONTS):
        name, options, _ = STRATEGIES[label]
        strategy = discrete.make(name, table.space, config.evaluations, **options)
        metric: Any = "val_12" if strategy.scores is None else ("val_12", "-flops")
        found = discrete.run(
            strategy,
            table.objective("cifar10", metric),
            evaluations=config.evaluations,
            seeds=config.seeds,
        )
        row = {"label": label, "seeds": config.seeds, **environment()}
        for point in POINTS:
            genes = jnp.asarray(found.genes[:, :point])
            values = np.asarray(jax.lax.map(volume, genes)) / whole
            row[f"hypervolume at {point}"] = discrete.spread(values)
        rows.append(row)
    return rows


def fronts_text(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return ""
    last = list({row["label"]: row for row in rows}.values())
    titles = ["strategy", "seeds", *(f"hypervolume after {point}" for point in POINTS)]
    lines = [
        [
            row["label"],
            str(row["seeds"]),
            *(
                f"{found['mean']:.4f} ± {found['std']:.4f}"
                for found in (row[f"hypervolume at {point}"] for point in POINTS)
            ),
        ]
        for row in last
    ]
    return f"\n### Accuracy and FLOPs on cifar10\n\n{grid(titles, lines)}"


def speed(table: Any, config: Config) -> dict[str, Any]:
    """1,000 searches of 300 evaluations: compiled, and as a plain loop, in turn."""
    seeds, evaluations = (20, 30) if config.quick else (1000, 300)
    strategy = discrete.regularized_evolution(table.space, mutation="node")
    objective = table.objective("cifar10", "val_12")
    known = {
        tuple(genes): value
        for genes, value in zip(
            table.genes.tolist(),
            np.asarray(table.values(table.genes, "cifar10", "val_12")).tolist(),
            strict=True,
        )
    }
    timings: dict[str, list[float]] = {"compiled": [], "python": []}
    best: dict[str, float] = {}
    start = time.perf_counter()
    discrete.run(strategy, objective, evaluations=evaluations, seeds=seeds)
    first = time.perf_counter() - start
    for turn in range(3):
        own = range(turn * seeds, (turn + 1) * seeds)
        start = time.perf_counter()
        found = discrete.run(strategy, objective, evaluations=evaluations, seeds=own)
        timings["compiled"].append(time.perf_counter() - start)
        best["compiled"] = float(found.best()[1].mean())
        start = time.perf_counter()
        scores = [evolve(known, evaluations, seed) for seed in own]
        timings["python"].append(time.perf_counter() - start)
        best["python"] = statistics.fmean(scores)
    return {
        "seeds": seeds,
        "evaluations": evaluations,
        "first_call_seconds": first,
        "seconds": timings,
        "mean_best_val_12": best,
        "ratio": statistics.median(
            p / c for p, c in zip(timings["python"], timings["compiled"], strict=True)
        ),
        **environment(),
    }


def markdown(rows: list[dict[str, Any]]) -> str:
    """A table for each dataset, and one of searches on CIFAR-10 told on all."""
    places = {label: i for i, label in enumerate(STRATEGIES)}
    rows = sorted(rows, key=lambda row: places[row["label"]])
    parts = []
    for dataset, seconds in BUDGETS.items():
        own = [row for row in rows if row["dataset"] == dataset]
        reference = next((r for r in own if r["label"] == "random search"), None)
        titles = ["strategy", "seeds"]
        for point in POINTS:
            titles += [f"test after {point}", "to random search (SE)"]
        titles += [f"val in {seconds:,} s", f"test in {seconds:,} s"]
        titles += ["evaluations in that time", "wall seconds"]
        lines = []
        for row in own:
            cells = [row["label"], str(row["seeds"])]
            for point in POINTS:
                key = f"test_200 at {point}"
                cells += [shown(row.get(key)), margin(row, reference, key)]
            if row["reaches_budget"]:
                cells += [shown(row[f"{report} at budget"]) for report in REPORTS]
                cells.append(f"{row['within_budget']:.0f}")
            else:
                cells += ["", "", ""]
            lines.append([*cells, f"{row['seconds']:.1f}"])
        if lines:
            parts.append(f"### {dataset}\n\n{grid(titles, lines)}\n")
    own = [row for row in rows if row["dataset"] == "cifar10"]
    if own:
        keys = [f"{other} {report}" for other in BUDGETS for report in REPORTS]
        titles = ["strategy", *(k.replace("_200", "") for k in keys), "evaluations"]
        lines = [
            [
                row["label"],
                *(shown(row["in short budget"][key]) for key in keys),
                f"{row['within_short_budget']:.0f}",
            ]
            for row in own
        ]
        parts.append(
            f"### Searched on cifar10 in {SHORT_BUDGET:,} s, reported on all\n\n"
            f"{grid(titles, lines)}\n"
        )
    return "\n".join(parts)


def grid(titles: list[str], lines: list[list[str]]) -> str:
    """Markdown."""
    rule = ["---"] * len(titles)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in [titles, rule, *lines])


def shown(spread: dict[str, float] | None) -> str:
    if spread is None:
        return ""
    return f"{spread['mean']:.2f} ± {spread['std']:.2f}"


def margin(row: dict[str, Any], reference: dict[str, Any] | None, key: str) -> str:
    """Difference of the means and its standard error, of independent seeds."""
    if reference is None or key not in row or key not in reference or row is reference:
        return ""
    own, other = row[key], reference[key]
    error = math.hypot(own["standard_error"], other["standard_error"])
    return f"{own['mean'] - other['mean']:+.2f} ± {error:.2f}"


def speed_text(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return ""
    row = rows[-1]
    seconds = {k: statistics.median(v) for k, v in row["seconds"].items()}
    best = row["mean_best_val_12"]
    return (
        f"\n### Speed\n\n{row['seeds']:,} searches of {row['evaluations']} "
        f"evaluations by regularized evolution (10/3): {seconds['compiled']:.2f} s "
        f"compiled (first call {row['first_call_seconds']:.1f} s), "
        f"{seconds['python']:.2f} s as a plain Python loop of one process: "
        f"{row['ratio']:.1f} times (median of 3 pairs; {row['device']}, jax "
        f"{row['jax']}, Python {row['python']}). Mean best val_12: "
        f"{best['compiled']:.3f} and {best['python']:.3f}.\n"
    )


def read(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


def append(path: Path, row: dict[str, Any]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    jax.config.update("jax_numpy_rank_promotion", "raise")
    main(tyro.cli(Config))
