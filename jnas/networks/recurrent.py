"""`recurrent`: the final language model of a recurrent genotype.

Source: Liu et al., DARTS, ICLR 2019, section 3.2, appendix A.2.2 and the authors' code.
State 0 comes from the input and the previous state, node i from its one predecessor,
each by a highway step; the output is the mean of the genotype's concat states. Unlike
the supernet there is no batch normalisation.

Shape letters: `B` columns of text, `T` times, `V` tokens, `n` width.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from jnas.errors import JnasError, unknown_name
from jnas.networks import base
from jnas.spaces import Cell, Edge, Genotype
from jnas.supernet import address, layers, sequence
from jnas.supernet.build import check_positive

__all__ = ["genotype_cell", "language_model", "recurrent", "vanilla_rnn"]


def genotype_cell(genotype: Genotype) -> sequence.Cell:
    """The cell of a recurrent genotype.

    Args:
      genotype: its one cell has one edge into each of the nodes 1, 2, ...

    Returns:
      The cell; its weights are ``{"w0": [2n, 2n], "w": [nodes, n, 2n]}``.

    Raises:
      JnasError: the genotype is no such cell.

    Example:
      >>> cell = genotype_cell(Genotype.parse("DARTS_RNN_V1"))
      >>> cell.init(jax.random.key(0), 4, jnp.float32)["w"].shape
      (8, 4, 8)
    """
    if len(genotype.cells) != 1:
        raise JnasError(
            f"a recurrent genotype has one cell, got {list(genotype.names)}: use "
            "networks.build for convolutional ones"
        )
    edges, concat = genotype.cells[0][1]
    if [edge.target for edge in edges] != list(range(1, len(edges) + 1)):
        raise JnasError(
            "a recurrent genotype has one edge into each node 1, 2, ... in order, got "
            f"targets {[edge.target for edge in edges]}"
        )
    for edge in edges:
        if edge.operation not in sequence.ACTIVATIONS:
            raise unknown_name("activation", edge.operation, sequence.ACTIVATIONS)
    # Nodes that read one state share a product.
    readers: dict[int, list[int]] = {}
    for i, edge in enumerate(edges):
        readers.setdefault(edge.source, []).append(i)

    def init(key, width, dtype):
        first, rest = jax.random.split(key)
        return {
            "w0": sequence.uniform(first, (2 * width, 2 * width), dtype),
            "w": sequence.uniform(rest, (len(edges), width, 2 * width), dtype),
        }

    def begin(weights, x, mask, statistics):
        del statistics
        state0, xs = sequence.input_state(weights["w0"], x, mask)
        joined = {
            source: jnp.concatenate([weights["w"][i] for i in nodes], axis=1)
            for source, nodes in readers.items()
        }

        def step(h, stats, projected):
            states = {0: state0(h, projected)}
            both = {}
            for node in range(len(edges) + 1):
                if node:
                    edge = edges[node - 1]
                    activation = sequence.ACTIVATIONS[edge.operation]
                    states[node] = sequence.gated(
                        states[edge.source], both[node], activation
                    )
                if node in readers:
                    seen = states[node] if mask is None else states[node] * mask
                    parts = jnp.split(seen @ joined[node], len(readers[node]), axis=1)
                    both |= {
                        i + 1: p for i, p in zip(readers[node], parts, strict=True)
                    }
            return sum(states[i] for i in concat) / len(concat), stats

        return step, xs

    return sequence.Cell(init, begin)


def _vanilla_cell() -> sequence.Cell:
    """The plain tanh cell, initialised as usual: uniform in +-1/sqrt(n)."""

    def init(key, width, dtype):
        bound = 1 / math.sqrt(width)
        shape = (2 * width, width)
        return {"w": jax.random.uniform(key, shape, dtype, -bound, bound)}

    def begin(weights, x, mask, statistics):
        del statistics
        width = x.shape[-1]

        def step(h, stats, projected):
            seen = h if mask is None else h * mask
            return jnp.tanh(projected + seen @ weights["w"][width:]), stats

        return step, x @ weights["w"][:width]

    return sequence.Cell(init, begin)


def language_model(
    cell: sequence.Cell,
    genotype: Genotype,
    *,
    vocab_size: int,
    width: int,
    dropouts: sequence.Dropouts | None = None,
    dtype: Any = jnp.float32,
    model: str = "own",
) -> base.Network:
    """Builds a language model around a cell of your own.

    Args:
      cell: the cell, see `jnas.supernet.sequence.Cell`; without running statistics.
      genotype: what the network is said to be built from.
      vocab_size: `V`.
      width: `n`, of the embedding and the hidden state.
      dropouts: rates; default none.
      dtype: compute dtype; parameters and logits are at least float32.
      model: name of the kind, for the record.

    Returns:
      The network. Its inputs are ``{"tokens": int [B, T], "length", "reset"}``, its
      outputs `SequenceOutputs`; its model state is the carried state ``{"carry"}``,
      which moves on in every pass, training or not.

    Raises:
      JnasError: an option is out of range.

    Example:
      >>> genotype = Genotype.parse("DARTS_RNN_V1")
      >>> net = language_model(genotype_cell(genotype), genotype, vocab_size=9, width=4)
      >>> variables = net.init(jax.random.key(0), {"tokens": jnp.zeros((2, 3), int)})
      >>> variables.model_state["carry"].shape
      (2, 4)
    """
    check_positive(vocab_size=vocab_size, width=width)
    dtype = layers.check_dtype(dtype)
    dropouts = (dropouts or sequence.Dropouts()).check()

    def init(key, inputs):
        return sequence.init(cell, key, inputs, vocab_size, width, dtype)

    def apply(
        weights,
        model_state,
        inputs,
        *,
        train,
        statistics=None,
        rates=None,
        key=None,
        masks=None,
        **context,
    ):
        del context
        if rates:
            raise JnasError(
                f"a language model has no rates, got {sorted(rates)}: its dropouts are "
                "given when it is built"
            )
        return sequence.unroll(
            cell,
            weights,
            model_state,
            inputs,
            dropouts=dropouts,
            train=train,
            statistics=address.check_statistics(statistics, train),
            key=key,
            masks=masks,
            dtype=dtype,
        )

    config = {
        "model": model,
        "genotype": genotype.to_text(),
        "vocab_size": vocab_size,
        "width": width,
        "nodes": len(genotype.cells[0][1].edges),
        "dropouts": dropouts._asdict(),
        "dtype": dtype.name,
    }
    return base.Network(genotype, init, apply, config)


def recurrent(
    genotype: Genotype | str,
    *,
    vocab_size: int,
    width: int = 850,
    dropouts: sequence.Dropouts | None = None,
    dtype: Any = jnp.float32,
) -> base.Network:
    """Builds the final language model of a recurrent genotype.

    Args:
      genotype: the genotype, or a text that `Genotype.parse` understands.
      vocab_size: `V`.
      width: `n`, of the embedding and the hidden state.
      dropouts: rates; default none.
      dtype: compute dtype; parameters and logits are at least float32.

    Returns:
      The network; see `language_model`.

    Raises:
      JnasError: an option is out of range, or the genotype is no recurrent one.

    Example:
      >>> net = recurrent("DARTS_RNN_V2", vocab_size=10_000)
      >>> window = {"tokens": jax.ShapeDtypeStruct((64, 35), jnp.int32)}
      >>> weights = jax.eval_shape(net.init, jax.random.key(0), window).weights
      >>> sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(weights))
      22960000

    References:
      Liu, Simonyan, Yang, DARTS: Differentiable Architecture Search, ICLR 2019,
      https://arxiv.org/abs/1806.09055
    """
    if isinstance(genotype, str):
        genotype = Genotype.parse(genotype)
    if not isinstance(genotype, Genotype):
        raise JnasError(
            f"genotype must be a jnas.Genotype or its text, got "
            f"{type(genotype).__name__}"
        )
    return language_model(
        genotype_cell(genotype),
        genotype,
        vocab_size=vocab_size,
        width=width,
        dropouts=dropouts,
        dtype=dtype,
        model="recurrent",
    )


def vanilla_rnn(
    *,
    vocab_size: int,
    width: int,
    dropouts: sequence.Dropouts | None = None,
    dtype: Any = jnp.float32,
) -> base.Network:
    """Builds the plain tanh network ``h = tanh([x, h] W)`` (Elman, 1990): a baseline.

    Args:
      vocab_size: `V`.
      width: `n`, of the embedding and the hidden state.
      dropouts: rates; default none.
      dtype: compute dtype; parameters and logits are at least float32.

    Returns:
      The network; see `language_model`.

    Raises:
      JnasError: an option is out of range.

    Example:
      >>> vanilla_rnn(vocab_size=65, width=64).config["model"]
      'vanilla'
    """
    genotype = Genotype(
        "vanilla_rnn", (("vanilla", Cell((Edge("tanh", 0, 1),), (1,))),)
    )
    return language_model(
        _vanilla_cell(),
        genotype,
        vocab_size=vocab_size,
        width=width,
        dropouts=dropouts,
        dtype=dtype,
        model="vanilla",
    )
