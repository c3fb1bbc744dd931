"""Regularized evolution as a plain Python loop, for `discrete.py`."""

import collections
import random


def evolve(
    known: dict[tuple[int, ...], float],
    evaluations: int,
    seed: int,
    population: int = 10,
    sample: int = 3,
) -> float:
    """Returns the best score of one search in NAS-Bench-201's space.

    The algorithm of `jnas.discrete.regularized_evolution` with mutation="node".
    """
    rng = random.Random(seed)
    alive: collections.deque = collections.deque()
    best = float("-inf")
    edges = ((0,), (1, 2), (3, 4, 5))
    for number in range(evaluations):
        if number < population:
            genes = tuple(rng.randrange(5) for _ in range(6))
        else:
            contest = (alive[rng.randrange(population)] for _ in range(sample))
            parent = max(contest, key=lambda member: member[1])[0]
            place = rng.choice(rng.choice(edges))
            value = rng.randrange(4)
            value += value >= parent[place]
            genes = (*parent[:place], value, *parent[place + 1 :])
        score = known[genes]
        alive.append((genes, score))
        if len(alive) > population:
            alive.popleft()
        best = max(best, score)
    return best
