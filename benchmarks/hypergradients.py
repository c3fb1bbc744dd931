"""Hypergradients: what they cost, how exact they are, and what a finite difference is.

Three parts, each a command that writes rows of JSON and prints a Markdown table::

    python benchmarks/hypergradients.py cost --space nasbench201 --cells 5
    python benchmarks/hypergradients.py error
    python benchmarks/hypergradients.py deviation --space darts --cells 3 --channels 8

* cost: time and planned memory of whole search steps, as ratios to the first-order
  step. All programs are compiled first and then run in turn, round after round, so that
  a disturbance of the machine hits all alike.
* error: distance to the implicit hypergradient of a small smooth network on digits,
  trained to a minimum (float64), against cost on the same network; a plot.
* deviation: DARTS' finite difference against the exact derivative on real supernets, by
  epsilon, at the initial weights and after some steps (float64).

Figures only: it never passes or fails. On a CPU, set the allocator's variables as
`jnas.cli.entry` does, or the system's page faults are measured, too.
"""

import dataclasses
import json
import statistics
import time
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

import jnas
from jnas import bilevel, data, numerics, optimizers
from jnas.run.environment import environment


@dataclasses.dataclass(frozen=True)
class Cost:
    """Time and memory of whole steps on a supernet."""

    space: str = "nasbench201"
    channels: int = 16
    cells: int = 1
    """Number of cells, or of cells per stage in nasbench201."""
    side: int = 32
    batch_size: int = 64
    rounds: int = 5
    only: tuple[str, ...] = ()
    """Names of estimators; default all."""
    out: Path | None = None
    """JSONL file to append to."""


@dataclasses.dataclass(frozen=True)
class Error:
    """Error against cost where the truth is known."""

    width: int = 32
    examples: int = 256
    proximity: float = 0.3
    """Half of it times the squared distance to the initial weights makes the inner
    problem's minimum strict."""
    rounds: int = 20
    seed: int = 0
    out: Path | None = None
    """JSONL file to append to."""
    plot: Path | None = None
    """PNG file of the picture."""


@dataclasses.dataclass(frozen=True)
class Deviation:
    """The finite difference against the exact derivative on a supernet."""

    space: str = "nasbench201"
    channels: int = 8
    cells: int = 1
    side: int = 8
    batch_size: int = 64
    steps: tuple[int, ...] = (0, 50)
    """After how many training steps to look."""
    seeds: int = 3
    out: Path | None = None
    """JSONL file to append to."""


EPSILONS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)


def write(rows: list[dict[str, Any]], out: Path | None) -> None:
    """Appends rows with the environment; prints them as a table."""
    columns = list(rows[0])
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for row in rows:
        shown = (f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values())
        print("| " + " | ".join(shown) + " |")
    if out is not None:
        about = environment()
        with out.open("a") as file:
            for row in rows:
                file.write(json.dumps(row | about) + "\n")


def depth_of(space: str, cells: int) -> dict[str, int]:
    """The option of `jnas.supernet.build` that sets the number of cells."""
    return {"cells" if space == "darts" else "cells_per_stage": cells}


def estimators(inner_tx: Any = None) -> dict[str, bilevel.Hypergradient]:
    """Every estimator under the name that the tables use."""
    return {
        "first_order": bilevel.first_order(),
        "unrolled exact": bilevel.unrolled(inner_tx=inner_tx),
        "unrolled finite_difference": bilevel.unrolled(
            method="finite_difference", inner_tx=inner_tx
        ),
        "unrolled exact, 2 steps": bilevel.unrolled(2, inner_tx=inner_tx),
        "implicit neumann, 2 terms": bilevel.implicit("neumann", terms=2),
        "implicit cg, 3 terms": bilevel.implicit("cg", terms=3),
        "mixed_level": bilevel.mixed_level(),
        "single_level": bilevel.single_level(),
    }


