"""A small table with every kind of column, and its values by plain loops."""

import itertools

import numpy as np

from jnas import spaces, tabular

EPOCHS = (1, 3, 9)


def table(seed: int = 0) -> tabular.Table:
    """15 of the 18 cells of a space of three edges, in a random order."""
    rng = np.random.default_rng(seed)
    group = spaces.Group(
        "cell",
        ("none", "skip", "conv"),
        ((0, 1), (0, 2), (1, 2)),
        1,
        (2,),
        candidates=(
            ("none", "skip"),
            ("none", "skip", "conv"),
            ("none", "skip", "conv"),
        ),
    )
    space = spaces.Space("three_edges", (group,))
    genes = np.array(list(itertools.product(*map(range, space.genes))), np.int32)
    genes = rng.permutation(genes)[:15]
    seeds = rng.uniform(10, 90, (15, 4, 3))
    seeds[rng.uniform(size=seeds.shape) < 0.4] = np.nan
    seeds[3] = np.nan  # one that was never run
    values = rng.uniform(10, 90, (15, 3)).astype(np.float32)
    seconds = np.cumsum(rng.uniform(1, 5, (15, 3)), 1).astype(np.float32)
    columns = {
        "digits": {
            "val": tabular.Column(None, EPOCHS, seeds, seconds, "accuracy, %"),
            "test": tabular.Column(values, EPOCHS, None, seconds, "accuracy, %"),
            "params": tabular.Column(rng.integers(1, 10**6, 15), unit="parameters"),
        },
        "other": {"val": tabular.Column(values[:, :1], (5,))},
    }
    find = tabular.by_code(space.genes, genes)
    return tabular.Table("synthetic", space, genes, columns, find)
