"""Selection at random: a candidate drawn from the distribution that was learned.

As FBNet (Wu et al., CVPR 2019) derives its networks. Each edge's operation is drawn by
its weight; where nodes keep some of their edges, these are drawn with them, a set of
edges by the product of their weights (see `jnas.select.ranking`).
"""

from typing import Any

from jnas.mixture import Mixture
from jnas.select import base, picking, ranking
from jnas.spaces import Genotype, Space

__all__ = ["sample"]


def sample() -> base.Selector:
    """One candidate, drawn with a probability proportional to its weight.

    Returns:
      The selector; ``select`` needs a key. Operations that can't be selected are never
      drawn: the weights of the others count relative to each other.

    Raises:
      JnasError: from ``select``, when there is no key, a weight is not finite, or the
        edges of the space are optional.

    Example:
      >>> import jax, jnas
      >>> space = jnas.spaces.nasbench201()
      >>> g = sample().select(
      ...     None, jnas.mixture.uniform(space), space=space, key=jax.random.key(0))
      >>> bool(space.valid(space.encode(g)))
      True

    References:
      Wu et al., FBNet: Hardware-Aware Efficient ConvNet Design via Differentiable
      Neural Architecture Search, CVPR 2019, https://arxiv.org/abs/1812.03443
    """

    def select(
        arch: Any, mixture: Mixture, *, space: Space, key=None, **context
    ) -> Genotype:
        del arch, context
        rng = picking.generator(key, "sample")
        return space.decode(ranking.draw(mixture, space, rng))

    return base.Selector(select)
