"""Every strategy, small, for the conformance suite: `(space) -> Strategy`.

A new strategy is tested by being added here; `test_registry_is_complete` fails until
it is.
"""

import pytest

from jnas import discrete

# Small ensembles, few epochs: the real sizes are for benchmarks.
SMALL = {
    "capacity": 40, "initial": 4, "batch": 4, "ensemble": 2, "candidates": 8,
    "patience": 2, "layers": 1, "width": 4, "epochs": 2, "minibatch": 8,
}  # fmt: skip


def _optuna():
    optuna = pytest.importorskip("optuna")
    return optuna.samplers


STRATEGIES = {
    "local_search": lambda space: discrete.local_search(space, initial=3),
    "local_search-full": lambda space: discrete.local_search(
        space, initial=2, query="full", at_minimum="continue", capacity=100
    ),
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
    "genetic": lambda space: discrete.genetic(
        space, population=6, elite=3, mutants=3, crossovers=2, memory=20
    ),
    "genetic-two_point": lambda space: discrete.genetic(
        space,
        population=4,
        elite=2,
        mutants=2,
        crossovers=2,
        crossover="two_point",
        memory=0,
    ),
    "reinforce": discrete.reinforce,
    "reinforce-lstm": lambda space: discrete.reinforce(
        space, policy="lstm", units=6, entropy=0.1
    ),
    "ppo": lambda space: discrete.ppo(
        space, batch=4, epochs=2, units=6, pending=8, scale=1.0
    ),
    "q_learning": lambda space: discrete.q_learning(
        space,
        schedule=[(1.0, 4), (0.5, 4), (0.1, 4)],
        replays=4,
        memory=10,
    ),
}
# In the room's namespace, but no strategy.
OTHERS = {
    "Agreement",
    "Curve",
    "Finalists",
    "Objective",
    "Proposal",
    "Result",
    "State",
    "Strategy",
    "Trials",
    "build",
    "built_by",
    "check_fit",
    "combined",
    "dask_executor",
    "finite",
    "front",
    "get",
    "hypervolume",
    "kendall_tau",
    "listed",
    "load_state",
    "make",
    "names",
    "non_dominated",
    "run",
    "save_state",
    "seed_axes",
    "spread",
    "study",
    "supernet",
    "train_top",
    "training",
}
