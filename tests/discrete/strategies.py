"""Every strategy, small, for the conformance suite: `(space) -> Strategy`.

A new strategy is tested by being added here; `test_registry_is_complete` fails until
it is.
"""

from jnas import discrete

STRATEGIES = {
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
    "Objective", "Proposal", "State", "Strategy", "build", "finite", "load_state",
    "save_state", "seed_axes",
    "Trials", "built_by", "dask_executor", "study", "supernet",
    "Agreement", "Finalists", "kendall_tau", "listed", "train_top", "training",
}  # fmt: skip
