"""What the scripts of this folder share: sizes, a compiled step, timing in turn, rows.

Every script measures the program that `jnas.run` runs: its step with the metrics summed
up, the state donated, one step per dispatch on a CPU and a scan of several elsewhere
(`jnas.run.program`). Only the feed is another: the same two batches, which are on the
device already, so that the step alone is measured.
"""

import dataclasses
import functools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

SPACES = ("nasbench201", "darts")
STEPS_PER_EPOCH = 391  # 25,000 images in batches of 64, the last one completed


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """Options that all scripts have.

    Attributes:
      channels: of the first stage.
      cells: of the DARTS network.
      cells_per_stage: of the NAS-Bench-201 network.
      side: image side.
      batch_size: of both batches.
      dtype: of the computation; weights are float32 in either case.
      precision: of float32 products on a GPU: "default" lets both libraries use TF32,
        "highest" forbids it to both.
      chunk: steps per dispatch; default: as `jnas.run` chooses for 391 steps per epoch.
      allocator: "tuned": with the settings of ``jnas.cli`` on Linux; "default": as the
        system has it. On a CPU it matters for both libraries.
      seed: of weights, samples and images.
    """

    channels: int = 16
    cells: int = 8
    cells_per_stage: int = 5
    side: int = 32
    batch_size: int = 64
    dtype: Literal["float32", "bfloat16"] = "float32"
    precision: Literal["default", "highest"] = "default"
    chunk: int | None = None
    allocator: Literal["tuned", "default"] = "tuned"
    seed: int = 0


class Step(NamedTuple):
    """A compiled step.

    Attributes:
      take: takes the steps of one dispatch and waits until the device has finished.
      another: ``(seed) -> take`` of a search of its own by the same program.
      steps: how many that are.
      compiled: the program.
      told: what tracing and compiling took; what the persistent cache had of it.
    """

    take: Callable[[], None]
    another: Callable[[int], Callable[[], None]]
    steps: int
    compiled: Any
    told: dict[str, Any]


def entry(main: Callable[[Any], None], config_type: type) -> None:
    """Runs a script; what a user can get wrong ends in one line."""
    import tyro

    from jnas.errors import JnasError

    config = tyro.cli(config_type)
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        numbers = value if isinstance(value, tuple) else (value,)
        least = 0 if field.name == "seed" else 1
        for number in numbers:
            if type(number) is int and number < least:
                name = field.name.replace("_", "-")
                raise SystemExit(f"--{name} must be at least {least}, got {number}")
    try:
        main(config)
    except JnasError as error:
        raise SystemExit(" ".join(str(error).split())) from None
    except OSError as error:
        raise SystemExit(f"{error.filename}: {error.strerror}") from None


def check_names(option: str, names: Iterable[str], known: Sequence[str]) -> None:
    """Ends the script at a name that is none of the known ones."""
    for name in names:
        if name not in known:
            raise SystemExit(f"{option}: unknown {name!r}, one of {', '.join(known)}")


def prepare(sizes: Sizes) -> None:
    """Before the first use of JAX: memory, and the precision of products.

    Glibc reads its allocator's settings at the start of a process only, so on Linux the
    script starts itself anew with those of ``jnas.cli``.
    """
    from jnas import cli

    wanted = cli._ALLOCATOR
    given = any(name in os.environ for name in wanted)
    if sizes.allocator == "tuned" and sys.platform == "linux" and not given:
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | wanted)
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax

    if sizes.precision == "highest":
        jax.config.update("jax_default_matmul_precision", "highest")


def depth(space: str, sizes: Sizes) -> dict[str, int]:
    """The option that sets the number of cells."""
    if space == "darts":
        return {"cells": sizes.cells}
    return {"cells_per_stage": sizes.cells_per_stage}


def compose(case: str, sizes: Sizes) -> Any:
    """The search of a case: a space, "_second" or "_exact" behind it, or "gdas"."""
    import jnas

    space, _, kind = case.partition("_")
    options: dict[str, Any] = {
        "channels": sizes.channels,
        "dtype": sizes.dtype,
        **depth(space, sizes),
    }
    if kind:
        method = "finite_difference" if kind == "second" else "exact"
        options |= {"order": 2, "second_order": method}
    preset = jnas.presets.gdas if space == "gdas" else jnas.presets.darts
    name = "darts" if space == "darts" else "nasbench201"
    return preset(jnas.spaces.get(name), **options)