def cost(config: Cost) -> None:
    """Times the whole step of each estimator in one run."""
    space = jnas.spaces.get(config.space)
    rng = np.random.default_rng(0)
    shape = (config.batch_size, config.side, config.side, 3)

    def batch():
        return {
            "image": rng.normal(size=shape).astype(np.float32),
            "label": rng.integers(0, 10, config.batch_size).astype(np.int32),
        }

    batches = jax.device_put((batch(), batch()))
    net = jnas.supernet.build(
        space, channels=config.channels, **depth_of(config.space, config.cells)
    )
    programs, rows, state = {}, {}, None
    for name, hypergradient in estimators(
        optimizers.coupled_sgd(0.025, clip=None)
    ).items():
        if config.only and name not in config.only:
            continue
        search = jnas.search.differentiable(
            net,
            hypergradient=hypergradient,
            weight_tx=optimizers.coupled_sgd(0.025),
            arch_tx=optimizers.coupled_adam(),
        )
        if state is None:
            state = search.init(jax.random.key(0), batches[0]["image"])
        start = time.perf_counter()
        step = jax.jit(search.step, compiler_options=jnas.compiling.options())
        compiled = step.lower(state, *batches).compile()
        memory = compiled.memory_analysis()
        rows[name] = {
            "part": "cost",
            "net": f"{config.space} C{config.channels} "
            f"{'L' if config.space == 'darts' else 'N'}{config.cells} "
            f"B{config.batch_size} {config.side}x{config.side}",
            "estimator": name,
            "compile_s": time.perf_counter() - start,
            "memory_mb": (memory.temp_size_in_bytes + memory.argument_size_in_bytes)
            / 1e6,
        }
        programs[name] = compiled
        jax.block_until_ready(compiled(state, *batches))
        print(f"compiled {name}: {rows[name]['compile_s']:.1f} s", flush=True)
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(config.rounds):
        for name, compiled in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(compiled(state, *batches))
            seconds[name].append(time.perf_counter() - start)
    first = next(iter(programs))
    for name, row in rows.items():
        ratios = [a / b for a, b in zip(seconds[name], seconds[first], strict=True)]
        row["step_s"] = statistics.median(seconds[name])
        row["time_ratio"] = statistics.median(ratios)
        row["time_ratio_min"], row["time_ratio_max"] = min(ratios), max(ratios)
        row["memory_ratio"] = row["memory_mb"] / rows[first]["memory_mb"]
    write(list(rows.values()), config.out)


def smooth_problem(config: Error) -> tuple[Any, Any, Any, Any]:
    """A mixture of smooth activations on digits: ``(loss, weights, arch, batches)``.

    The training loss pulls the weights to the initial ones, by ``batch["pull"]``, which
    is 0 in the validation batch.
    """
    digits = data.load("digits")

    def batch(split, pull):
        split = split.take(slice(config.examples))
        x = split.image.reshape(len(split), -1) / 255.0
        return {
            "x": jnp.asarray(x),
            "label": jnp.asarray(split.label),
            "pull": jnp.asarray(pull, jnp.float64),
        }

    batches = batch(digits.train, config.proximity), batch(digits.validation, 0.0)
    sizes = [64, config.width, config.width, 10]
    keys = jax.random.split(jax.random.key(config.seed), 4)
    start = [
        jax.random.normal(k, (m, n), jnp.float64) / np.sqrt(m)
        for k, m, n in zip(keys, sizes, sizes[1:], strict=False)
    ]
    arch = 0.5 * jax.random.normal(keys[3], (2, 3), jnp.float64)

    def loss(weights, arch, batch, key):
        del key
        x = batch["x"]
        for w, row in zip(weights, [*jax.nn.softmax(arch), None], strict=True):
            x = x @ w
            if row is not None:
                x = row[0] * x + row[1] * jnp.tanh(x) + row[2] * jax.nn.softplus(x)
        entropy = optax.softmax_cross_entropy_with_integer_labels(x, batch["label"])
        square = sum(jnp.sum((w - s) ** 2) for w, s in zip(weights, start, strict=True))
        return jnp.mean(entropy) + batch["pull"] * square / 2, None

    return loss, start, arch, batches


def train_to_minimum(loss: Any, weights: Any) -> tuple[Any, float]:
    """L-BFGS, then damped Newton steps; returns the weights and the gradient's norm."""
    tx = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(loss)

    @jax.jit
    def step(weights, state):
        value, grad = value_and_grad(weights, state=state)
        updates, state = tx.update(
            grad, state, weights, value=value, grad=grad, value_fn=loss
        )
        return optax.apply_updates(weights, updates), state

    @jax.jit
    def newton(weights, damping):
        """A Levenberg-Marquardt step and whether it went down."""
        grad = jax.grad(loss)(weights)

        def product(x):
            curved = jax.jvp(jax.grad(loss), (weights,), (x,))[1]
            return jax.tree.map(lambda a, b: a + damping * b, curved, x)

        move, _ = jax.scipy.sparse.linalg.cg(product, grad, tol=1e-8, maxiter=1000)
        reached = jax.tree.map(jnp.subtract, weights, move)
        down = loss(reached) <= loss(weights)
        weights = jax.tree.map(lambda a, b: jnp.where(down, a, b), reached, weights)
        return weights, down, numerics.global_norm(jax.grad(loss)(weights))

    state, norm, damping = tx.init(weights), np.inf, 1e-2
    for _ in range(1000):
        weights, state = step(weights, state)
    for _ in range(100):
        weights, down, norm = newton(weights, damping)
        damping *= 0.1 if down else 10.0
        if norm < 1e-11:
            break
    return weights, float(norm)


