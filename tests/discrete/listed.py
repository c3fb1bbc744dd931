"""Spaces whose candidates can all be listed, and references of learned policies."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from jnas import domain
from jnas.discrete.base import Proposal


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


SIZES = (2, 3, 1, 2)
SPACE = Tiny(SIZES)
EVERY = SPACE.rows


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def plain(weights, genes):
    """Log-probability and entropy of genes, in float64 loops."""
    log_prob, entropy = 0.0, 0.0
    if not isinstance(weights, tuple):
        rows = list(np.asarray(weights, np.float64))
    else:
        w = type(weights)(*[np.asarray(x, np.float64) for x in weights])
        units = len(w.start)
        c = [np.zeros(units) for _ in w.kernels]
        h = [np.zeros(units) for _ in w.kernels]
        x, rows = w.start, []
        for place, gene in enumerate(genes):
            for layer in range(len(w.kernels)):
                z = np.concatenate([x, h[layer]]) @ w.kernels[layer] + w.biases[layer]
                i, f, g, o = (z[k * units : (k + 1) * units] for k in range(4))
                c[layer] = sigmoid(f) * c[layer] + sigmoid(i) * np.tanh(g)
                h[layer] = sigmoid(o) * np.tanh(c[layer])
                x = h[layer]
            rows.append(x @ w.heads[place] + w.head_biases[place])
            x = w.embedding[place, gene]
    for row, size, gene in zip(rows, SIZES, genes, strict=True):
        p = np.exp(row[:size] - row[:size].max())
        p /= p.sum()
        log_prob += np.log(p[gene])
        entropy -= (p * np.log(p)).sum()
    return log_prob, entropy


def told(strategy, state, genes, scores, ids=None):
    """The state after a call of tell, compiled."""
    genes = np.atleast_2d(genes)
    ids = np.arange(len(genes)) if ids is None else ids
    proposal = Proposal(genes, np.ones(len(genes), np.float32), ids)
    return jax.jit(strategy.tell)(state, proposal, np.asarray(scores, np.float32))


def flat(tree):
    """All numbers of a tree, float64."""
    return np.concatenate([np.ravel(np.float64(x)) for x in jax.tree.leaves(tree)])
