"""How the time of a search step grows: with batch, channels, cells and seeds.

One factor is varied at a time around a base configuration. Rows of JSON, a Markdown
table and a plot::

    python benchmarks/speed/scaling.py --out scaling.jsonl
    python benchmarks/speed/scaling.py --out scaling.jsonl --factors seeds --seeds 8

With several seeds, whole steps of all of them are measured in two forms, in turn with
the step of one seed: one after another through the same program, and by one program
that is mapped over the seeds (``vmap``, `jnas.search.seed_axes`). All see the same
batches. Images per second count the training images of all seeds.

Figures only: it never passes or fails. Run it alone on the machine.
"""

import dataclasses
import statistics
from pathlib import Path
from typing import Any

import common

FACTORS = ("batch_size", "channels", "cells", "seeds")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(common.Sizes):
    """What is measured; the sizes are the base.

    Attributes:
      out: JSONL file to append to.
      spaces: "nasbench201" and "darts".
      factors: which are varied.
      batch_sizes: values of the batch.
      widths: values of the channels.
      depths: cells of DARTS' network.
      depths_per_stage: cells per stage of NAS-Bench-201's network.
      seeds: numbers of seeds.
      rounds: timed turns.
      limit: seconds of a row after which no further round begins.
      warmups: turns before, which are not timed.
      table: print the table of ``out`` and measure nothing.
      plot: PNG file of the table.
    """

    out: Path
    spaces: tuple[str, ...] = ("nasbench201",)
    factors: tuple[str, ...] = FACTORS
    batch_sizes: tuple[int, ...] = (16, 32, 64, 128, 256)
    widths: tuple[int, ...] = (8, 16, 32)
    depths: tuple[int, ...] = (4, 8, 14)
    depths_per_stage: tuple[int, ...] = (1, 3, 5)
    seeds: tuple[int, ...] = (2, 4, 8)
    rounds: int = 5
    limit: float | None = None
    warmups: int = 2
    table: bool = False
    plot: Path | None = None


def plan(space: str, config: Config) -> list[tuple[str, int, Config]]:
    """``(factor, its value, configuration)`` of every row; the base once, first."""
    depth = "cells" if space == "darts" else "cells_per_stage"
    depths = config.depths if space == "darts" else config.depths_per_stage
    values = {
        "batch_size": ("batch_size", config.batch_sizes),
        "channels": ("channels", config.widths),
        "cells": (depth, depths),
    }
    rows = [("base", 1, config)]
    for factor in config.factors:
        if factor == "seeds":
            rows += [(factor, number, config) for number in config.seeds]
            continue
        option, given = values[factor]
        for value in given:
            changed: dict[str, Any] = {option: value}
            if value != getattr(config, option):
                rows.append((factor, value, dataclasses.replace(config, **changed)))
    return rows


def measure(space: str, config: Config) -> dict[str, Any]:
    """The step of one seed."""
    step = common.compile_step(common.compose(space, config), config)
    how = config.rounds, config.warmups, config.limit
    spent = common.alternate({"one": step.take}, *how)["one"]
    each = [value / step.steps for value in spent]
    per_second = config.batch_size / statistics.median(each)
    row = common.spread("step_s", each) | {"images_per_s": per_second}
    row["rounds"] = len(each)
    return row | step.told | common.about(config)


