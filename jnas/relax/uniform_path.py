"""Uniform paths: Guo et al., SPOS, ECCV 2020; Li & Talwalkar, UAI 2019.

One candidate an edge, drawn uniformly; nothing is learned of the architecture. Where
the space's nodes keep some of their edges (DARTS), so many distinct incoming edges are
drawn, too, and the others weigh 0, also in ``Mixture.edges`` (Li & Talwalkar). "none"
is drawn like the other candidates, as in their code.

``fair`` is the idea of FairNAS (Chu et al., 2021) spread over steps: in each block of
as many steps as an edge has candidates, every candidate is drawn exactly once, in an
order that is drawn anew for each block. (FairNAS itself adds the gradients of such a
block into one update.) A key is new in every step and remembers nothing, so the order
comes from ``seed``, the phase and the step alone: step s is place s mod O of block
s // O. Edges draw their orders independently; which edges are kept is not part of it.

``resample_none`` is AutoDL's rule for random search on NAS-Bench-201: a node all of
whose edges would be "none" is drawn again. Here it is drawn from the distribution that
this gives at once, without a loop. Nodes that have nothing else are left alone.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jnas.errors import JnasError
from jnas.mixture import Mixture
from jnas.relax import base
from jnas.spaces import Group, Space

__all__ = ["uniform_path"]


def uniform_path(
    fair: bool = False, resample_none: bool = False, seed: int = 0
) -> base.Relaxation:
    """One uniformly drawn candidate an edge; no gradient for the architecture.

    Args:
      fair: whether every candidate is drawn once in each block of steps, see the
        module.
      resample_none: whether no node may have "none" on all its edges.
      seed: of the order of fair draws.

    Returns:
      The relaxation; arch is ``{group: [E, O]}`` of zeros, which never matters.

    Raises:
      JnasError: the options exclude each other; a sample is asked for without space.

    Example:
      >>> import jnas
      >>> space = jnas.spaces.nasbench201()
      >>> relaxation = uniform_path()
      >>> arch = relaxation.init(jax.random.key(0), space)
      >>> path = relaxation.sample(arch, key=jax.random.key(1), step=0, space=space)
      >>> path.active["cell"].shape
      (6, 1)

    References:
      Guo, Zhang, Mu, Heng, Liu, Wei, Sun, Single Path One-Shot Neural Architecture
      Search with Uniform Sampling, ECCV 2020, https://arxiv.org/abs/1904.00420; Li,
      Talwalkar, Random Search and Reproducibility for NAS, UAI 2019,
      https://arxiv.org/abs/1902.07638
    """
    if fair and resample_none:
        raise JnasError(
            "fair and resample_none exclude each other: a path that is drawn again "
            "breaks the fair order"
        )

    def init(key: jax.Array, space: Space):
        del key
        return {
            g.name: jnp.zeros((g.num_edges, g.num_operations)) for g in space.groups
        }

    def probabilities(arch, *, space=None, **context):
        del context
        zeros = arch
        if space is not None:
            dtype = jnp.result_type(*jax.tree.leaves(arch))
            shapes = {g.name: g.allowed.shape for g in space.groups}
            zeros = {name: jnp.zeros(shape, dtype) for name, shape in shapes.items()}
        return Mixture(
            {
                g: base.probabilities(jnp.zeros_like(x), base.allowed(space, g))
                for g, x in zeros.items()
            }
        )

    def sample(arch, *, key, step=0, phase=None, space=None, **context):
        del context
        if space is None:
            raise JnasError("uniform_path needs the space, got None: pass space=...")
        dtype = jnp.result_type(*jax.tree.leaves(arch))
        keys = jax.random.split(key, len(space.groups))
        weights, active, edges = {}, {}, {}
        for i, group in enumerate(space.groups):
            path_key, edge_key = jax.random.split(keys[i])
            kept = jnp.ones(group.num_edges, bool)
            if space.keep is not None:
                kept = _kept(edge_key, group, space.keep)
            if fair:
                order = jax.random.fold_in(jax.random.key(seed), 2 * i)
                if phase == "arch":
                    order = jax.random.fold_in(jax.random.key(seed), 2 * i + 1)
                k = _fair(order, group, step)
            elif resample_none and "none" in group.operations:
                k = _not_all_none(path_key, group, kept)
            else:
                k = _uniform(path_key, group.allowed)
            edges[group.name] = kept.astype(dtype)
            one_hot = jax.nn.one_hot(k, group.num_operations, dtype=dtype)
            weights[group.name] = one_hot * edges[group.name][:, None]
            if "none" in group.operations:  # so that dropped edges cost nothing
                k = jnp.where(kept, k, group.columns["none"])
            active[group.name] = k.astype(jnp.int32)[:, None]
        dropping = space.keep is not None
        return Mixture(weights, active=active, edges=edges if dropping else None)

    return base.Relaxation(init, sample, probabilities)


def _uniform(key: jax.Array, allowed: np.ndarray) -> jax.Array:
    """Of each edge one of its candidates: int ``[E]``."""
    scores = jax.random.uniform(key, allowed.shape)
    return jnp.argmax(jnp.where(allowed, scores, -1.0), axis=-1)


def _fair(key: jax.Array, group: Group, step: int | jax.Array) -> jax.Array:
    """Of each edge the candidate whose turn it is: int ``[E]``."""
    counts = jnp.asarray(group.allowed.sum(axis=1))

    def edge(number, count, allowed):
        block = jax.random.fold_in(jax.random.fold_in(key, number), step // count)
        scores = jax.random.uniform(block, allowed.shape)
        return jnp.argsort(jnp.where(allowed, scores, 2.0))[step % count]

    numbers = jnp.arange(group.num_edges)
    return jax.vmap(edge)(numbers, counts, jnp.asarray(group.allowed))


def _not_all_none(key: jax.Array, group: Group, kept: jax.Array) -> jax.Array:
    """Uniform among the paths in which every node keeps an edge that is not "none"."""
    none = group.columns["none"]
    others = np.array(group.allowed)
    others[:, none] = False
    free_key, other_key, first_key = jax.random.split(key, 3)
    free, other = _uniform(free_key, group.allowed), _uniform(other_key, others)
    # The first edge of a node that is not "none" has this distribution; the edges
    # before it are "none", those behind it free. Dropped edges count as "none".
    chance = group.allowed[:, none] / group.allowed.sum(axis=1)
    chance = jnp.where(kept, chance.astype(np.float32), 1.0)
    node_keys = jax.random.split(first_key, len(group.nodes))
    result = free
    for node_key, node in zip(node_keys, group.nodes, strict=True):
        rows = np.array(group.incoming(node))
        before = jnp.cumprod(jnp.concatenate([jnp.ones(1), chance[rows][:-1]]))
        weights = before * (1 - chance[rows])
        logits = jnp.where(weights > 0, jnp.log(jnp.maximum(weights, 1e-30)), -1e30)
        first = jax.random.categorical(node_key, logits)
        place = jnp.arange(len(rows))
        values = jnp.where(place < first, none, free[rows])
        values = jnp.where(place == first, other[rows], values)
        possible = jnp.any(weights > 0)
        result = result.at[rows].set(jnp.where(possible, values, free[rows]))
    return result


def _kept(key: jax.Array, group: Group, keep: int) -> jax.Array:
    """``keep`` distinct incoming edges of every node: booleans ``[E]``."""
    scores = jax.random.uniform(key, (group.num_edges,))
    kept = jnp.zeros(group.num_edges, bool)
    for node in group.nodes:
        rows = np.array(group.incoming(node))
        _, best = jax.lax.top_k(scores[rows], keep)
        kept = kept.at[jnp.asarray(rows)[best]].set(True)
    return kept
