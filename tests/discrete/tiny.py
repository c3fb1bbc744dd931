"""Spaces of a few genes whose candidates can all be listed, for tests."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from jnas import domain


class Tiny:
    """Genes of given cardinalities, of which ``allowed(genes)`` are candidates."""

    def __init__(self, genes, allowed=lambda genes: True):
        self.genes = tuple(genes)
        every = itertools.product(*map(range, self.genes))
        self.rows = np.array([g for g in every if allowed(g)], np.int32)

    def valid(self, genes):
        return np.array([(self.rows == g).all(-1).any() for g in np.atleast_2d(genes)])

    def domain(self):
        rows = jnp.asarray(self.rows)

        def sample(key):
            return rows[jax.random.randint(key, (), 0, len(rows))]

        return domain.Domain(
            space=self,
            cardinalities=self.genes,
            sample=sample,
            valid=lambda genes: jnp.any(jnp.all(rows == genes[None], axis=-1)),
            neighbours=lambda genes: (rows, jnp.any(rows != genes[None], axis=-1)),
            mutate=lambda key, genes, kind="uniform": sample(key),
            mutations=("uniform",),
            identity=lambda genes: genes,
        )
