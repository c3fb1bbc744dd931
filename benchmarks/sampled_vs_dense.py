"""Sampled against dense evaluation: time and planned memory, as rows of JSON.

One run measures whole search steps (both halves) of GDAS on the NAS-Bench-201 network,
once with the sampled evaluation and once with all candidates computed and weighted by
the same one-hot, each with and without rematerialised cells::

    python benchmarks/sampled_vs_dense.py --channels 16 --cells-per-stage 5

It reports figures and never passes or fails. Steps of the forms take turns, so that
what else the machine does falls on all alike; ``ratio`` is the median over the rounds
of dense by sampled. The planned memory is the compiler's, of temporaries.
"""

import dataclasses
import json
import statistics
import time

import jax
import numpy as np
import optax
import tyro

import jnas
from jnas.run.environment import environment


@dataclasses.dataclass(frozen=True)
class Config:
    """What is measured.

    Attributes:
      channels: of the first stage.
      cells_per_stage: cells in each of three stages.
      side: image side.
      batch_size: of both batches.
      steps: timed rounds, after one that is not; each draws another path.
      seed: of weights, paths and images.
    """

    channels: int = 16
    cells_per_stage: int = 5
    side: int = 32
    batch_size: int = 64
    steps: int = 5
    seed: int = 0


def dense(relaxation: jnas.relax.Relaxation) -> jnas.relax.Relaxation:
    """The same samples, evaluated with every candidate."""

    def sample(arch, **context):
        return relaxation.sample(arch, **context)._replace(active=None)

    return relaxation._replace(sample=sample)


def compiled_step(config: Config, is_sampled: bool, remat: bool, batches):
    """``(compiled step, state, row)`` of one form."""
    net = jnas.supernet.build(
        jnas.spaces.nasbench201(),
        channels=config.channels,
        cells_per_stage=config.cells_per_stage,
        remat=remat,
    )
    relaxation = jnas.relax.gumbel_hard()
    search = jnas.search.differentiable(
        net,
        relaxation=relaxation if is_sampled else dense(relaxation),
        weight_tx=jnas.optimizers.coupled_sgd(0.025, weight_decay=5e-4, nesterov=True),
        arch_tx=optax.adam(3e-4, b1=0.5),
        order="weights_first",
    )
    state = search.init(jax.random.key(config.seed), batches[0]["image"])
    start = time.perf_counter()
    step = jax.jit(
        search.step, donate_argnums=0, compiler_options=jnas.compiling.options()
    )
    lowered = step.lower(state, *batches)
    row = {"sampled": is_sampled, "remat": remat}
    row["lower_s"] = time.perf_counter() - start
    start = time.perf_counter()
    compiled = lowered.compile()
    row["compile_s"] = time.perf_counter() - start
    row["temporaries_mib"] = compiled.memory_analysis().temp_size_in_bytes / 2**20
    row["conditionals"] = compiled.as_text().count(" conditional(")
    return compiled, state, row


def measure(config: Config) -> list[dict]:
    """Measures all four forms."""
    rng = np.random.default_rng(config.seed)
    shape = (config.batch_size, config.side, config.side, 3)

    def batch():
        return {
            "image": rng.normal(size=shape).astype(np.float32),
            "label": rng.integers(0, 10, config.batch_size).astype(np.int32),
        }

    batches = jax.device_put((batch(), batch()))
    forms = [(False, False), (True, False), (False, True), (True, True)]
    parts = [list(compiled_step(config, *form, batches)) for form in forms]
    seconds: list[list[float]] = [[] for _ in forms]
    for round_ in range(config.steps + 1):
        for part, spent in zip(parts, seconds, strict=True):
            start = time.perf_counter()
            part[1], _ = jax.block_until_ready(part[0](part[1], *batches))
            if round_:
                spent.append(time.perf_counter() - start)
    rows = []
    for i, (_, _, row) in enumerate(parts):
        other = i - i % 2  # the dense one of the same remat
        row["step_s_median"] = statistics.median(seconds[i])
        row["step_s_min"], row["step_s_max"] = min(seconds[i]), max(seconds[i])
        ratios = [d / s for d, s in zip(seconds[other], seconds[i], strict=True)]
        row["ratio"] = statistics.median(ratios)
        memory = parts[other][2]["temporaries_mib"]
        row["memory_ratio"] = row["temporaries_mib"] / memory
        rows.append(dataclasses.asdict(config) | row | environment())
    return rows


if __name__ == "__main__":
    for result in measure(tyro.cli(Config)):
        rounded = {
            k: round(v, 3) if isinstance(v, float) else v for k, v in result.items()
        }
        print(json.dumps(rounded), flush=True)
