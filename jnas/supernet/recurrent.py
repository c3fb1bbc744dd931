"""`recurrent`: the weight-sharing language model of DARTS' recurrent space.

Source: Liu et al., DARTS, ICLR 2019, section 3.2 and appendix A.1.2, and the authors'
code for what the paper leaves out: node i has one matrix for all its predecessors and
operations; one batch normalisation without scale and shift is shared by state 0, all
nodes and all times, so that a window moves its running statistics (1 + nodes) * length
times; "none" contributes nothing but has its share of the mixture.

All predecessors of a node are evaluated in one product. With a gate `c`, a value `h`,
and mixture weights `m`, the sum over operations of ``m_o (s + c (f_o(h) - s))`` is
``M s + c (sum m_o f_o(h) - M s)``, where `M` is the sum of the `m_o`.

Shape letters: `B` columns of text, `T` times, `V` tokens, `n` width, `E` edges, `O`
operations.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jnas import mixture as mixtures
from jnas.errors import JnasError, unknown_name
from jnas.spaces import Group, Space
from jnas.supernet import address, base, layers, sequence
from jnas.supernet.build import check_positive

__all__ = ["check_space", "recurrent"]


def check_space(space: Space) -> Group:
    """The one group of a recurrent space.

    Args:
      space: the space.

    Returns:
      The group.

    Raises:
      JnasError: the space is no recurrent one.

    Example:
      >>> import jnas
      >>> check_space(jnas.spaces.darts_rnn()).name
      'recurrent'
    """
    group = space.groups[0]
    numbered = group.nodes == tuple(range(1, len(group.nodes) + 1))
    if len(space.groups) != 1 or group.inputs != 1 or not numbered:
        raise JnasError(
            f"space {space.name!r} is no recurrent one: expected one group of one "
            "input and nodes 1, 2, ..., such as spaces.darts_rnn()"
        )
    for name in group.operations:
        if name != "none" and name not in sequence.ACTIVATIONS:
            raise unknown_name("activation", name, sequence.ACTIVATIONS)
    return group


def _cell(
    group: Group, mixed: jax.Array, offsets: jax.Array | None = None
) -> sequence.Cell:
    """The mixed cell at mixture weights ``[E, O]`` and offsets ``[E]``."""
    columns = {name: i for i, name in enumerate(group.operations) if name != "none"}

    def init(key, width, dtype):
        first, rest = jax.random.split(key)
        return {
            "w0": sequence.uniform(first, (2 * width, 2 * width), dtype),
            "w": sequence.uniform(rest, (len(group.nodes), width, 2 * width), dtype),
        }

    def begin(weights, x, mask, statistics):
        state0, xs = sequence.input_state(weights["w0"], x, mask)

        def step(h, stats, projected):
            first, stats = _normalise(state0(h, projected), stats, statistics)
            states = [first]
            for i, node in enumerate(group.nodes):
                rows = group.incoming(node)
                sources = jnp.stack([states[group.edges[row][0]] for row in rows])
                seen = sources if mask is None else sources * mask[None]
                gate, value = jnp.split(seen @ weights["w"][i], 2, axis=-1)
                # [edges, 1, 1], against [edges, B, n]
                share = mixed[jnp.array(rows)].astype(h.dtype)[:, :, None, None]
                terms = [
                    share[:, k] * sequence.ACTIVATIONS[name](value)
                    for name, k in columns.items()
                ]
                total = sum(share[:, k] for k in columns.values()) * sources
                mixture = total + jax.nn.sigmoid(gate) * (sum(terms) - total)
                if offsets is not None:
                    scalars = offsets[jnp.array(rows)].astype(h.dtype)
                    mixture = mixture + scalars[:, None, None]
                new, stats = _normalise(jnp.sum(mixture, 0), stats, statistics)
                states.append(new)
            return sum(states[i] for i in group.concat) / len(group.concat), stats

        return step, xs

    def stats(width, dtype):
        return {"mean": jnp.zeros(width, dtype), "var": jnp.ones(width, dtype)}

    return sequence.Cell(init, begin, stats)


def _normalise(y, stats, statistics):
    """Batch normalisation of ``[B, n]`` without scale and shift, and the statistics."""
    wide = y.astype(layers.storage_dtype(y.dtype))
    if statistics == "running":
        mean, var = stats["mean"], stats["var"]
        centred = wide - mean[None]
    else:
        mean = jnp.mean(wide, axis=0)
        centred = wide - mean[None]
        var = jnp.mean(jnp.square(centred), axis=0)
        count = y.shape[0]
        stats = {
            "mean": layers.running_update(stats["mean"], lax.stop_gradient(mean)),
            "var": layers.running_update(
                stats["var"], lax.stop_gradient(var) * (count / (count - 1))
            ),
        }
    return (centred * lax.rsqrt(var + layers.EPSILON)[None]).astype(y.dtype), stats


def recurrent(
    space: Space,
    *,
    vocab_size: int,
    width: int = 300,
    dropouts: sequence.Dropouts | None = None,
    dtype: Any = jnp.float32,
) -> base.Supernet:
    """Builds the weight-sharing language model of a recurrent space.

    Its inputs are ``{"tokens": int [B, T], "length", "reset"}``, its outputs
    `SequenceOutputs`. The hidden state is carried from window to window in the
    collection "carry", which the search keeps apart for its training and validation
    streams; it moves on in every pass, with running statistics too. ``apply`` takes
    ready dropout masks as ``masks={"inputs": [B, n], "hidden": [B, n], ...}``.

    No weight belongs to a single operation, for a node's matrix serves all of them:
    ``op_sum`` is zero everywhere and ``op_mask`` masks nothing.

    Args:
      space: the space.
      vocab_size: `V`.
      width: `n`, of the embedding and the hidden state.
      dropouts: rates; default none.
      dtype: compute dtype; parameters, statistics and logits are at least float32.

    Returns:
      The supernet.

    Raises:
      JnasError: an option is out of range or does not fit the space.

    Example:
      >>> import jnas
      >>> net = recurrent(jnas.spaces.darts_rnn(), vocab_size=65, width=16)
      >>> window = {"tokens": jax.ShapeDtypeStruct((4, 35), jnp.int32)}
      >>> variables = jax.eval_shape(net.init, jax.random.key(0), window)
      >>> variables.weights["cell"]["w"].shape, variables.model_state["carry"].shape
      ((8, 16, 32), (4, 16))

    References:
      Liu, Simonyan, Yang, DARTS: Differentiable Architecture Search, ICLR 2019,
      https://arxiv.org/abs/1806.09055
    """
    check_positive(vocab_size=vocab_size, width=width)
    dtype = layers.check_dtype(dtype)
    dropouts = (dropouts or sequence.Dropouts()).check()
    group = check_space(space)
    cells = {group.name: 1}
    shape = (1, group.num_edges, group.num_operations)

    def init(key, inputs):
        cell = _cell(group, mixtures.uniform(space).weights[group.name])
        return sequence.init(cell, key, inputs, vocab_size, width, dtype)

    def apply(
        weights,
        model_state,
        mixture,
        inputs,
        *,
        train,
        statistics=None,
        rates=None,
        key=None,
        masks=None,
        precise=False,
        **context,
    ):
        del context
        if rates:
            raise JnasError(
                f"this supernet has no rates, got {sorted(rates)}: its dropouts are "
                "given to supernet.recurrent"
            )
        statistics = address.check_statistics(statistics, train)
        columns = sequence.check_inputs(inputs)[0].shape[0]
        if statistics == "batch" and columns < 2:
            raise JnasError(
                f"batch statistics need at least 2 columns of text, got {columns}: "
                "use a larger batch or statistics='running'"
            )
        mixed = mixtures.resolve(mixture, space, cells)
        offsets = None if mixed.offsets is None else mixed.offsets[group.name][0]
        return sequence.unroll(
            _cell(group, mixed.weights[group.name][0], offsets),
            weights,
            model_state,
            inputs,
            dropouts=dropouts,
            train=train,
            statistics=statistics,
            key=key,
            masks=masks,
            dtype=layers.storage_dtype(dtype) if precise else dtype,
        )

    def op_sum(tree):
        del tree
        return {group.name: jnp.zeros(shape)}

    def op_mask(mask):
        del mask
        tokens = jax.ShapeDtypeStruct((2, 1), jnp.int32)
        shapes = jax.eval_shape(init, jax.random.key(0), {"tokens": tokens})
        return jax.tree.map(lambda leaf: jnp.ones((), leaf.dtype), shapes.weights)

    return base.Supernet(
        space=space,
        init=init,
        apply=apply,
        op_sum=op_sum,
        op_mask=op_mask,
        cells=cells,
        per_stream=("carry",),
        config={
            "model": "recurrent",
            "space": space.name,
            "vocab_size": vocab_size,
            "width": width,
            "nodes": len(group.nodes),
            "dropouts": dropouts._asdict(),
            "dtype": dtype.name,
        },
    )
