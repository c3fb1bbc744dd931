"""One search step of jnas against the same step in eager PyTorch.

Whole steps (both halves) on the same sizes, in one process, in turn, round after round,
so that what else the machine does falls on both alike; both libraries use as many
threads, and both have their batches on the device. Rows of JSON, a Markdown table and a
plot::

    python benchmarks/speed/steps.py --out steps.jsonl
    python benchmarks/speed/steps.py --out steps.jsonl --cases darts nasbench201
    python benchmarks/speed/steps.py --out steps.jsonl --table

* jnas takes the steps as its loop does: one per dispatch on a CPU, on an accelerator a
  scan of several (`common`), whose time is divided by their number.
* The PyTorch side is `torch_baseline`, written as the published code computes it and
  checked against numbers of that code (`torch_baseline/check.py`); it needs PyTorch
  (``pip install torch``), which nothing else here does. Both losses are read at the end
  of each step, as that code does, which waits for the device. cuDNN chooses its
  algorithms by measurement before the timed steps, as XLA does while it compiles.
* float32 products may use TF32 in both libraries on a GPU, or in neither
  (``--precision highest``; PyTorch alone would have it in convolutions only). With
  ``--dtype bfloat16`` PyTorch runs its forward passes under autocast.
  ``--channels-last`` puts PyTorch's arrays in that layout; the published code doesn't.
* Second order is DARTS' finite difference on both sides, and jnas' exact derivative
  beside it. Each step of "gdas" draws another path on each side, so a row has three
  times as many rounds and its ratio is that of the means.

Figures only: it never passes or fails. On a CPU the script starts itself anew with the
allocator's settings of `jnas.cli`, which both sides profit from.
"""

import dataclasses
import os
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import common

