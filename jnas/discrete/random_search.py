"""Random search."""

from typing import Any

from jnas import domain
from jnas.discrete.base import Strategy, build

__all__ = ["random_search"]


def random_search(space: Any) -> Strategy:
    """Candidates drawn uniformly, with replacement: the baseline of every comparison.

    Li & Talwalkar, Random search and reproducibility for NAS (UAI 2019).

    Args:
      space: a space or its name.

    Returns:
      The strategy.

    Raises:
      JnasError: the space is unknown or has no genes.

    Example:
      >>> import jax
      >>> strategy = random_search("nasbench201")
      >>> proposal, state = strategy.ask(strategy.init(jax.random.key(0)), 2)
      >>> proposal.genes.shape
      (2, 6)
    """
    own = domain.of(space)

    def propose(inner, *, key, **context):
        return own.sample(key), inner

    return build(
        own.space,
        "random_search",
        init=lambda key: (),
        propose=propose,
        learn=lambda inner, **context: inner,
        config={"strategy": "random_search"},
    )