def measure_seeds(space: str, number: int, config: Config) -> dict[str, Any]:
    """The step of several seeds in both forms, and of one."""
    search = common.compose(space, config)
    one = common.compile_step(search, config)
    others = [one.another(config.seed + i) for i in range(1, number)]
    mapped = common.compile_step(search, config, seeds=number)

    def in_turn():
        for take in (one.take, *others):
            take()

    turns = {"one": one.take, "sequential": in_turn, "vmap": mapped.take}
    how = config.rounds, config.warmups, config.limit
    spent = common.alternate(turns, *how)
    row: dict[str, Any] = {"rounds": len(spent["one"])}
    for name, values in spent.items():
        each = [value / mapped.steps for value in values]
        row |= common.spread(f"{name}_s" if name != "one" else "step_s", each)
        if name != "one":
            ratios = [a / b for a, b in zip(values, spent["one"], strict=True)]
            row |= common.spread(f"{name}_ratio", ratios)
    best = min(row["sequential_s"], row["vmap_s"])
    row["images_per_s"] = number * config.batch_size / best
    return row | mapped.told | common.about(config)


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: one line a row, seeds in a table of their own."""
    own, several = [], []
    for row in rows:
        varied = row["factor"].replace("_", " ")
        if row["factor"] != "seeds":
            spread = f"({common.seconds(row['step_s_min'])} - "
            spread += f"{common.seconds(row['step_s_max'])})"
            own.append(
                [
                    row["space"],
                    varied,
                    common.shape_of(row),
                    f"{common.seconds(row['step_s'])} {spread}",
                    f"{row['images_per_s']:,.0f}",
                    f"{row['compile_s']:.0f}",
                ]
            )
            continue
        several.append(
            [
                row["space"],
                common.shape_of(row),
                row["value"],
                common.seconds(row["step_s"]),
                *(
                    f"{row[f'{form}_ratio']:.2f} ({row[f'{form}_ratio_min']:.2f}-"
                    f"{row[f'{form}_ratio_max']:.2f})"
                    for form in ("sequential", "vmap")
                ),
                f"{row['images_per_s']:,.0f}",
                f"{row['compile_s']:.0f}",
            ]
        )
    parts = []
    if own:
        header = "space|varied|sizes|step (min - max)|images/s|compile, s"
        parts.append(common.markdown(header.split("|"), own))
    if several:
        header = "space|sizes|seeds|one seed|sequential / one|vmap / one|images/s, best"
        header += "|compile of vmap, s"
        parts.append(common.markdown(header.split("|"), several))
    return "\n\n".join(parts)


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Relative time by size, a panel for each factor; dotted: in proportion."""
    factors = [f for f in FACTORS if any(row["factor"] == f for row in rows)]
    spaces = list(dict.fromkeys(row["space"] for row in rows))
    panels = max(len(factors), 1)
    figure, axes = common.figure(2.6 * max(panels, 2), 3.0, panels)
    shades = dict(zip(spaces, ("#4477aa", "#ee6677"), strict=False))
    for ax, factor in zip(axes, factors, strict=False):
        for space in spaces:
            mine = [row for row in rows if row["space"] == space]
            varied = [row for row in mine if row["factor"] == factor]
            if factor == "seeds":
                for form, style in (("sequential", "--"), ("vmap", "-")):
                    ends = [(1, 1.0)]
                    ends += [(r["value"], r[f"{form}_ratio"]) for r in varied]
                    _line(ax, ends, shades[space], style, f"{space}, {form}")
                reach = [x for x, _ in sorted(ends)]
                ax.plot(reach, reach, ":", color="#999999", linewidth=1)
                continue
            option = "cells" if space == "darts" else "cells_per_stage"
            option = option if factor == "cells" else factor
            near = [row for row in mine if row["factor"] in ("base", factor)]
            start = near[0]["step_s"]
            ends = [(row[option], row["step_s"] / start) for row in near]
            _line(ax, ends, shades[space], "-", space)
            # What is in proportion to the factor.
            reach = sorted(row[option] for row in near)
            ideal = [x / near[0][option] for x in reach]
            ax.plot(reach, ideal, ":", color="#999999", linewidth=1)
        ax.set_xscale("log", base=2)
        ax.set_yscale("log", base=2)
        ax.xaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_major_formatter("{x:.2g}")
        ax.tick_params(labelsize=7)
        ax.set_xlabel(factor.replace("_", " "), fontsize=8)
        of = "one seed" if factor == "seeds" else "the base"
        ax.set_ylabel(f"time of a step / {of}", fontsize=8)
        if factor == "seeds" or len(spaces) > 1:
            ax.legend(fontsize=6, frameon=False, handlelength=3)
    figure.savefig(path)


def _line(ax, ends, shade, style, label):
    x, y = zip(*sorted(ends), strict=True)
    ax.plot(x, y, style, color=shade, marker="o", markersize=3, label=label)


def main(config: Config) -> None:
    """Measures, then prints the table of all rows."""
    common.check_names("--spaces", config.spaces, common.SPACES)
    common.check_names("--factors", config.factors, FACTORS)
    if not config.table:
        common.prepare(config)
        for space in config.spaces:
            for factor, value, own in plan(space, config):
                if factor == "seeds":
                    row = measure_seeds(space, value, own)
                elif config.factors == ("seeds",):
                    continue  # the base is measured beside the seeds
                else:
                    row = measure(space, own)
                row = {"space": space, "factor": factor, "value": value, **row}
                common.append(config.out, row)
                print(space, factor, value, f"{row['step_s']:.4g} s", flush=True)
    common.show(config, table, plot)


if __name__ == "__main__":
    common.entry(main, Config)
