"""Every strategy, small, for the conformance suite: `(space) -> Strategy`.

A new strategy is tested by being added here; `test_registry_is_complete` fails until
it is.
"""

import pytest

from jnas import discrete

# Small ensembles, few epochs: the real sizes are for benchmarks.
SMALL = {
    "capacity": 40, "initial": 4, "batch": 4, "ensemble": 2, "candidates": 8,
    "patience": 2, "layers": 2, "width": 4, "epochs": 2, "minibatch": 8,
}  # fmt: skip


def _optuna():
    optuna = pytest.importorskip("optuna")
    return optuna.samplers


STRATEGIES = {
    "bananas": lambda space: discrete.bananas(space, **SMALL),
    "bananas-genes-201": lambda space: discrete.bananas(
        space, **SMALL, mutation="genes", encoding="adjacency", acquisition="ei"
    ),
    "nsga2": lambda space: discrete.nsga2(space, population=4, tries=4),
    "nsga2-redraw": lambda space: discrete.nsga2(
        space, population=4, scores=3, mutation="redraw", crossover=0.9, tries=4
    ),
    "optuna_sampler-tpe": lambda space: discrete.optuna_sampler(
        space, lambda seed: _optuna().TPESampler(seed=seed, n_startup_trials=5)
    ),
    "optuna_sampler-random": lambda space: discrete.optuna_sampler(
        space, "RandomSampler", ordered=True
    ),
    "optuna_sampler-nsga2": lambda space: discrete.optuna_sampler(
        space,
        lambda seed: _optuna().NSGAIISampler(seed=seed, population_size=4),
        scores=2,
    ),
    "pnas": lambda space: discrete.pnas(
        space, survivors=8, ensemble=2, embedding=4, hidden=(4,), epochs=2, minibatch=8
    ),
    "random_search": discrete.random_search,
    "regularized_evolution": lambda space: discrete.regularized_evolution(
        space, population=4, sample=2
    ),
    "regularized_evolution-node": lambda space: discrete.regularized_evolution(
        space, population=4, sample=2, mutation="node", identity=0.05
    ),
    "regularized_evolution-worst": lambda space: discrete.regularized_evolution(
        space, population=4, sample=4, ageing=False
    ),
}
# In the room's namespace, but no strategy.
OTHERS = {
    "Objective", "Proposal", "State", "Strategy", "build", "finite", "front",
    "hypervolume", "load_state", "non_dominated", "save_state", "seed_axes",
}  # fmt: skip
