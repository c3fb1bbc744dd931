"""Selection by validation: candidates are proposed, and the best one is taken.

SETN (Dong & Yang, ICCV 2019, section 3.3; NAS-Bench-201's code): the 100 candidates of
the highest probability under the learned distribution, each evaluated with the shared
weights. Random search with weight sharing (Li & Talwalkar, UAI 2019; RSPS in
NAS-Bench-201's code): 100 candidates drawn uniformly.

Deviations: a candidate that is drawn twice is evaluated once. What data `evaluate`
looks at is the caller's choice; the code of NAS-Bench-201 takes one validation batch.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jnas import mixture as mixtures
from jnas.errors import JnasError, unknown_name
from jnas.mixture import Mixture
from jnas.select import base, picking, ranking, removing
from jnas.spaces import Genotype, Space

__all__ = ["validated"]

_PROPOSALS = ("sample", "top", "uniform")


def validated(
    count: int = 100, propose: str = "top", metric: str | None = None
) -> base.Selector:
    """The best of some candidates on validation data.

    Args:
      count: number of candidates; at most all of the space.
      propose: "top" (those of the highest probability, exactly), "sample" (drawn from
        the distribution) or "uniform"; the last two need a key.
      metric: name of what ``evaluate`` returns; the smallest "loss" wins, the largest
        of anything else. By default "accuracy" if there is one, else "loss".

    Returns:
      The selector; ``select`` needs ``evaluate(mixture) -> {name: value}`` and, of
      equals, takes the one that was proposed first.

    Raises:
      JnasError: an option is wrong; from ``select``, when ``evaluate`` or the key is
        missing, no value is finite, or the edges of the space are optional.

    Example:
      >>> import jnas
      >>> space = jnas.spaces.nasbench201()
      >>> def evaluate(mixture):  # few convolutions are good
      ...     return {"loss": float(mixture.weights["cell"][:, 2:4].sum())}
      >>> uniform = jnas.mixture.uniform(space)
      >>> g = validated(10).select(None, uniform, space=space, evaluate=evaluate)
      >>> {edge.operation for edge in g["cell"].edges} <= {"none", "skip_connect"}
      True

    References:
      Dong, Yang, One-Shot Neural Architecture Search via Self-Evaluated Template
      Network, ICCV 2019, https://arxiv.org/abs/1910.05733
      Li, Talwalkar, Random Search and Reproducibility for Neural Architecture Search,
      UAI 2019, https://arxiv.org/abs/1902.07638
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise JnasError(f"count must be an integer >= 1, got {count!r}")
    if propose not in _PROPOSALS:
        raise unknown_name("way to propose candidates", propose, _PROPOSALS)

    def select(
        arch: Any,
        mixture: Mixture,
        *,
        space: Space,
        evaluate: Callable[[Mixture], Mapping[str, Any]] | None = None,
        key=None,
        **context,
    ) -> Genotype:
        del arch, context
        if evaluate is None:
            raise JnasError(
                "validated compares candidates on validation data: pass evaluate=..., "
                "a function of a mixture that returns {'loss': ..., 'accuracy': ...}"
            )
        genes = _proposed(mixture, space, count, propose, key)
        best, winner = -math.inf, None
        for row in dict.fromkeys(map(tuple, genes.tolist())):
            candidate = space.decode(row)
            result = evaluate(
                mixtures.from_genotype(
                    space, candidate, active=True, edges=mixture.edges is not None
                )
            )
            value = removing.score(result, metric)
            if value > best:  # not if it is NaN
                best, winner = value, candidate
        if winner is None:
            raise JnasError(
                f"none of {len(genes)} candidates has a finite result on validation "
                "data: the search diverged, derive from an earlier checkpoint"
            )
        return winner

    return base.Selector(select, needs_evaluation=True)


def _proposed(
    mixture: Mixture, space: Space, count: int, propose: str, key: Any
) -> np.ndarray:
    if propose == "top":
        return ranking.best(mixture, space, count)
    rng = picking.generator(key, f"validated(propose={propose!r})")
    if propose == "uniform":
        return space.random(rng, count)
    return np.stack([ranking.draw(mixture, space, rng) for _ in range(count)])
