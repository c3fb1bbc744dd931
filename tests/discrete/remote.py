"""What worker processes import in tests of studies; a script for one to be killed."""

import dataclasses
import functools
import os
import sys
import time

import numpy as np

import jnas
from jnas import discrete

SPACE = jnas.spaces.nasbench201()


def score(genes):
    """A sum that tells candidates apart."""
    return (np.asarray(genes) * 3.0 ** np.arange(6)).sum(-1)


@dataclasses.dataclass(frozen=True)
class Slow:
    """Sleeps, then adds; fails, dies or draws where it is told to."""

    sleep: float = 0.0
    raises: int = -1  # first gene of candidates that raise
    dies: int = -1  # first gene of candidates that kill their process
    noise: float = 0.0

    def evaluate(self, genes, key, fidelity):
        import jax

        time.sleep(self.sleep)
        if (genes[:, 0] == self.raises).any():
            raise RuntimeError("no memory\nleft")
        if (genes[:, 0] == self.dies).any():
            os._exit(9)
        noise = self.noise * np.asarray(jax.random.normal(key, (len(genes),)))
        return score(genes) + noise, fidelity * 2

    def objective(self):
        return discrete.Objective(
            SPACE, self.evaluate, "slow", config=dataclasses.asdict(self)
        )


def counting(start):
    """Scores are numbers of the calls of this copy."""
    calls = [start]

    def evaluate(genes, key, fidelity):
        calls[0] += 1
        return np.full(len(genes), calls[0]), fidelity

    return discrete.Objective(SPACE, evaluate, "counting")


@functools.cache  # so that it is compiled once
def strategy():
    return discrete.regularized_evolution(SPACE, population=4, sample=2)


def run(workdir, sleep, evaluations=12, **options):
    options = {"batch": 3, "seed": 5, **options}
    return discrete.study(
        strategy(),
        Slow(sleep, noise=0.1).objective(),
        evaluations=evaluations,
        workdir=workdir,
        **options,
    )


if __name__ == "__main__":
    run(sys.argv[1], 0.4)
