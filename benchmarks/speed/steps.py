"""One search step of jnas against the same step in eager PyTorch.

Whole steps (both halves) on the same sizes, in turn, round after round, so that what
else the machine does falls on both alike. Each library has a process of its own, which
waits while the other one works (in one process they would share an allocator and
compete for threads); both use as many threads, and both have their batches on the
device. Rows of JSON, a Markdown table and a plot::

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
allocator's settings of `jnas.cli`, which PyTorch profits from even more than jnas;
``--allocator default`` leaves them out, as the published code runs.
"""

import dataclasses
import importlib.util
import json
import os
import statistics
import subprocess
import sys
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
      only: measure one library only, in rows without a ratio.
      channels_last: the layout of PyTorch's arrays.
      table: print the table of ``out`` and measure nothing.
      plot: PNG file of the table's ratios.
      inner: take steps of the first case with this library whenever a line comes on
        the standard input: what the other processes do.
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
    inner: Literal["jnas", "torch"] | None = None


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


class Worker:
    """A process that has compiled a case with one library and takes steps when asked.

    Attributes:
      steps: how many it takes in a turn.
      about: what it tells of itself.
    """

    def __init__(self, case: str, library: str, config: Config):
        command = [sys.executable, __file__, "--out", str(config.out)]
        command += ["--cases", case, "--inner", library, *common.options_of(config)]
        command += ["--threads", str(config.threads)]
        if config.torch_steps is not None:
            command += ["--torch-steps", str(config.torch_steps)]
        if config.only is not None:
            command += ["--only", config.only]
        if config.channels_last:
            command.append("--channels-last")
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        self._library = library
        self.about = json.loads(self._answer())
        self.steps = self.about.pop("steps")

    def _answer(self) -> str:
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"the process of {self._library} ended; see above")
        return line

    def turn(self) -> None:
        """Lets it take its steps, and waits."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        self._answer()

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()


def serve(case: str, config: Config) -> None:
    """What a worker does."""
    import jax

    if config.inner == "jnas":
        ours = common.compile_step(common.compose(case, config), config)
        take, steps, told = ours.take, ours.steps, ours.told
    else:
        check_torch(config)
        one, told = with_torch(case, config)
        steps = config.torch_steps or (1 if jax.default_backend() == "cpu" else 3)

        def take():
            for _ in range(steps):
                one()

        told["torch_steps"] = steps
    print(json.dumps(told | common.about(config) | {"steps": steps}), flush=True)
    for _ in sys.stdin:
        take()
        print("done", flush=True)


def measure(case: str, config: Config) -> dict[str, Any]:
    """One row."""
    row: dict[str, Any] = {"case": case, "threads": config.threads}
    libraries = ("jnas", "torch") if config.only is None else (config.only,)
    workers: dict[str, Worker] = {}
    try:
        for name in libraries:
            workers[name] = Worker(case, name, config)
            row |= workers[name].about
        on_cpu = row["device"].startswith("cpu")
        rounds = config.rounds * (3 if case == "gdas" else 1)
        warmups = config.warmups or (1 if on_cpu else 2)
        calls = {name: worker.turn for name, worker in workers.items()}
        spent = common.alternate(calls, rounds, warmups, config.limit)
        each = {n: [s / workers[n].steps for s in spent[n]] for n in workers}
    finally:
        for worker in workers.values():
            worker.close()
    for name, values in each.items():
        row |= common.spread(f"{name}_s", values)
    if config.only is None:
        pairs = zip(each["jnas"], each["torch"], strict=True)
        row |= common.spread("ratio", [b / a for a, b in pairs])
        if case == "gdas":
            means = {name: statistics.fmean(values) for name, values in each.items()}
            row["ratio"] = means["torch"] / means["jnas"]
    row["rounds"] = len(next(iter(spent.values())))
    return row | {"load_average": os.getloadavg()[0]}


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = []
    for row in rows:
        sizes = common.shape_of(row)
        if "last" in row.get("torch_layout", ""):
            sizes += ", PyTorch channels last"
        if row.get("allocator") == "default":
            sizes += ", allocator as it comes"
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
    if config.inner is not None:
        common.prepare(config)
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: config.threads])
        serve(config.cases[0], config)
        return
    if not config.table:
        threads = config.threads or len(os.sched_getaffinity(0))
        config = dataclasses.replace(config, threads=threads)
        if config.only != "jnas" and importlib.util.find_spec("torch") is None:
            raise SystemExit("steps.py needs PyTorch: pip install torch")
        for case in config.cases:
            row = common.append(config.out, measure(case, config))
            if "ratio" in row:
                print(f"{case}: {row['ratio']:.2f} times as fast", flush=True)
    common.show(config, table, plot)


def check_torch(config: Config) -> None:
    """PyTorch must be there for the same device as JAX; sets its threads."""
    import jax
    import torch

    torch.set_num_threads(config.threads)
    if config.only is None and torch.cuda.is_available() != (
        jax.default_backend() == "gpu"
    ):
        raise SystemExit(
            f"JAX runs on {jax.default_backend()} and PyTorch on "
            f"{'gpu' if torch.cuda.is_available() else 'cpu'}: install both for the "
            "same device"
        )


if __name__ == "__main__":
    common.entry(main, Config)
