"""Compile and run time of one first-order search step, as a row of JSON.

Run it alone on the machine, e.g.::

    python benchmarks/step.py --space darts --channels 16 --cells 8 --side 32

It reports figures and never passes or fails. On a CPU, set the allocator's variables as
`jnas.cli.entry` does, or the system's page faults are measured, too.
"""

import dataclasses
import json
import statistics
import time

import jax
import numpy as np
import tyro

import jnas
from jnas.run.environment import environment


@dataclasses.dataclass(frozen=True)
class Config:
    """What is measured.

    Attributes:
      space: "darts" or "nasbench201".
      channels: of the first stage.
      cells: number of cells, or of cells per stage in nasbench201.
      side: image side.
      batch_size: of both batches.
      steps: timed steps, after one that is not.
      half: "step" (both half-steps), "weights" or "arch".
      dtype: what the network computes in, "float32" or "bfloat16".
    """

    space: str = "darts"
    channels: int = 16
    cells: int = 8
    side: int = 32
    batch_size: int = 64
    steps: int = 3
    half: str = "step"
    dtype: str = "float32"


def measure(config: Config) -> dict:
    """Times one configuration."""
    depth = "cells" if config.space == "darts" else "cells_per_stage"
    search = jnas.presets.darts(
        jnas.spaces.get(config.space),
        channels=config.channels,
        dtype=config.dtype,
        **{depth: config.cells},
    )
    rng = np.random.default_rng(0)
    shape = (config.batch_size, config.side, config.side, 3)

    def batch():
        return {
            "image": rng.normal(size=shape).astype(np.float32),
            "label": rng.integers(0, 10, config.batch_size).astype(np.int32),
        }

    batches = jax.device_put((batch(), batch()))
    start = time.perf_counter()
    state = jax.block_until_ready(search.init(jax.random.key(0), batches[0]["image"]))
    row = {**dataclasses.asdict(config), "init_s": time.perf_counter() - start}
    function, batches = {
        "step": (search.step, batches),
        "weights": (search.weight_step, batches[:1]),
        "arch": (search.arch_step, batches),
    }[config.half]
    start = time.perf_counter()
    function = jax.jit(
        function, donate_argnums=0, compiler_options=jnas.compiling.options()
    )
    lowered = function.lower(state, *batches)
    row["lower_s"] = time.perf_counter() - start
    start = time.perf_counter()
    compiled = lowered.compile()
    row["compile_s"] = time.perf_counter() - start
    seconds = []
    for _ in range(config.steps + 1):
        start = time.perf_counter()
        state, _ = jax.block_until_ready(compiled(state, *batches))
        seconds.append(time.perf_counter() - start)
    row["first_step_s"], *timed = seconds
    row["step_s_median"] = statistics.median(timed)
    row["step_s_min"], row["step_s_max"] = min(timed), max(timed)
    return row | environment()


if __name__ == "__main__":
    result = measure(tyro.cli(Config))
    print(
        json.dumps(
            {k: round(v, 3) if isinstance(v, float) else v for k, v in result.items()}
        )
    )
