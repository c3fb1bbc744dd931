"""What a device can do, and what share of it a search step reaches.

Ceilings are measured: matrix products of several sizes, 3x3 convolutions of the
networks' sizes (forward), and a copy ``a = 2 * a`` of a large array, in place. Then the
step of each space is timed and compared with them. Rows of JSON, Markdown tables and a
plot::

    python benchmarks/speed/roofline.py --out roofline.jsonl

What the columns mean:

* "needed": operations of all candidates by formula, five forward passes a step
  (`flops.needed`), whatever the form in which they are computed;
* "computed": products in the program as traced, counted by `flops.count`, padding
  included; depthwise convolutions as block-diagonal products and the like make it
  larger than what is needed, shifted products that are no products of matrices make it
  smaller: these are in "elementwise";
* "XLA": operations and bytes of the compiled program by its own cost analysis. Its
  bytes are what all kernels read and write after fusion, each operand and output
  once per kernel, whether they come from a cache or from memory; so the time that they
  take at the measured bandwidth is a bound for programs that reuse nothing from caches,
  and can exceed what was measured. Of a scan one step counts;
* "at the roofline": the larger of computed products at the best matrix product's rate
  and bytes at the copy's; "bound" says which.

Figures only: it never passes or fails. Run it alone on the machine.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import common
import flops


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(common.Sizes):
    """What is measured.

    Attributes:
      out: JSONL file to append to.
      spaces: "nasbench201" and "darts"; none: the ceilings only.
      matrices: sizes of square products; default by device.
      copy_mib: size of the array that is copied; default: 256, on a GPU 2048.
      rounds: timed turns, after one that is not.
      ceilings: measure the ceilings; else those of the device in ``out`` are taken.
      table: print the table of ``out`` and measure nothing.
      plot: PNG file of the table.
    """

    out: Path
    spaces: tuple[str, ...] = common.SPACES
    matrices: tuple[int, ...] | None = None
    copy_mib: int | None = None
    rounds: int = 5
    ceilings: bool = True
    table: bool = False
    plot: Path | None = None


def best_time(call: Callable[[], Any], rounds: int, least: float = 0.02) -> float:
    """Seconds of a call: the best of several turns, each of at least some time."""
    import jax

    jax.block_until_ready(call())
    begin = time.perf_counter()
    jax.block_until_ready(call())
    repeats = max(1, math.ceil(least / max(time.perf_counter() - begin, 1e-7)))
    found = math.inf
    for _ in range(rounds):
        begin = time.perf_counter()
        for _ in range(repeats):
            last = call()
        jax.block_until_ready(last)
        found = min(found, (time.perf_counter() - begin) / repeats)
    return found


def ceilings(config: Config) -> Iterator[dict[str, Any]]:
    """Measures one ceiling after another."""
    import jax
    import jax.numpy as jnp

    on_cpu = jax.default_backend() == "cpu"
    matrices = config.matrices or ((512, 1024, 2048) if on_cpu else (2048, 4096, 8192))
    mib = config.copy_mib or (256 if on_cpu else 2048)
    chain = 8 if on_cpu else 32  # in one program, so that its start doesn't count
    key = jax.random.key(config.seed)

    def normal(shape, dtype, fan_in):
        # Divided so that chained products keep their size.
        return (jax.random.normal(key, shape) / math.sqrt(fan_in)).astype(dtype)

    def products(x, w):
        for _ in range(chain):
            x = x @ w
        return x

    def convolutions(x, w):
        for _ in range(chain):
            x = jax.lax.conv_general_dilated(
                x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
        return x

    def row(kind, sizes, function, *args):
        work = flops.count(jax.make_jaxpr(function)(*args)).products
        jitted = jax.jit(function)
        spent = best_time(lambda: jitted(*args), config.rounds)
        about = {"ceiling": kind, "operand_dtype": args[0].dtype.name, "of": sizes}
        return about | {"per_s": work / spent, "call_s": spent}

    def copy():
        # In place, else a CPU's allocator fetches new pages from the system each time.
        array = jnp.zeros(mib * 2**18)
        double = jax.jit(lambda a: 2 * a, donate_argnums=0)

        def call():
            nonlocal array
            array = double(array)
            return array

        spent = best_time(call, config.rounds)
        about = {"ceiling": "copy", "operand_dtype": "float32", "of": f"{mib} MiB"}
        return about | {"per_s": 2 * array.nbytes / spent, "call_s": spent}

    for dtype in (jnp.float32, jnp.bfloat16):
        for n in matrices:
            args = normal((n, n), dtype, 1), normal((n, n), dtype, n)
            yield row("matrix product", f"{n}x{n}", products, *args)
        for stage in range(3):
            width, side = config.channels << stage, max(config.side >> stage, 1)
            shape = (config.batch_size, side, side, width)
            kernel = normal((3, 3, width, width), dtype, 9 * width)
            args = normal(shape, dtype, 1), kernel
            yield row("3x3 convolution", str(list(shape)), convolutions, *args)
    yield copy()


def best(rows: list[dict[str, Any]], kind: str, dtype: str | None = None) -> float:
    """The highest of the measured ceilings of a kind."""
    found = [
        row["per_s"]
        for row in rows
        if row.get("ceiling") == kind and dtype in (None, row["operand_dtype"])
    ]
    if not found:
        raise SystemExit(
            "there are no ceilings in --out yet: run without --no-ceilings"
        )
    return max(found)


def bounds(
    products: float, moved: float, peak: float, bandwidth: float
) -> tuple[float, str]:
    """``(seconds at the roofline, what bounds them)``."""
    by_products, by_memory = products / peak, moved / bandwidth
    if by_products >= by_memory:
        return by_products, "products"
    return by_memory, "memory"


def of_one_step(total: float, counted: float, steps: int) -> float:
    """XLA's figure of a program of several steps, for one of them.

    Its analysis counts the body of a scan once, or each turn where it knows how many
    there are: whichever is nearer to what was counted.
    """
    if not total or not counted:
        return 1.0
    off = [abs(math.log(total / times / counted)) for times in (1, steps)]
    return 1.0 if off[0] <= off[1] else float(steps)


def measure(space: str, config: Config, known: list[dict[str, Any]]) -> dict[str, Any]:
    """The step of a space against the ceilings."""
    import jax

    search = common.compose(space, config)
    train, val = common.batches(config)
    state = jax.eval_shape(search.init, jax.random.key(0), train["image"])
    traced = jax.make_jaxpr(search.step)(state, train, val)
    backend = jax.default_backend()
    platform = {"gpu": "cuda"}.get(backend, backend)
    own = flops.count(traced, platform)
    inside = flops.count(traced, platform, padding=False)
    step = common.compile_step(search, config)
    spent = common.alternate({"step": step.take}, config.rounds, 2)["step"]
    each = [value / step.steps for value in spent]
    analysis = step.compiled.cost_analysis() or {}
    if isinstance(analysis, list):  # one for each partition
        analysis = analysis[0]
    turns = of_one_step(
        analysis.get("flops", 0.0), inside.products + inside.elementwise, step.steps
    )
    moved = analysis.get("bytes accessed", 0.0) / turns
    peak = best(known, "matrix product", config.dtype)
    seconds, bound = bounds(own.products, moved, peak, best(known, "copy"))
    row = common.spread("step_s", each) | {
        "needed": flops.needed(space, config),
        "computed": own.products,
        "computed_inside": inside.products,
        "elementwise": own.elementwise,
        "xla_flops": analysis.get("flops", 0.0) / turns,
        "xla_bytes": moved,
        "xla_divided_by": turns,
        "peak_per_s": peak,
        "bandwidth_per_s": best(known, "copy"),
        "roofline_s": seconds,
        "bound": bound,
    }
    row["share"] = seconds / row["step_s"]
    return row | step.told | common.about(config)


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: the ceilings, and the steps."""
    parts = []
    tops = [row for row in rows if "ceiling" in row]
    if tops:
        lines = []
        for row in tops:
            unit = "GB/s" if row["ceiling"] == "copy" else "GFLOP/s"
            rate = f"{row['per_s'] / 1e9:,.4g} {unit}"
            lines.append([row["ceiling"], row["operand_dtype"], row["of"], rate])
        header = ("ceiling", "dtype", "sizes", "measured")
        parts.append(common.markdown(header, lines))
    lines = []
    for row in rows:
        if "ceiling" in row:
            continue
        at = row["step_s"]
        lines.append(
            [
                row["space"],
                common.shape_of(row),
                common.seconds(at),
                f"{row['needed'] / 1e9:,.4g}",
                f"{row['computed'] / 1e9:,.4g}",
                f"{row['elementwise'] / 1e9:,.3g}",
                f"{row['xla_flops'] / 1e9:,.4g}",
                f"{row['xla_bytes'] / 1e9:,.4g}",
                f"{row['computed'] / at / 1e9:,.4g} "
                f"({row['computed'] / at / row['peak_per_s']:.0%})",
                f"{row['xla_bytes'] / at / 1e9:,.4g} "
                f"({row['xla_bytes'] / at / row['bandwidth_per_s']:.0%})",
                f"{common.seconds(row['roofline_s'])} ({row['bound']})",
                f"{row['share']:.0%}",
            ]
        )
    if lines:
        header = "space|sizes|step|needed, GFLOP|computed, GFLOP|elementwise, GFLOP|"
        header += "XLA, GFLOP|XLA, GB|GFLOP/s (of peak)|GB/s (of copy)|"
        header += "at the roofline (bound)|share"
        parts.append(common.markdown(header.split("|"), lines))
    return "\n\n".join(parts)


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Rate by intensity (computed products per byte of XLA), under the ceilings."""
    tops = [row for row in rows if "ceiling" in row]
    points = [row for row in rows if "ceiling" not in row]
    figure, (ax,) = common.figure(8.0, 4.0)
    bandwidth = best(tops, "copy")
    xs = [2.0 ** (k / 4) for k in range(-12, 33)]
    for dtype, shade in (("float32", "#4477aa"), ("bfloat16", "#ee6677")):
        peak = best(tops, "matrix product", dtype)
        ys = [min(peak, x * bandwidth) / 1e9 for x in xs]
        ax.plot(xs, ys, color=shade, label=f"{dtype} product, copy")
        conv = best(tops, "3x3 convolution", dtype) / 1e9
        label = f"{dtype} 3x3 convolution, best"
        ax.axhline(conv, color=shade, linewidth=0.8, linestyle=":", label=label)
    for row, marker in zip(points, "osD^v<>" * len(points), strict=False):
        x = row["computed"] / row["xla_bytes"]
        y = row["computed"] / row["step_s"] / 1e9
        label = f"{row['space']} {common.shape_of(row)}"
        ax.plot(x, y, marker, color="#222222", markersize=5, label=label)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set_xlabel("products computed per byte moved, FLOP/byte")
    ax.set_ylabel("GFLOP/s")
    figure.legend(loc="outside right upper", fontsize=7, frameon=False)
    figure.savefig(path)


def main(config: Config) -> None:
    """Measures, then prints the table of all rows."""
    common.check_names("--spaces", config.spaces, common.SPACES)
    if not config.table:
        common.prepare(config)
        device = common.about(config)["device"]
        if config.ceilings:
            for found in ceilings(config):
                row = common.append(config.out, found | common.about(config))
                what = f"{row['ceiling']} {row['operand_dtype']} {row['of']}"
                print(f"{what}: {row['per_s'] / 1e9:,.4g} G/s", flush=True)
        known = [row for row in common.read(config.out) if row["device"] == device]
        for space in config.spaces:
            row = {"space": space} | measure(space, config, known)
            common.append(config.out, row)
            print(space, f"{row['share']:.0%} of the roofline", flush=True)
    common.show(config, table, plot)


if __name__ == "__main__":
    common.entry(main, Config)
