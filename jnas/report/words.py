"""What a report says in words and numbers: verdicts, figures, commands."""

import math
import shlex
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jnas.report import collapse, spread
from jnas.report.comparison import standard_error
from jnas.report.runs import Run
from jnas.report.trained import Network

__all__ = [
    "commands",
    "duration",
    "judged",
    "measure",
    "over_runs",
    "setting",
    "state",
    "verdicts",
]

_CLEAR = 2.0  # standard errors


def measure(values: Sequence[float], *, bits: bool) -> str:
    """Mean and standard error of accuracies or bits.

    Args:
      values: of the seeds.
      bits: whether they are bits per token, not accuracies.

    Returns:
      Text such as "97.24% ± 0.05%".

    Example:
      >>> measure([0.5, 0.6], bits=False), measure([1.5], bits=True)
      ('55.00% ± 5.00%', '1.5000')
    """
    if not values:
        return "–"
    mean, error = statistics.fmean(values), standard_error(values)
    if bits:
        return f"{mean:.4f}" + ("" if error is None else f" ± {error:.4f}")
    return f"{mean:.2%}" + ("" if error is None else f" ± {error:.2%}")


def duration(seconds: float | None) -> str:
    """A time span in words.

    Args:
      seconds: its length.

    Returns:
      Text.

    Example:
      >>> duration(12.3), duration(4000), duration(200000)
      ('12 s', '1 h 06 min', '2 d 7 h')
    """
    if seconds is None:
        return "–"
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    minutes, whole = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {whole:02} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02} min"
    return f"{hours // 24} d {hours % 24} h"


def state(run: Run) -> str:
    """How far a run is.

    Args:
      run: the run.

    Returns:
      Text.
    """
    if run.epochs is None:
        return "complete" if run.finished else "in progress or stopped"
    done = run.history[-1]["epoch"] if run.history else 0
    if run.finished and done >= run.epochs:
        return f"complete, {run.epochs} epoch{'s'[: run.epochs != 1]}"
    if run.finished:
        return f"complete, stopped after {done} of {run.epochs} epochs"
    if done >= run.epochs:
        return f"searched to epoch {done}, retraining not complete"
    return f"in progress or stopped: epoch {done} of {run.epochs}"


def judged(run: Run) -> collapse.Verdict:
    """Whether a run collapsed.

    Args:
      run: the run.

    Returns:
      The verdict on its rows and on what was found.
    """
    method = run.setting("search.method", "method")
    return collapse.verdict(run.history, run.genotype, method)


def verdicts(run: Run) -> list[tuple[str, bool]]:
    """What is to be said of a run, most important first.

    Args:
      run: the run.

    Returns:
      Pairs (line, whether it is a warning).
    """
    lines = []
    if not run.finished:
        lines.append((f"{state(run)}; what follows is what there is so far.", True))
    lines += [(note, True) for note in run.notes]
    told = judged(run)
    # What the command has noted already is not said twice.
    heading = told.text.partition(":")[0]
    if told.level != "unknown" and not any(n.startswith(heading) for n in run.notes):
        warning = told.level != "healthy" or ":" in told.text
        lines.append((f"{told.text[0].upper()}{told.text[1:]}.", warning))
    tested = [network for network in run.networks if network.values]
    lines += [
        _against(tested[0], other)
        for other in tested[1:]
        if bool(other.bits) == bool(tested[0].bits)
    ]
    since = spread.last_change(run.history)
    if since is not None and len(run.history) > 1:
        last = run.history[-1]["epoch"]
        if since == run.history[0]["epoch"]:
            lines.append(("The derived genotype is that of the first epoch.", False))
        else:
            still = last > since
            tail = "" if still else ", so it was not settled yet"
            lines.append(
                (
                    f"The derived genotype last changed at epoch {since} of {last}"
                    f"{tail}.",
                    not still,
                )
            )
    lines += [(problem, True) for problem in run.problems]
    return lines