def largest_curvature(loss: Any, weights: Any, products: int = 500) -> float:
    """The Hessian's eigenvalue of largest modulus, by power iteration."""

    @jax.jit
    def step(x):
        y = jax.jvp(jax.grad(loss), (weights,), (x,))[1]
        size = numerics.global_norm(y)
        return jax.tree.map(lambda leaf: leaf / size, y), size

    x = [
        jax.random.normal(jax.random.key(i), w.shape, w.dtype)
        for i, w in enumerate(weights)
    ]
    size = 0.0
    for _ in range(products):
        x, size = step(x)
    return float(size)


def error(config: Error) -> None:
    """Relative errors against a solved linear system."""
    with jax.enable_x64(True):
        loss, weights, arch, (train, val) = smooth_problem(config)

        def inner(w):
            return loss(w, arch, train, None)[0]

        weights, norm = train_to_minimum(inner, weights)
        curvature = largest_curvature(inner, weights)
        rate = 1 / curvature
        print(f"trained: gradient norm {norm:.1e}, largest curvature {curvature:.3g}")
        key = jax.random.key(0)
        tx = optax.sgd(rate)
        candidates = {
            "implicit cg, 1000": bilevel.implicit("cg", terms=1000, tolerance=1e-12),
            "first_order": bilevel.first_order(),
            **{
                f"unrolled exact, {k}": bilevel.unrolled(k)
                for k in (1, 2, 4, 8, 16, 64)
            },
            **{
                f"unrolled finite_difference, {e:g}": bilevel.unrolled(
                    method="finite_difference", epsilon=e
                )
                for e in (1e-1, 1e-2)
            },
            **{
                f"implicit neumann, {k}": bilevel.implicit(
                    "neumann", terms=k, step_size=rate
                )
                for k in (0, 1, 2, 4, 8, 16, 64)
            },
            **{
                f"implicit cg, {k}": bilevel.implicit("cg", terms=k)
                for k in (1, 2, 4, 8, 16, 64)
            },
            "mixed_level": bilevel.mixed_level(),
        }
        programs, grads, infos = {}, {}, {}
        for name, hypergradient in candidates.items():

            def estimate(w, a, hypergradient=hypergradient):
                return hypergradient.estimate(
                    (),
                    loss,
                    loss,
                    w,
                    a,
                    train,
                    val,
                    weight_tx=tx,
                    weight_opt_state=tx.init(w),
                    key=key,
                )

            programs[name] = jax.jit(estimate)
            grads[name], _, infos[name] = jax.device_get(programs[name](weights, arch))
        truth_name = "implicit cg, 1000"
        truth = grads[truth_name]
        print(f"truth: relative residual {float(infos[truth_name]['residual']):.1e}")
        seconds: dict[str, list[float]] = {name: [] for name in programs}
        for _ in range(config.rounds):
            for name, program in programs.items():
                if name == truth_name:
                    continue
                start = time.perf_counter()
                jax.block_until_ready(program(weights, arch))
                seconds[name].append(time.perf_counter() - start)
    base = seconds["first_order"]
    rows = []
    for name in candidates:
        if name == truth_name:
            continue
        ratios = [a / b for a, b in zip(seconds[name], base, strict=True)]
        grad = grads[name]
        rows.append(
            {
                "part": "error",
                "net": f"smooth, width {config.width}, pull {config.proximity:g}",
                "estimator": name,
                "relative_error": float(
                    np.linalg.norm(grad - truth) / np.linalg.norm(truth)
                ),
                "cosine": cosine(grad, truth),
                "time_ratio": statistics.median(ratios),
            }
        )
    write(rows, config.out)
    if config.plot is not None:
        draw(rows, config.plot)


def cosine(a: Any, b: Any) -> float:
    """Of the angle between two trees; NaN if one is zero."""
    a, b = (np.concatenate([np.ravel(x) for x in jax.tree.leaves(t)]) for t in (a, b))
    size = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / size) if size else float("nan")


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Error against cost, one line per family of estimators."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    families: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        families.setdefault(row["estimator"].partition(",")[0], []).append(row)
    for (name, members), marker in zip(families.items(), "sov^DPX*", strict=False):
        members = sorted(members, key=lambda row: row["time_ratio"])
        axes.plot(
            [row["time_ratio"] for row in members],
            [row["relative_error"] for row in members],
            marker=marker,
            label=name,
        )
        for row in members:
            number = row["estimator"].partition(", ")[2]
            axes.annotate(
                number,
                (row["time_ratio"], row["relative_error"]),
                textcoords="offset points",
                xytext=(4, 4),
                fontsize=7,
            )
    axes.set(xscale="log", yscale="log")
    axes.set_xlabel("time, first order = 1")
    axes.set_ylabel("relative error of the hypergradient")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=150)


