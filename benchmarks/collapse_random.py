"""Random search under the budget of a differentiable one, for `collapse.py`.

All candidates are trained by one compiled program: the supernet at a one-hot mixture,
which computes what the cell's network does (but for norms without scale and shift).
"""

import json
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import jnas
from jnas import relax
from jnas.mixture import Mixture
from jnas.run import comparing, material


def best(config: Any, data: Any, seed: int, folder: Path) -> dict[str, Any]:
    """The best of some random cells on the validation half, and what it took.

    A search computes two gradients a step; so much is divided among the candidates.
    What is measured is kept in a file of the folder, to go on with.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "candidates.json"
    known = json.loads(path.read_text()) if path.exists() else []
    space = jnas.spaces.nasbench201()
    batch = config.batch_size
    per_epoch = -(-config.images // 2 // batch)
    steps = max(1, 2 * config.epochs * per_epoch // config.candidates)
    net = jnas.supernet.build(
        space,
        channels=config.channels,
        cells_per_stage=config.cells_per_stage,
        num_classes=10,
    )
    given = relax.Relaxation(
        init=lambda key, space: jnas.mixture.uniform(space).weights,
        sample=lambda arch, **context: Mixture(arch),
        probabilities=lambda arch, **context: Mixture(arch),
    )
    rate = jnas.optimizers.cosine(
        config.learning_rate, 0.0, epochs=1, steps_per_epoch=steps, per="step"
    )
    search = jnas.search.differentiable(
        net,
        relaxation=given,
        weight_tx=jnas.optimizers.coupled_sgd(rate, weight_decay=5e-4, nesterov=True),
        arch_tx=jnas.optimizers.coupled_adam(1.0),  # never used
    )
    feed, example, _ = material.for_search(data, batch, {})

    @jax.jit
    def advance(state, feed, key, step):
        return search.weight_step(state, feed(key, step)[0])

    @jax.jit
    def accuracy(state, batch):
        mixed = search.probabilities(state.arch)
        return search.evaluate(state, mixed, batch, statistics="running")[1]["accuracy"]

    begin: Any = jax.jit(lambda key: search.init(key, example))
    for number in range(len(known), config.candidates):
        # Numbers that no other baseline draws with.
        genotype = comparing.random_genotype(space, 1000 * (seed + 1) + number)
        key = jax.random.fold_in(jax.random.key(seed), number)
        state = begin(key)
        arch = {k: jnp.asarray(v) for k, v in space.one_hot(genotype).items()}
        state = state._replace(arch=arch)
        for step in range(steps):
            if step < 2:  # the first one may compile, which is left out as elsewhere
                jax.block_until_ready(state.step)
                start = time.perf_counter()
            state, _ = advance(state, feed, key, jnp.int32(step))
        count, batches = material.validation_batches(data, batch, {})
        total = sum(float(accuracy(state, one)) for one in batches)
        spent = time.perf_counter() - start
        known.append([genotype.to_json(), total / count, spent])
        path.with_suffix(".new").write_text(json.dumps(known))
        path.with_suffix(".new").replace(path)
    text, _, _ = max(known, key=lambda row: row[1])
    return {
        "genotype": jnas.spaces.Genotype.from_json(text),
        "seconds": sum(spent for _, _, spent in known),
    }
