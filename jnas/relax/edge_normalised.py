"""Edge normalisation: Xu et al., PC-DARTS, ICLR 2020, section 3.2.

Each edge has one more parameter, beta; a node's sum weighs its incoming edges by the
softmax of their betas. What is on an edge is left to another relaxation.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jnas.errors import JnasError
from jnas.relax import base
from jnas.relax.softmax import softmax
from jnas.spaces import Space

__all__ = ["edge_normalised"]


def edge_normalised(
    inner: base.Relaxation | None = None, init_scale: float = 1e-3
) -> base.Relaxation:
    """Weighs each node's incoming edges by a softmax, beside another relaxation.

    Args:
      inner: of the operations; `softmax` by default, as in the paper.
      init_scale: standard deviation of the initial beta; 1e-3 in the paper's code.

    Returns:
      The relaxation; arch is ``{"operations": arch of inner, "edges": {group: float32
      [E]}}``.

    Raises:
      JnasError: an argument is out of range; a sample is asked for without the space.

    Example:
      >>> import jnas
      >>> space = jnas.spaces.nasbench201()
      >>> relaxation = edge_normalised(init_scale=0.0)
      >>> arch = relaxation.init(jax.random.key(0), space)
      >>> edges = relaxation.probabilities(arch, space=space).edges["cell"]
      >>> [round(float(x), 3) for x in edges]
      [1.0, 0.5, 0.5, 0.333, 0.333, 0.333]

    References:
      Xu, Xie, Zhang, Chen, Qi, Tian, Xiong, PC-DARTS: Partial Channel Connections for
      Memory-Efficient Architecture Search, ICLR 2020, https://arxiv.org/abs/1907.05737
    """
    inner = inner or softmax()
    base.check_scale(init_scale)

    def init(key: jax.Array, space: Space):
        own, key = jax.random.split(key)
        keys = jax.random.split(key, len(space.groups))
        return {
            "operations": inner.init(own, space),
            "edges": {
                group.name: init_scale * jax.random.normal(k, (group.num_edges,))
                for k, group in zip(keys, space.groups, strict=True)
            },
        }

    def edges(arch, space):
        if space is None:
            raise JnasError(
                "edge_normalised needs the space, got None: pass space=..., which "
                "tells where the edges end"
            )
        weights = {}
        for name, beta in arch["edges"].items():
            group = space.group(name)
            rows = [np.array(group.incoming(node)) for node in group.nodes]
            values = [jax.nn.softmax(beta[row]) for row in rows]
            order = np.argsort(np.concatenate(rows))
            weights[name] = jnp.concatenate(values)[order]
        return weights

    def weighed(mixed, arch, space):
        weights = edges(arch, space)
        if mixed.edges is not None:
            weights = {name: weights[name] * mixed.edges[name] for name in weights}
        return mixed._replace(edges=weights)

    def probabilities(arch, *, space=None, **context):
        mixed = inner.probabilities(arch["operations"], space=space, **context)
        return weighed(mixed, arch, space)

    def sample(arch, *, space=None, **context):
        mixed = inner.sample(arch["operations"], space=space, **context)
        return weighed(mixed, arch, space)

    def after_update(old_arch, new_arch, mixture):
        changed = inner.after_update(
            old_arch["operations"], new_arch["operations"], mixture
        )
        return {**new_arch, "operations": changed}

    return base.Relaxation(init, sample, probabilities, after_update)