def deviation(config: Deviation) -> None:
    """Cosine and size of the finite difference's second term, by epsilon."""
    digits = data.load("digits")
    feed = data.feed(
        digits.train,
        digits.validation,
        batch_size=config.batch_size,
        mean=digits.mean,
        std=digits.std,
        augment=digits.augment,
    )
    rows = []
    with jax.enable_x64(True):
        net = jnas.supernet.build(
            jnas.spaces.get(config.space),
            channels=config.channels,
            **depth_of(config.space, config.cells),
            dtype=jnp.float64,
        )
        tx = optimizers.coupled_sgd(0.025)
        inner = optimizers.coupled_sgd(0.025, clip=None)
        softmax = jnas.relax.softmax()
        search = jnas.search.differentiable(
            net, weight_tx=tx, arch_tx=optimizers.coupled_adam()
        )

        def double(tree):
            return jax.tree.map(
                lambda x: (
                    x.astype(jnp.float64)
                    if jnp.issubdtype(x.dtype, jnp.floating)
                    else x
                ),
                tree,
            )

        def batch_of(key, step):
            return double(feed(key, step))

        @jax.jit
        def compare(state, key, step, epsilons):
            train, val = batch_of(key, step)

            def loss(weights, arch, batch, key):
                del key
                logits, _ = net.apply(
                    weights,
                    state.model_state,
                    softmax.probabilities(arch),
                    batch["image"],
                    train=True,
                )
                return search.task.loss(logits, batch)[0], None

            def estimate(**options):
                return bilevel.unrolled(inner_tx=inner, **options).estimate(
                    (),
                    loss,
                    loss,
                    state.weights,
                    state.arch,
                    train,
                    val,
                    weight_tx=tx,
                    weight_opt_state=state.weight_opt_state,
                    key=key,
                )

            exact, _, info = estimate()

            def one(epsilon):
                grad, _, info = estimate(method="finite_difference", epsilon=epsilon)
                return grad, info["response"]

            return exact, info["response"], jax.lax.map(one, epsilons)

        @jax.jit
        def weight_step(state, key, step):
            return double(search.weight_step(state, batch_of(key, step)[0])[0])

        for seed in range(config.seeds):
            key = jax.random.key(seed)
            shape = (config.batch_size, config.side, config.side, 1)
            state = double(search.init(key, jax.ShapeDtypeStruct(shape, jnp.float64)))
            state = state._replace(weight_opt_state=tx.init(state.weights))
            for step in range(max(config.steps) + 1):
                if step in config.steps:
                    found = compare(state, key, step, jnp.array(EPSILONS))
                    rows += deviation_rows(config, seed, step, jax.device_get(found))
                    print(json.dumps(rows[-len(EPSILONS) + 1]), flush=True)
                state = weight_step(state, key, step)
    write(rows, config.out)


def deviation_rows(config: Deviation, seed: int, step: int, found: Any) -> list[Any]:
    """One row per epsilon."""
    exact, response, (grads, responses) = found
    size = float(numerics.global_norm(response))
    rows = []
    for i, epsilon in enumerate(EPSILONS):
        grad, other = (jax.tree.map(lambda x, i=i: x[i], t) for t in (grads, responses))
        rows.append(
            {
                "part": "deviation",
                "net": f"{config.space} C{config.channels} "
                f"{'L' if config.space == 'darts' else 'N'}{config.cells}",
                "seed": seed,
                "step": step,
                "epsilon": epsilon,
                "response_cosine": cosine(other, response),
                "response_size_ratio": float(numerics.global_norm(other)) / size,
                "gradient_cosine": cosine(grad, exact),
                "response_share": size / float(numerics.global_norm(exact)),
            }
        )
    return rows


if __name__ == "__main__":
    command: Any = tyro.cli(
        Annotated[Cost, tyro.conf.subcommand("cost")]
        | Annotated[Error, tyro.conf.subcommand("error")]
        | Annotated[Deviation, tyro.conf.subcommand("deviation")],
        config=(tyro.conf.OmitArgPrefixes,),
    )
    {Cost: cost, Error: error, Deviation: deviation}[type(command)](command)
