"""What is measured of a search from outside its steps: curvature, gap, entropy."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnas import mixture, numerics
from jnas.mixture import Mixture
from jnas.spaces import Genotype, Space, kinds
from jnas.spaces.kinds import SKIPS

__all__ = [
    "Diagnostics",
    "compare",
    "derived_mixture",
    "derived_skip_share",
    "inspector",
    "shares",
    "summary",
]


class Diagnostics(NamedTuple):
    """What `Search.inspect` measures on one batch, at the present arch.

    Attributes:
      loss: with the mixture of all candidates, batch statistics.
      metrics: the task's, likewise.
      derived_loss: with the derived genotype's one-hot mixture, same weights.
      derived_metrics: likewise.
      arch_entropy: as in `ArchInfo`.
      skip_share: as in `ArchInfo`.
      derived_skip_share: share of skip connections among the genotype's operations.
      lambda_max: largest eigenvalue (algebraically) of the loss' Hessian by arch, or
        None if it was not asked for.
      shares: of skips, pools, ... in the mixture, as `shares` gives them.
    """

    loss: Any
    metrics: dict[str, Any]
    derived_loss: Any
    derived_metrics: dict[str, Any]
    arch_entropy: Any
    skip_share: Any
    derived_skip_share: float
    lambda_max: Any = None
    shares: dict[str, dict[str, float]] | None = None


def derived_skip_share(genotype: Genotype) -> float:
    """The share of skip connections among a genotype's operations.

    Args:
      genotype: the genotype.

    Returns:
      A fraction.

    Example:
      >>> import jnas
      >>> derived_skip_share(jnas.spaces.nasbench201().decode([1, 1, 1, 3, 3, 3]))
      0.5
    """
    names = [edge.operation for _, cell in genotype.cells for edge in cell.edges]
    return sum(name in SKIPS for name in names) / max(len(names), 1)


def derived_mixture(
    space: Space, genotype: Genotype, mixed: Mixture, config: dict[str, Any] | None
) -> Mixture:
    """The one-hot mixture to compare a mixture with, in the same supernet.

    Args:
      space: the space.
      genotype: derived from the mixture.
      mixed: the mixture.
      config: of the supernet.

    Returns:
      The genotype's mixture, with weights of edges where the supernet needs them.

    Example:
      >>> import jnas
      >>> space = jnas.spaces.nasbench201()
      >>> genotype = space.decode([1, 1, 1, 1, 1, 1])
      >>> uniform = jnas.mixture.uniform(space)
      >>> derived_mixture(space, genotype, uniform, None).edges is None
      True
    """
    partial = (config or {}).get("partial_channels", 1) > 1
    return mixture.from_genotype(
        space, genotype, edges=partial or mixed.edges is not None
    )


def inspector(
    space: Space,
    config: dict[str, Any] | None,
    *,
    mixture: Callable[[Any], Mixture],
    evaluate: Callable[..., tuple[jax.Array, dict[str, jax.Array]]],
    lambda_max: Callable[..., jax.Array],
    derive: Callable[..., Genotype],
    key_of: Callable[[Any], jax.Array],
) -> Callable[..., Diagnostics]:
    """Makes `Search.inspect` of a search's functions.

    Args:
      space: the space.
      config: of the supernet.
      mixture: as in `Search`.
      evaluate: likewise.
      lambda_max: likewise.
      derive: likewise.
      key_of: ``(state) -> key`` for a selector.

    Returns:
      ``(state, batch, *, curvature=True) -> Diagnostics``.
    """
    # Compiled once for both mixtures of every call: only their values differ.
    measure = jax.jit(evaluate)
    sharpness = jax.jit(lambda_max)

    def inspect(state, batch, *, curvature=True):
        mixed = mixture(state)

        def on_batch(candidate):
            loss, metrics = measure(state, candidate, batch)
            return {"loss": float(loss), **{k: float(v) for k, v in metrics.items()}}

        genotype = derive(state, evaluate=on_batch, key=key_of(state))
        return compare(
            space,
            config,
            mixed,
            genotype,
            measure=lambda candidate: measure(state, candidate, batch),
            lambda_max=sharpness(state, batch) if curvature else None,
        )

    return inspect


def compare(
    space: Space,
    config: dict[str, Any] | None,
    mixed: Mixture,
    genotype: Genotype,
    *,
    measure: Callable[[Mixture], tuple[Any, dict[str, Any]]],
    lambda_max: Any = None,
) -> Diagnostics:
    """A mixture beside the genotype derived from it.

    Args:
      space: the space.
      config: of the supernet.
      mixed: the mixture.
      genotype: derived from it.
      measure: ``mixture -> (loss, metrics)``.
      lambda_max: what was measured, or None.

    Returns:
      The diagnostics.

    Example:
      >>> import jnas
      >>> space = jnas.spaces.nasbench201()
      >>> mixed = jnas.mixture.uniform(space)
      >>> cell = space.decode([1, 1, 1, 1, 1, 1])
      >>> found = compare(space, None, mixed, cell, measure=lambda m: (0.5, {}))
      >>> found.loss, found.derived_skip_share
      (0.5, 1.0)
    """
    derived = derived_mixture(space, genotype, mixed, config)
    entropy, skips = summary(space, mixed)
    return Diagnostics(
        *measure(mixed),
        *measure(derived),
        entropy,
        skips,
        derived_skip_share(genotype),
        lambda_max,
        shares(space, mixed),
    )


def shares(space: Space, mixed: Mixture) -> dict[str, dict[str, float]]:
    """How much of each cell is what has nothing to learn, by kind.

    Args:
      space: the space.
      mixed: a mixture of it.

    Returns:
      ``{group: {"skip" | "pool" | "none" | "noise": share}}``, of the kinds that a
      group has: mean probabilities over its edges (and cells), in [0, 1]; edges that
      have no weight at all (dropped for good) do not count.

    Example:
      >>> import jnas
      >>> space = jnas.spaces.nasbench201()
      >>> shares(space, jnas.mixture.uniform(space))
      {'cell': {'skip': 0.2, 'pool': 0.2, 'none': 0.2}}
    """
    found: dict[str, dict[str, float]] = {}
    for group in space.groups:
        weights = mixture.over_cells(mixed, group.name)
        found[group.name] = {}
        for kind in kinds.KINDS:
            columns = [
                i for i, o in enumerate(group.operations) if kinds.kind(o) == kind
            ]
            if columns:
                share, kept = _share(weights, columns)
                mean = share.sum() / max(kept.sum(), 1)
                found[group.name][kind] = round(float(mean), 5)
    return found


def _share(weights: Any, columns: list[int]) -> tuple[Any, Any]:
    """By edge, how much of its weights are in some columns, and whether it has any.

    NumPy's arrays or JAX'.
    """
    total = weights.sum(axis=-1)
    share = weights[:, np.array(columns, int)].sum(axis=-1)
    return share / (total + (total == 0)), total != 0  # of nothing: 0


def summary(space: Space, mixed: Mixture) -> tuple[jax.Array, jax.Array]:
    """How decided a mixture is, and how much of it are skip connections.

    Args:
      space: the space.
      mixed: a mixture of it.

    Returns:
      The mean entropy of the edges, relative to uniform, and the mean probability of
      skip connections; scalars. Edges without any weight do not count.

    Example:
      >>> import jnas
      >>> space = jnas.spaces.nasbench201()
      >>> entropy, skips = summary(space, jnas.mixture.uniform(space))
      >>> round(float(entropy), 4), round(float(skips), 4)
      (1.0, 0.2)
    """
    entropies, skips, kept = [], [], []
    for group in space.groups:
        weights = mixed.weights[group.name]
        weights = weights if weights.ndim == 2 else jnp.mean(weights, axis=0)
        entropy = numerics.normalised_entropy(weights)
        if group.candidates is not None:  # relative to what the edge can choose from
            counts = np.maximum(group.allowed.sum(axis=1), 2)
            entropy = entropy * (np.log(group.num_operations) / np.log(counts))
        entropies.append(entropy)
        columns = [i for i, op in enumerate(group.operations) if op in SKIPS]
        share, has_weight = _share(weights, columns)
        skips.append(share)
        kept.append(has_weight)
    counted = jnp.concatenate(kept)
    total = jnp.maximum(jnp.sum(counted), 1)

    def mean(parts):
        return jnp.sum(jnp.where(counted, jnp.concatenate(parts), 0.0)) / total

    return mean(entropies), mean(skips)