CASES = (
    "nasbench201",
    "gdas",
    "nasbench201_second",
    "nasbench201_exact",
    "darts",
    "darts_second",
    "darts_exact",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(common.Sizes):
    """What is measured.

    Attributes:
      out: JSONL file to append to.
      cases: a space, with first order; "second" by finite differences; "exact" of jnas
        only, against the same PyTorch step as "second"; "gdas": one sampled path.
      rounds: timed turns of each, after those that are not.
      limit: seconds of a case after which no further round begins.
      warmups: turns before; default: 1 on a CPU, else 2.
      torch_steps: PyTorch's steps in a turn; default: 1 on a CPU, else 3.
      threads: of both libraries on a CPU; default: all cores that the process may use.
      only: measure one library only, in rows without a ratio: to see whether having
        both in one process changes anything, or where they can't share one.
      channels_last: the layout of PyTorch's arrays.
      table: print the table of ``out`` and measure nothing.
      plot: PNG file of the table's ratios.
    """

    out: Path
    cases: tuple[str, ...] = CASES
    rounds: int = 5
    limit: float | None = None
    warmups: int | None = None
    torch_steps: int | None = None
    threads: int | None = None
    only: Literal["jnas", "torch"] | None = None
    channels_last: bool = False
    table: bool = False
    plot: Path | None = None


def with_torch(case: str, config: Config) -> tuple[Callable[[], Any], dict[str, Any]]:
    """``(take one step, about it)`` of PyTorch."""
    import torch
    from torch_baseline import darts, nasbench201, steps

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cudnn.benchmark = True
    tf32 = config.precision == "default"
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.manual_seed(config.seed)
    space, _, kind = case.partition("_")
    options: dict[str, Any] = {"order": 2 if kind else 1}
    if space == "darts":
        net = darts.Supernet(config.channels, config.cells)
        arch = darts.new_arch()
    else:
        net = nasbench201.Supernet(config.channels, config.cells_per_stage)
        arch = nasbench201.new_arch()
        options |= {"nesterov": True, "weight_decay": 5e-4}
    layout = torch.channels_last if config.channels_last else torch.contiguous_format
    net = net.to(device).to(memory_format=layout)

    def forward(net, images, arch):
        with torch.autocast(device, torch.bfloat16, enabled=config.dtype == "bfloat16"):
            if space != "gdas":
                return net(images, arch)
            drawn = torch.empty_like(arch[0]).exponential_()
            path, weights = nasbench201.gumbel_path(arch[0], drawn, 10.0)
            return net(images, arch, path, weights)

    arch = [a.detach().to(device).requires_grad_() for a in arch]
    search = steps.Search(net, arch, forward=forward, **options)
    train, val = (
        (
            torch.from_numpy(b["image"].transpose(0, 3, 1, 2).copy())
            .to(device)
            .contiguous(memory_format=layout),
            torch.from_numpy(b["label"]).long().to(device),
        )
        for b in common.batches(config)
    )

    def step():
        if space == "darts" or kind:
            losses = [search.arch_step(train, val), search.weight_step(train)]
        else:
            losses = [search.weight_step(train), search.arch_step(train, val)]
        return torch.stack(losses).tolist()  # the device has finished

    about = {
        "torch": torch.__version__,
        "torch_device": device,
        "torch_layout": "channels last" if config.channels_last else "channels first",
    }
    return step, about


def measure(case: str, config: Config) -> dict[str, Any]:
    """One row."""
    import jax

    on_cpu = jax.default_backend() == "cpu"
    torch_steps = config.torch_steps or (1 if on_cpu else 3)
    row: dict[str, Any] = {"case": case, "threads": config.threads}
    turns: dict[str, tuple[int, Callable[[], Any]]] = {}
    if config.only != "torch":
        ours = common.compile_step(common.compose(case, config), config)
        turns["jnas"] = ours.steps, ours.take
        row |= ours.told
    if config.only != "jnas":
        theirs, about = with_torch(case, config)

        def several():
            for _ in range(torch_steps):
                theirs()

        turns["torch"] = torch_steps, several
        row |= about | {"torch_steps": torch_steps}
    rounds = config.rounds * (3 if case == "gdas" else 1)
    warmups = config.warmups or (1 if on_cpu else 2)
    calls = {name: call for name, (_, call) in turns.items()}
    spent = common.alternate(calls, rounds, warmups, config.limit)
    each = {name: [s / turns[name][0] for s in spent[name]] for name in turns}
    for name, values in each.items():
        row |= common.spread(f"{name}_s", values)
    if config.only is None:
        pairs = zip(each["jnas"], each["torch"], strict=True)
        row |= common.spread("ratio", [b / a for a, b in pairs])
        if case == "gdas":
            means = {name: statistics.fmean(values) for name, values in each.items()}
            row["ratio"] = means["torch"] / means["jnas"]
    return row | {"rounds": len(next(iter(spent.values())))} | common.about(config)


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = []
    for row in rows:
        sizes = common.shape_of(row)
        if "last" in row.get("torch_layout", ""):
            sizes += ", PyTorch channels last"
        if row["precision"] == "highest":
            sizes += ", no TF32"
        cells = [row["case"], sizes]
        cells += [common.seconds(row.get(f"{name}_s")) for name in ("jnas", "torch")]
        ratio = compiled = temporaries = None
        if "ratio" in row:
            ratio = f"{row['ratio']:.2f} ({row['ratio_min']:.2f}-"
            ratio += f"{row['ratio_max']:.2f})"
        if "compile_s" in row:
            compiled = f"{row['lower_s'] + row['compile_s']:.0f} ({row['cache']})"
            temporaries = f"{row.get('temporaries_mib', 0.0):,.0f}"
        lines.append([*cells, ratio, compiled, temporaries])
    header = "step|sizes|jnas|PyTorch|PyTorch / jnas (min-max)"
    header += "|trace and compile, s (cache)|temporaries, MiB"
    return common.markdown(header.split("|"), lines)


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """The ratios as bars, their range over the rounds as lines."""
    rows = [row for row in rows if "ratio" in row]
    figure, (ax,) = common.figure(height=0.9 + 0.45 * len(rows))
    places = range(len(rows))
    ratios = [row["ratio"] for row in rows]
    # The ratio of means may lie outside the range of single rounds' ratios.
    below = [max(r["ratio"] - r["ratio_min"], 0.0) for r in rows]
    above = [max(r["ratio_max"] - r["ratio"], 0.0) for r in rows]
    ax.barh(places, ratios, color="#4477aa", height=0.6)
    ax.errorbar(ratios, places, xerr=[below, above], fmt="none", ecolor="#222222")
    ax.axvline(1.0, color="#222222", linewidth=0.8, linestyle="--")
    names = [f"{row['case']}\n{common.shape_of(row)}" for row in rows]
    ax.set_yticks(places, names, fontsize=7)
    ax.invert_yaxis()
    ax.set_xlim(left=0.0)
    ax.set_xlabel("time of eager PyTorch / time of jnas, per search step")
    figure.savefig(path)


def main(config: Config) -> None:
    """Measures, then prints the table of all rows."""
    common.check_names("--cases", config.cases, CASES)
    if not config.table:
        common.prepare(config)
        threads = config.threads or len(os.sched_getaffinity(0))
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
        config = dataclasses.replace(config, threads=threads)
        if config.only != "jnas":
            check_torch(threads, config.only)
        for case in config.cases:
            row = common.append(config.out, measure(case, config))
            if "ratio" in row:
                print(f"{case}: {row['ratio']:.2f} times as fast", flush=True)
    rows = common.read(config.out)
    print(table(rows))
    if config.plot is not None:
        plot(rows, config.plot)


def check_torch(threads: int, only: str | None) -> None:
    """PyTorch must be there, for the same device as JAX; sets its threads."""
    try:
        import torch
    except ImportError:
        raise SystemExit("steps.py needs PyTorch: pip install torch") from None
    torch.set_num_threads(threads)
    if only is not None:
        return
    import jax

    if torch.cuda.is_available() != (jax.default_backend() == "gpu"):
        raise SystemExit(
            f"JAX runs on {jax.default_backend()} and PyTorch on "
            f"{'gpu' if torch.cuda.is_available() else 'cpu'}: install both for the "
            "same device"
        )


if __name__ == "__main__":
    common.entry(main, Config)
