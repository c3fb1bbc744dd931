"""The sections of a report, as markup: all but maps and the runs side by side."""

from collections.abc import Sequence
from typing import Any

from jnas.report import cells, page, pictures, spread, words
from jnas.report import curves as curve_pictures
from jnas.report.comparison import plot_comparison
from jnas.report.page import Pictures
from jnas.report.runs import Run

__all__ = [
    "chips",
    "commands",
    "comparison",
    "configuration",
    "curves",
    "genotypes",
    "summary",
    "versions",
]

_MOST_CELLS = 12  # genotypes drawn on one page


def chips(runs: Sequence[Run]) -> str:
    """What all runs have in common, at a glance."""
    chips = []
    for name, keys in (
        ("method", ("method", "search.method")),
        ("space", ("space", "search.supernet.space")),
        ("data", ("data", "data.name")),
        ("epochs", ("epochs",)),
        ("seed", ("seed",)),
    ):
        values = dict.fromkeys(run.setting(*keys) for run in runs)
        told = [value for value in values if value is not None]
        if told and len(", ".join(told)) < 60:
            chips.append(f"<span>{name} <b>{page.text(', '.join(told))}</b></span>")
    states = dict.fromkeys(words.state(run) for run in runs)
    chips += [f"<span>{page.text(state)}</span>" for state in list(states)[:3]]
    return f'<div class="chips">{"".join(chips)}</div>'


def summary(runs: Sequence[Run], names: Sequence[str]) -> str:
    """The most important numbers, and what is to be said of each run."""
    parts = []
    if len(runs) == 1:
        parts.append(_figures(runs[0]))
    elif lines := words.over_runs(runs):
        listed = "".join(f"<li>{page.text(line)}</li>" for line in lines)
        parts.append(f'<ul class="notes">{listed}</ul>')
    for run, name in zip(runs, names, strict=True):
        lines = "".join(
            f'<li class="warning">{page.text(line)}</li>'
            if warning
            else f"<li>{page.text(line)}</li>"
            for line, warning in words.verdicts(run)
        )
        if lines:
            heading = f"<h3>{page.text(name)}</h3>" if len(runs) > 1 else ""
            parts.append(f'{heading}<ul class="notes">{lines}</ul>')
    return page.section("summary", "Summary", *parts)


def _figures(run: Run) -> str:
    """The most important numbers of one run."""
    figures = []
    for network in [n for n in run.networks if n.values][:3]:
        kind = "test bits per token" if network.bits else "test accuracy"
        value = words.measure(network.values, bits=bool(network.bits))
        mean, _, error = value.partition(" ± ")
        seeds = f"{len(network.values)} seed{'s'[: len(network.values) > 1]}"
        note = f"± {error}, {seeds}" if error else seeds
        figures.append((mean, f"{network.label}: {kind}", note))
    if run.history:
        last = run.history[-1]
        if isinstance(entropy := last.get("arch_entropy"), float):
            figures.append((f"{entropy:.1%}", "entropy at the end", "of uniform"))
        if isinstance(skips := last.get("derived_skip_share"), float):
            figures.append((f"{skips:.0%}", "skip connections", "of the found edges"))
        figures.append((words.duration(run.seconds), "search", words.state(run)))
    boxes = "".join(
        f"<div><small>{page.text(what)}</small><b>{page.text(value)}</b>"
        f"<small>{page.text(note)}</small></div>"
        for value, what, note in figures
    )
    return f'<div class="figures">{boxes}</div>' if boxes else ""


def genotypes(runs: Sequence[Run], names: Sequence[str], shown: Pictures) -> str:
    """Each genotype once, with the runs that found it."""
    finders: dict[str, list[int]] = {}
    for index, run in enumerate(runs):
        if run.genotype_text is not None:
            finders.setdefault(run.genotype_text, []).append(index)
    parts = []
    for number, (text, indices) in enumerate(finders.items()):
        run = runs[indices[0]]
        inner = f"<pre>{page.text(text)}</pre>"
        if run.genotype is not None and number < _MOST_CELLS:
            for group in run.genotype.names:
                axes = cells.plot_cell(run.genotype, group)
                label = f"cell {group} of {text}"
                inner += shown.wide(axes.figure, label, inch=80)
        if len(finders) > 1:
            found = ", ".join(names[index] for index in indices)
            inner = page.fold(found, inner, opened=number == 0)
        parts.append(inner)
    if len(finders) > _MOST_CELLS:
        left = len(finders) - _MOST_CELLS
        parts.append(
            f'<p class="soft">Cells of the last {left} are not drawn here.</p>'
        )
    title = "Found genotype" if len(finders) == 1 else "Found genotypes"
    return page.section("genotype", title, *parts)


