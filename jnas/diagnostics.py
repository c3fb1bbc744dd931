"""What is measured of a search from outside its steps: curvature, gap, entropy."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnas import mixture, numerics
from jnas.mixture import Mixture
from jnas.select.picking import SKIPS
from jnas.spaces import Genotype, Space

__all__ = ["SKIPS", "Diagnostics", "derived_mixture", "derived_skip_share", "summary"]


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
    """

    loss: Any
    metrics: dict[str, Any]
    derived_loss: Any
    derived_metrics: dict[str, Any]
    arch_entropy: Any
    skip_share: Any
    derived_skip_share: float
    lambda_max: Any = None


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
    probabilities: Callable[[Any], Mixture],
    evaluate: Callable[..., tuple[jax.Array, dict[str, jax.Array]]],
    lambda_max: Callable[..., jax.Array],
    derive: Callable[..., Genotype],
    key_of: Callable[[Any], jax.Array],
) -> Callable[..., Diagnostics]:
    """Makes `Search.inspect` of a search's functions.

    Args:
      space: the space.
      config: of the supernet.
      probabilities: as in `Search`.
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
        mixed = probabilities(state.arch)

        def on_batch(candidate):
            loss, metrics = measure(state, candidate, batch)
            return {"loss": float(loss), **{k: float(v) for k, v in metrics.items()}}

        genotype = derive(state, evaluate=on_batch, key=key_of(state))
        loss, metrics = measure(state, mixed, batch)
        derived = derived_mixture(space, genotype, mixed, config)
        derived_loss, derived_metrics = measure(state, derived, batch)
        entropy, skips = summary(space, mixed)
        return Diagnostics(
            loss,
            metrics,
            derived_loss,
            derived_metrics,
            entropy,
            skips,
            derived_skip_share(genotype),
            sharpness(state, batch) if curvature else None,
        )

    return inspect


def summary(space: Space, mixed: Mixture) -> tuple[jax.Array, jax.Array]:
    """How decided a mixture is, and how much of it are skip connections.

    Args:
      space: the space.
      mixed: a mixture of it.

    Returns:
      The mean entropy of the edges, relative to uniform, and the mean probability of
      skip connections; scalars.

    Example:
      >>> import jnas
      >>> space = jnas.spaces.nasbench201()
      >>> entropy, skips = summary(space, jnas.mixture.uniform(space))
      >>> round(float(entropy), 4), round(float(skips), 4)
      (1.0, 0.2)
    """
    entropies, skips = [], []
    for group in space.groups:
        weights = mixed.weights[group.name]
        weights = weights if weights.ndim == 2 else jnp.mean(weights, axis=0)
        entropy = numerics.normalised_entropy(weights)
        if group.candidates is not None:  # relative to what the edge can choose from
            counts = np.maximum(group.allowed.sum(axis=1), 2)
            entropy = entropy * (np.log(group.num_operations) / np.log(counts))
        entropies.append(entropy)
        columns = [i for i, op in enumerate(group.operations) if op in SKIPS]
        total = jnp.sum(weights, axis=-1)
        share = jnp.sum(weights[:, jnp.array(columns, int)], axis=-1)
        skips.append(share / jnp.where(total > 0, total, 1.0))
    return jnp.mean(jnp.concatenate(entropies)), jnp.mean(jnp.concatenate(skips))
