"""Memory that a search step needs, by what saves or costs it.

From the compiler's plan of each program (`memory_analysis`): nothing is run on a CPU.
On an accelerator one step is taken, too, and the allocator's peak read. Rows of JSON, a
Markdown table and a plot::

    python benchmarks/speed/memory.py --out memory.jsonl

Forms: "no-donation" keeps the state before the step, "partial-channels-4" is PC-DARTS'
network, "sampled" GDAS' single path, "remat" computes cells again in the backward pass,
"second-order" is the exact derivative through one virtual step.

"Arguments" are the state and two batches, "outputs" the new state and the metrics,
"reused" what of the outputs lies in the arguments' place since the state is donated,
"temporaries" all else at the plan's highest point. The total is arguments + outputs -
reused + temporaries. Every program is compiled in a process of its own. The allocator's
peak covers all that the process did, so the initial values and what XLA allocated to
measure kernels while it compiled, too.

Figures only: it never passes or fails.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import common

# By name: options of the composition.
FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "no-donation": {"donated": False},
    "partial-channels-4": {"partial": 4},
    "sampled": {"relaxation": "gumbel_hard"},
    "remat": {"remat": True},
    "bfloat16": {"dtype": "bfloat16"},
    "bfloat16-remat": {"dtype": "bfloat16", "remat": True},
    "second-order": {"order": 2},
}
PARTS = ("arguments_mib", "outputs_mib", "reused_mib", "temporaries_mib")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(common.Sizes):
    """What is measured.

    Attributes:
      out: JSONL file to append to.
      spaces: "nasbench201" and "darts".
      forms: of the program; "plain" is what the others are compared with.
      timeout: seconds after which one form is given up.
      table: print the table of ``out`` and measure nothing.
      plot: PNG file of the table.
      inner: measure the first space and form in this very process and print the row.
    """

    out: Path
    spaces: tuple[str, ...] = common.SPACES
    forms: tuple[str, ...] = tuple(FORMS)
    timeout: float = 1200.0
    table: bool = False
    plot: Path | None = None
    inner: bool = False


def compose(
    space: str,
    sizes: common.Sizes,
    *,
    donated: bool = True,
    partial: int = 1,
    relaxation: str = "softmax",
    remat: bool = False,
    dtype: str | None = None,
    order: int = 1,
) -> Any:
    """The search of a form, from its parts: presets have no rematerialisation."""
    import jnas
    from jnas import optimizers

    del donated
    net = jnas.supernet.build(
        jnas.spaces.get(space),
        channels=sizes.channels,
        partial_channels=partial,
        remat=remat,
        dtype=dtype or sizes.dtype,
        **common.depth(space, sizes),
    )
    inner_tx = optimizers.coupled_sgd(0.025, weight_decay=3e-4, clip=None)
    hypergradient = jnas.bilevel.first_order()
    if order == 2:
        hypergradient = jnas.bilevel.unrolled(inner_tx=inner_tx)
    return jnas.search.differentiable(
        net,
        relaxation=getattr(jnas.relax, relaxation)(),
        hypergradient=hypergradient,
        weight_tx=optimizers.coupled_sgd(0.025, weight_decay=3e-4, clip=5.0),
        arch_tx=optimizers.coupled_adam(3e-4, b1=0.5, weight_decay=1e-3),
    )


def measure(space: str, form: str, config: Config) -> dict[str, Any]:
    """Compiles a form; runs it on an accelerator."""
    import jax

    import jnas

    options = FORMS[form]
    search = compose(space, config, **options)
    train, val = common.batches(config)
    key = jax.random.key(config.seed)
    donated = (0,) if options.get("donated", True) else ()
    state = jax.eval_shape(search.init, key, train["image"])
    step = jax.jit(
        search.step,
        donate_argnums=donated,
        compiler_options=jnas.compiling.options(),
    )
    compiled = step.lower(state, train, val).compile()
    plan = compiled.memory_analysis()
    if plan is None:
        raise SystemExit(f"no plan of memory on {jax.default_backend()}")
    row = {
        "arguments_mib": plan.argument_size_in_bytes / 2**20,
        "outputs_mib": plan.output_size_in_bytes / 2**20,
        "reused_mib": plan.alias_size_in_bytes / 2**20,
        "temporaries_mib": plan.temp_size_in_bytes / 2**20,
    }
    row["total_mib"] = total(row)
    if jax.default_backend() != "cpu":
        state = jax.jit(search.init)(key, train["image"][:1])
        jax.block_until_ready(compiled(state, *jax.device_put((train, val))))
        told = jax.devices()[0].memory_stats() or {}
        if "peak_bytes_in_use" in told:
            row["peak_mib"] = told["peak_bytes_in_use"] / 2**20
    return row | common.about(config)


def total(row: dict[str, float]) -> float:
    """What a plan needs at once."""
    arguments, outputs, reused, temporaries = (row[name] for name in PARTS)
    return arguments + outputs - reused + temporaries


def in_process(space: str, form: str, config: Config) -> dict[str, Any]:
    """The same in a process of its own."""
    arguments = [__file__, "--out", str(config.out), "--inner"]
    arguments += ["--spaces", space, "--forms", form, *common.options_of(config)]
    row = common.run_child(arguments, {}, config.timeout)
    if "failed" in row:
        fields = dataclasses.fields(common.Sizes)
        row |= {field.name: getattr(config, field.name) for field in fields}
    return row


def relative(rows: list[dict[str, Any]], row: dict[str, Any]) -> float | None:
    """Total by that of the plain form of the same space and sizes, if it is there."""
    same = ("space", *(f.name for f in dataclasses.fields(common.Sizes)))
    for other in reversed(rows):
        is_same = all(other.get(name) == row.get(name) for name in same)
        if is_same and other["form"] == "plain" and "total_mib" in other:
            return row["total_mib"] / other["total_mib"]
    return None


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = []
    with_peak = any("peak_mib" in row for row in rows)
    for row in rows:
        cells = [row["space"], common.shape_of(row), row["form"]]
        if "failed" in row:
            lines.append([*cells, row["failed"], *[""] * (5 + with_peak)])
            continue
        cells += [f"{row[name]:,.1f}" for name in (*PARTS, "total_mib")]
        ratio = relative(rows, row)
        cells.append("" if ratio is None else f"{ratio:.2f}")
        if with_peak:
            cells.append(f"{row['peak_mib']:,.1f}" if "peak_mib" in row else "")
        lines.append(cells)
    header = "space|sizes|form|arguments, MiB|outputs, MiB|reused, MiB|"
    header += "temporaries, MiB|total, MiB|of plain"
    header += "|peak after a step, MiB" * with_peak
    return common.markdown(header.split("|"), lines)


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Totals by form, a panel for each space."""
    rows = [row for row in rows if "failed" not in row]
    spaces = list(dict.fromkeys(row["space"] for row in rows))
    figure, axes = common.figure(4.2 * len(spaces), 3.2, len(spaces))
    for ax, space in zip(axes, spaces, strict=True):
        mine = [row for row in rows if row["space"] == space]
        places = range(len(mine))
        temporaries = [row["temporaries_mib"] for row in mine]
        rest = [row["total_mib"] - row["temporaries_mib"] for row in mine]
        ax.barh(places, rest, color="#bbbbbb", label="state, batches, outputs")
        ax.barh(places, temporaries, left=rest, color="#4477aa", label="temporaries")
        ax.set_yticks(places, [row["form"] for row in mine], fontsize=7)
        ax.invert_yaxis()
        ax.set_xlabel(f"{space}: MiB planned", fontsize=8)
        ax.tick_params(axis="x", labelsize=7)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper center", ncols=2, fontsize=7, frameon=False
    )
    figure.savefig(path)


def main(config: Config) -> None:
    """Measures, then prints the table of all rows."""
    common.check_names("--spaces", config.spaces, common.SPACES)
    common.check_names("--forms", config.forms, tuple(FORMS))
    if config.inner:
        common.prepare(config)
        print(json.dumps(measure(config.spaces[0], config.forms[0], config)))
        return
    for space in () if config.table else config.spaces:
        for form in config.forms:
            row = {"space": space, "form": form, **in_process(space, form, config)}
            row = common.append(config.out, row)
            print(space, form, row.get("total_mib", row.get("failed")), flush=True)
    common.show(config, table, plot)


if __name__ == "__main__":
    common.entry(main, Config)