def batches(sizes: Sizes) -> list[dict[str, Any]]:
    """A training and a validation batch; noise, as only speed is looked at."""
    import numpy as np

    rng = np.random.default_rng(sizes.seed)
    shape = (sizes.batch_size, sizes.side, sizes.side, 3)
    return [
        {
            "image": rng.normal(size=shape).astype(np.float32),
            "label": rng.integers(0, 10, sizes.batch_size).astype(np.int32),
        }
        for _ in range(2)
    ]


def same_batches(given: Any, key: Any, step: Any) -> Any:
    """A feed that gives the same batches at every step."""
    del key, step
    return given


def compile_step(search: Any, sizes: Sizes, seeds: int | None = None) -> Step:
    """Compiles the step as the loop of `jnas.run` does.

    Args:
      search: the search.
      sizes: batch, seed and chunk.
      seeds: None, or how many searches the program takes a step of, by ``vmap``.

    Returns:
      The step.
    """
    import jax
    import jax.numpy as jnp
    import numpy as np

    import jnas
    from jnas.run import program

    begin = time.perf_counter()
    train, val = jax.device_put(tuple(batches(sizes)))
    image = train["image"][:1]
    step_fn = search.step
    init_fn = functools.partial(_init, search, image)
    if seeds is not None:
        some = jax.eval_shape(init_fn, jax.random.key(0))
        axes = jnas.search.seed_axes(some)
        mapped = jax.vmap(search.step, (axes, None, None), (axes, 0))

        def step_fn(state, train, val):
            state, info = mapped(state, train, val)
            return state, jax.tree.map(jnp.mean, info)

        init_fn = jax.vmap(init_fn, out_axes=axes)
    initialise = program.initializer(init_fn)

    def begun(seed):
        key = jax.random.key(seed)
        keys = key if seeds is None else jax.random.split(key, seeds)
        return jax.block_until_ready(initialise(keys))

    state = begun(sizes.seed)
    steps = sizes.chunk or program.best_chunk(STEPS_PER_EPOCH, None)
    made = program.build(step_fn, steps)
    feed = jax.tree_util.Partial(same_batches, (train, val))
    data_key = jax.random.key(sizes.seed)
    told: dict[str, Any] = {"init_s": time.perf_counter() - begin}
    before, begin = _cached(), time.perf_counter()
    names = made.names(state, feed, data_key)
    sums = made.zeros(names)
    lowered = made.dispatch.lower(state, sums, feed, data_key, np.int32(0))
    told["lower_s"] = time.perf_counter() - begin
    begin = time.perf_counter()
    compiled = lowered.compile()
    told["compile_s"] = time.perf_counter() - begin
    told["cache"] = "none" if before is None else "warm"
    if before is not None and _cached() != before:
        told["cache"] = "cold"
    planned = compiled.memory_analysis()
    if planned is not None:
        told["temporaries_mib"] = planned.temp_size_in_bytes / 2**20

    def taker(state, sums):
        done = 0

        def take():
            nonlocal state, sums, done
            state, sums, infos = compiled(state, sums, feed, data_key, np.int32(done))
            jax.block_until_ready((state, sums, infos))
            done += steps

        return take

    def another(seed):
        return taker(begun(seed), made.zeros(names))

    told["chunk"] = steps
    return Step(taker(state, sums), another, steps, compiled, told)


def _init(search, image, key):
    return search.init(key, image)


def _cached() -> set[str] | None:
    """The programs in the persistent cache, if there is one."""
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if not folder:
        return None
    return {path.name for path in Path(folder).glob("*dispatch*-cache")}