def over_runs(runs: Sequence[Run]) -> list[str]:
    """What the runs of each setting say together.

    Args:
      runs: the runs.

    Returns:
      A line for each setting with several runs.
    """
    lines = []
    for setting in spread.settings(runs):
        mine = [runs[index] for index in setting.indices]
        if len(mine) < 2:
            continue
        means: dict[tuple[str, bool], list[float]] = {}
        for network in (network for run in mine for network in run.networks):
            if network.values:
                mean = statistics.fmean(network.values)
                means.setdefault((network.label, bool(network.bits)), []).append(mean)
        told = []
        for (label, bits), values in means.items():
            both = spread.spread(values)
            if both.deviation is not None:
                form = "{:.4f} ± {:.4f} bits" if bits else "{:.2%} ± {:.2%}"
                told.append(f"{label} {form.format(both.mean, both.deviation)}")
        share = spread.agreement([run.genotype for run in mine if run.genotype])
        tail = []
        if told:
            tail.append(", ".join(told) + " (mean ± standard deviation over the runs)")
        if share is not None:
            tail.append(f"the genotypes have {share:.0%} of their edges in common")
        name = f", {setting.label}" if setting.label else ""
        lines.append(f"{len(mine)} runs{name}: {'; '.join(tail) or 'no result yet'}.")
    return lines


def _against(found: Network, other: Network) -> tuple[str, bool]:
    """The difference of two networks, with its standard error."""
    bits = bool(found.bits)
    difference = statistics.fmean(found.values) - statistics.fmean(other.values)
    better = difference < 0 if bits else difference > 0
    size = f"{abs(difference):.4f} bits" if bits else f"{abs(difference):.2%} points"
    size = size.replace("% points", " points")
    line = (
        f"{found.label} is {size} {'better' if better else 'worse'} than {other.label}"
    )
    if difference == 0:
        line = f"{found.label} is as good as {other.label}"
    errors = [standard_error(n.values) for n in (found, other)]
    if None in errors:
        return f"{line}; from one seed its uncertainty is not known.", not better
    error = math.hypot(*(e for e in errors if e is not None))
    clear = abs(difference) > _CLEAR * error
    scaled = f"{error:.4f}" if bits else f"{100 * error:.2f}"
    verdict = "" if clear else ": no clear difference"
    return (
        f"{line} (standard error of the difference {scaled}, seeds "
        f"{len(found.values)} and {len(other.values)}){verdict}.",
        not (clear and better),
    )


def setting(value: Any) -> str:
    """The value of a setting.

    Args:
      value: what JSON holds.

    Returns:
      Text.

    Example:
      >>> setting(None), setting(0.025), setting(True), setting([1, 2])
      ('default', '0.025', 'yes', '1, 2')
    """
    if value is None:
        return "default"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(setting(item) for item in value)
    return str(value)


def commands(run: Run) -> list[tuple[str, str]]:
    """Commands to go on with.

    Args:
      run: the run.

    Returns:
      Pairs (what for, command).
    """
    folder = shlex.quote(str(run.path))
    lines = []
    if not run.finished and (run.path / "search").is_dir():
        config = run.path / "config.json"
        if config.exists():
            again = (
                f"jnas search --config {shlex.quote(str(config))} --workdir {folder}"
            )
            lines.append(("go on where it stopped", again))
    file = run.path / "genotype.json"
    what = str(file) if file.exists() else run.genotype_text
    data = run.config.get("data", run.config.get("data.name"))
    on = f" --data {shlex.quote(data)}" if isinstance(data, str) else ""
    on = "" if data == "digits" else on  # what the commands take by themselves
    if what is not None and run.genotype is not None:
        command = f"jnas retrain {_quoted(what)}{on}"
        lines.append(("train the found network from scratch", command))
    if run.genotype is not None and file.exists():
        command = f"jnas export {folder} --as linen"
        lines.append(("a Python module of the network", command))
    if (trained := _trained(run)) is not None:
        place = shlex.quote(str(trained))
        command = f"jnas export {place} --as linen --output network.py"
        lines.append(("the same with trained weights", command))
        lines.append(("test these weights again", f"jnas evaluate {place}{on}"))
    lines.append(("make this report again", f"jnas report {folder}"))
    return lines


def _trained(run: Run) -> Path | None:
    """The folder of the first training that left weights."""
    for network in run.networks:
        name = network.label.replace(" ", "-")
        for folder in (run.path / "retrain" / name, run.path):
            for seed in network.histories:
                if (folder / f"seed{seed}" / "weights.npz").exists():
                    return folder / f"seed{seed}"
    return None


def _quoted(text: str) -> str:
    """As `shlex.quote`, but a genotype's text stays readable."""
    plain = "'" in text and not any(letter in text for letter in '"$`\\!')
    return f'"{text}"' if plain else shlex.quote(text)
