"""Every strategy, small, for the conformance suite: `(space) -> Strategy`.

A new strategy is tested by being added here; `test_registry_is_complete` fails until
it is.
"""

from jnas import discrete

STRATEGIES = {
    "local_search": lambda space: discrete.local_search(space, initial=3),
    "local_search-full": lambda space: discrete.local_search(
        space, initial=2, query="full", at_minimum="continue", capacity=100
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
    "combined",
    "dask_executor",
    "finite",
    "get",
    "kendall_tau",
    "listed",
    "load_state",
    "make",
    "names",
    "run",
    "save_state",
    "seed_axes",
    "spread",
    "study",
    "supernet",
    "train_top",
    "training",
}