def comparison(runs: Sequence[Run], shown: Pictures) -> str:
    """The table and the picture of the retrained networks."""
    rows = []
    for _, name, network in pictures.networks(runs):
        rows.append(
            [
                name,
                words.measure(network.values, bits=bool(network.bits)),
                len(network.seeds) or "–",
                _count(network.parameters),
                _count(network.multiply_adds),
                words.duration(sum(network.seconds) if network.seconds else None),
            ]
        )
    if not rows:
        return ""
    bits = any(network.bits for run in runs for network in run.networks)
    figure = "test bits per token" if bits else "test accuracy"
    head = ["network", figure, "seeds", "parameters", "multiply-adds", "training time"]
    colors = pictures.colors(runs)
    plots = [
        shown.inline(plot_comparison(values, label=label, colors=colors).figure, label)
        for label, values in pictures.compared(runs).items()
    ]
    note = (
        '<p class="soft">Trained from scratch, tested on the test split: mean ± '
        "standard error over the seeds. In the picture each dot is a seed, the "
        "diamond their mean and the bar its standard error.</p>"
    )
    pair = f'<div class="pair"><div>{page.table(head, rows)}{note}</div>'
    pair += f"<div>{''.join(plots)}</div></div>"
    return page.section("comparison", "Comparison of retrained networks", pair)


def curves(what: str, histories: dict[str, Any], shown: Pictures) -> str:
    """The metrics over the epochs of the search, or of the retraining."""
    from matplotlib import figure

    panels = curve_pictures.collect(histories)
    if not panels:
        return ""
    drawn = []
    for name, curve in panels.items():
        fig = figure.Figure(figsize=(4.3, 3.0), layout="constrained")
        curve_pictures.draw_panel(fig.add_subplot(), name, curve)
        drawn.append(shown.inline(fig, f"{what}: {name} over the epochs"))
    groups = len(histories)
    note = ""
    if what == "retraining":
        note = '<p class="soft">Measured on the training batches, augmented.</p>'
    if any(len(runs) > 1 for runs in histories.values()):
        of = "each colour: " if groups > 1 else ""
        note += (
            f'<p class="soft">Thin lines are single runs or seeds; {of}the thick line '
            "is their mean, the band reaches from the lowest to the highest.</p>"
        )
    if any(curve_pictures.stage_starts(curve) for curve in panels.values()):
        note += (
            '<p class="soft">At a dotted line the next stage begins, with fewer '
            "candidates and another network.</p>"
        )
    title = f"{what.capitalize()} over the epochs"
    grid = f'<div class="panels">{"".join(drawn)}</div>'
    return page.section(what, title, grid, note)


def configuration(runs: Sequence[Run], names: Sequence[str]) -> str:
    """All settings; of several runs those first in which they differ."""
    every = dict.fromkeys(name for run in runs for name in run.config)
    if not every:
        return ""
    differ = spread.differing(runs)
    order = [*differ, *(name for name in every if name not in differ)]
    rows = [
        [
            name,
            *(
                words.setting(run.config[name]) if name in run.config else "–"
                for run in runs
            ),
        ]
        for name in order
    ]
    kinds = ["differs"] * len(differ)
    note = ""
    if len(runs) > 1:
        note = f"<p>{len(differ)} settings differ; they are marked, and on top.</p>"
        if not differ:
            note = "<p>No setting differs.</p>"
    if len(runs) > 1:
        head = ["setting", *names]
        listed = page.table(head, rows, numbers=False, kinds=kinds, name="settings")
    else:
        half = (len(rows) + 1) // 2
        listed = "".join(
            page.table(["setting", "value"], part, numbers=False, name="settings")
            for part in (rows[:half], rows[half:])
            if part
        )
        listed = f'<div class="halves">{listed}</div>'
    return page.section("configuration", "Configuration", note, listed)


def versions(runs: Sequence[Run], names: Sequence[str]) -> str:
    """Of the libraries and the machine, where they were recorded."""
    every = dict.fromkeys(name for run in runs for name in run.environment)
    if not every:
        return page.section(
            "versions",
            "Versions and device",
            '<p class="soft">Not recorded by this run (yet): they are in its '
            "summary.json, once it is complete.</p>",
        )
    rows = [[name, *(run.environment.get(name, "–") for run in runs)] for name in every]
    kinds = ["differs" if len(set(row[1:])) > 1 else "" for row in rows]
    head = ["", *(names if len(runs) > 1 else ["value"])]
    return page.section(
        "versions",
        "Versions and device",
        page.table(head, rows, numbers=False, kinds=kinds, name="settings"),
    )


def commands(runs: Sequence[Run], names: Sequence[str]) -> str:
    """Commands to go on with."""
    parts = []
    for run, name in zip(runs, names, strict=True):
        if len(runs) > 1:
            parts.append(f"<h3>{page.text(name)}</h3>")
        parts += [
            f'<p class="soft">{page.text(what)}</p><pre>{page.text(command)}</pre>'
            for what, command in words.commands(run)
        ]
    return page.section("commands", "Going on", *parts)


def _count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"
