"""One network for all cells of a space: which operations it computes is an argument.

`build` makes the final network that `jnas.networks.build` makes of a genotype, for all
genotypes at once: every edge has the parameters of all its candidates, and computes the
one that its gene names (a conditional, so that the others cost nothing). The genes are
part of the model state, so that `jnas.networks.trainer` trains it like any network.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from jnas import spaces
from jnas.networks.base import Network
from jnas.networks.cells import _EdgeOperation, edge_name
from jnas.supernet import address, initial, macro, operations
from jnas.supernet.base import Variables

__all__ = ["build", "of_genotype", "with_genes"]

GENES = "genes"


class _GeneCell(nn.Module):
    """A cell of final networks whose operations are named by genes."""

    group: spaces.Group
    channels: int

    @nn.compact
    def __call__(self, inputs, statistics, genes):
        """``[B, H, W, C] -> [B, H, W, C]``; ``genes`` is int32 ``[E]``."""
        learned = {}
        for edge in range(self.group.num_edges):
            for name in self.group.operations:
                operation = operations.get_operation(name)
                if operation is None or not operation.parameters(8, 1, True):
                    continue
                label = edge_name(edge, name)
                module = _EdgeOperation(operation, self.channels, 1, name=label)
                if self.is_initializing():
                    module(inputs[0], statistics)
                learned[label] = module
        own = {label: self._variables(label) for label in learned}
        states, changed = dict(enumerate(inputs)), {}
        for node in self.group.nodes:
            terms = []
            for edge, (source, target) in enumerate(self.group.edges):
                if target == node:
                    y, found = self._edge(edge, genes, states[source], statistics, own)
                    terms.append(y)
                    changed |= found
            states[node] = lax.optimization_barrier(sum(terms[1:], terms[0]))
        if statistics == "batch" and not self.is_initializing():
            for label, new in changed.items():
                self.put_variable("batch_stats", label, new)
        (output,) = self.group.concat
        return states[output]

    def _variables(self, label):
        return {name: part[label] for name, part in self.variables.items()}

    def _edge(self, edge, genes, x, statistics, own):
        """The output of an edge, and the running statistics of its candidates."""
        labels = {
            name: edge_name(edge, name)
            for name in self.group.operations
            if edge_name(edge, name) in own
        }
        given = {label: own[label] for label in labels.values()}

        def statistics_of(given):
            return {label: part["batch_stats"] for label, part in given.items()}

        def branch(name):
            operation = operations.get_operation(name)

            def run(x, given):
                if operation is None:
                    return jnp.zeros_like(x), statistics_of(given)
                module = _EdgeOperation(operation, self.channels, 1, parent=None)
                label = labels.get(name)
                if label is None:
                    return module.apply({}, x, statistics), statistics_of(given)
                y, new = module.apply(
                    given[label], x, statistics, mutable=["batch_stats"]
                )
                return y, statistics_of(given) | {label: new["batch_stats"]}

            return run

        calls = [branch(name) for name in self.group.operations]
        return lax.switch(genes[edge], calls, x, given)


class _GeneNetwork(nn.Module):
    group: spaces.Group
    channels: int
    cells_per_stage: int
    num_classes: int

    @nn.compact
    def __call__(self, images, statistics, genes):
        def make_cell(position, channels, reduction):
            del reduction
            cell = _GeneCell(
                self.group, channels, parent=self, name=address.cell_name(position)
            )
            return lambda states: cell(states, statistics, genes)

        skeleton = macro.StagesSkeleton(
            make_cell,
            self.channels,
            self.cells_per_stage,
            self.num_classes,
            name="skeleton",
        )
        return skeleton(images, statistics)[0]


def build(
    space: spaces.Space, *, channels: int, cells_per_stage: int, num_classes: int
) -> Network:
    """The network of all genotypes of a space with one group of plain edges.

    Its model state has a collection "genes", which `with_genes` sets.
    """
    (group,) = space.groups
    module = _GeneNetwork(group, channels, cells_per_stage, num_classes)
    genes = jnp.zeros(group.num_edges, jnp.int32)

    def init(key, inputs):
        images = jnp.zeros((1, *inputs.shape[1:]), inputs.dtype)
        variables = initial.initial_variables(
            lambda key: module.init(key, images, "batch", genes), key
        )
        state = {"batch_stats": variables["batch_stats"], GENES: genes}
        return Variables(variables["params"], state)

    def apply(weights, model_state, inputs, *, train, statistics=None, **context):
        del context
        statistics = address.check_statistics(statistics, train)
        outputs, changed = module.apply(
            {"params": weights, "batch_stats": model_state["batch_stats"]},
            inputs,
            statistics,
            model_state[GENES],
            mutable=["batch_stats"],
        )
        if statistics == "batch":
            model_state = {**model_state, **changed}
        return outputs, model_state

    config = {
        "space": space.name,
        "channels": channels,
        "cells_per_stage": cells_per_stage,
        "num_classes": num_classes,
    }
    return Network(None, init, apply, config)  # type: ignore[arg-type]


def with_genes(state: Any, genes: Any) -> Any:
    """A training state of the network of these genes, int ``[E]``."""
    genes = jnp.asarray(genes, jnp.int32)
    return state._replace(model_state={**state.model_state, GENES: genes})


def of_genotype(tree: Any, genotype: spaces.Genotype) -> Any:
    """What of the weights or statistics belongs to the network of a genotype."""
    ((_, cell),) = genotype.cells
    chosen = {edge_name(i, edge.operation) for i, edge in enumerate(cell.edges)}

    def part(name, own):
        if not name.startswith("cell"):
            return own
        return {label: value for label, value in own.items() if label in chosen}

    found = {name: part(name, own) for name, own in tree.items()}
    return {name: own for name, own in found.items() if jax.tree.leaves(own)}