def alternate(
    steps: dict[str, Callable[[], Any]],
    rounds: int,
    warmups: int = 1,
    limit: float | None = None,
) -> dict[str, list[float]]:
    """Seconds of each call, all in turn, round after round, the order reversed in each.

    So what else the machine does falls on all alike.

    Args:
      steps: what is called, by name; it returns when it has finished.
      rounds: timed calls of each.
      warmups: calls of each before, which are not timed.
      limit: seconds after which no further round begins; one is timed in any case.

    Returns:
      As many numbers for each name.
    """
    spent: dict[str, list[float]] = {name: [] for name in steps}
    start = time.perf_counter()
    for number in range(warmups + rounds):
        over = limit is not None and time.perf_counter() - start > limit
        if over and number > warmups:
            break
        for name in list(steps)[:: -1 if number % 2 else 1]:
            begin = time.perf_counter()
            steps[name]()
            if number >= warmups:
                spent[name].append(time.perf_counter() - begin)
    return spent


def spread(name: str, values: Sequence[float]) -> dict[str, float]:
    """Median, smallest and largest, as fields of a row."""
    return {
        name: statistics.median(values),
        f"{name}_min": min(values),
        f"{name}_max": max(values),
    }


@functools.cache
def commit() -> str:
    """Of the code that runs; "+" where files differ from it."""
    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        head = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True
        )
    except OSError:
        return "unknown"
    return head.stdout.strip() or "unknown"


def about(sizes: Sizes) -> dict[str, Any]:
    """Sizes, versions, device and commit."""
    import jax

    from jnas.run.environment import environment

    given = {f.name: getattr(sizes, f.name) for f in dataclasses.fields(Sizes)}
    if given["chunk"] is None:
        del given["chunk"]  # the step tells the one that was chosen
    if jax.default_backend() == "cpu":
        given["cpus"] = len(os.sched_getaffinity(0))
    given["load_average"] = os.getloadavg()[0]  # well above our threads: not alone
    return given | {"commit": commit()} | environment()


def append(path: Path, row: dict[str, Any]) -> dict[str, Any]:
    """Writes a row, its numbers rounded to five digits, at once; gives it back."""
    row = {k: float(f"{v:.5g}") if isinstance(v, float) else v for k, v in row.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")
    return row


def read(path: Path) -> list[dict[str, Any]]:
    """The rows that there are; a line that a kill cut short is none."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            print(f"{path}: a line is damaged and left out", file=sys.stderr)
    return rows


def show(
    config: Any,
    table: Callable[[list[dict[str, Any]]], str],
    plot: Callable[[list[dict[str, Any]], Path], None],
) -> None:
    """Prints the table of all rows in ``config.out``, and draws them if asked to."""
    rows = read(config.out)
    print(table(rows))
    if config.plot is not None:
        plot(rows, config.plot)


def markdown(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table; what is None is left empty."""
    lines = [header, ["---"] * len(header)]
    lines += [["" if cell is None else str(cell) for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def shape_of(row: dict[str, Any]) -> str:
    """The sizes of a row, as short as tables need them."""
    depth = f"L{row['cells']}"
    if "darts" not in row.get("case", row.get("space", "")):
        depth = f"N{row['cells_per_stage']}"
    dtype = "" if row["dtype"] == "float32" else f" {row['dtype']}"
    return f"C{row['channels']} {depth} {row['side']}px B{row['batch_size']}{dtype}"


def seconds(value: float | None) -> str | None:
    """Readable at any size."""
    if value is None:
        return None
    return f"{1e3 * value:.3g} ms" if value < 1 else f"{value:.3g} s"


def run_child(
    arguments: Sequence[str], environment: dict[str, str], timeout: float
) -> dict[str, Any]:
    """A row measured by a process of its own, which prints it last.

    Args:
      arguments: of Python.
      environment: variables to add.
      timeout: seconds, after which it is killed.

    Returns:
      The row, or one with ``failed``: why there is none.
    """
    command = [sys.executable, *arguments]
    try:
        done = subprocess.run(
            command,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"not done in {timeout:.0f} s"}
    try:
        return json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
        return {"failed": reason[-200:]}


def options_of(sizes: Sizes) -> list[str]:
    """Command-line arguments that give the same sizes."""
    found = []
    for field in dataclasses.fields(Sizes):
        value = getattr(sizes, field.name)
        if value is not None:
            found += [f"--{field.name.replace('_', '-')}", str(value)]
    return found


def figure(width: float = 7.0, height: float = 4.0, columns: int = 1) -> Any:
    """``(figure, axes)`` without state of pyplot."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), layout="constrained", dpi=150)
    axes = made.subplots(1, columns, squeeze=False)[0]
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    return made, axes
