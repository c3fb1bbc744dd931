"""The two search networks per edge and per operation, to compare the shipped ones with.

Everything here is the textbook's: one plain convolution per weight array (depthwise by
``feature_group_count``), ``reduce_window`` pools, batch norm as in its definition, and
sums over edges and operations as loops. No code is shared with `jnas.supernet`; only
its weight tree is read, by `unstack` and `unstack_statistics`.

Keys of the dicts: ``(cell, edge, operation, name)`` for the weights of an operation,
e.g. ``("cell_0", 3, "sep_conv_3x3", "depthwise0")``, else the path in the tree.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

LAYOUT = ("NHWC", "HWIO", "NHWC")
POOLS = ("max_pool_3x3", "avg_pool_3x3")


def conv(x, kernel, stride=1, dilation=1, groups=1):
    pads = [(dilation * (k // 2), dilation * (k // 2)) for k in kernel.shape[:2]]
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        pads,
        rhs_dilation=(dilation, dilation),
        dimension_numbers=LAYOUT,
        feature_group_count=groups,
    )


def depthwise(x, kernel, stride, dilation):
    return conv(x, kernel[:, :, None, :], stride, dilation, groups=x.shape[-1])


def pointwise(x, kernel, stride=1):
    return conv(x, kernel[None, None], stride)


def _pool(x, start, combine, stride):
    window, strides = (1, 3, 3, 1), (1, stride, stride, 1)
    pads = ((0, 0), (1, 1), (1, 1), (0, 0))
    start = np.asarray(start, x.dtype)
    return lax.reduce_window(x, start, combine, window, strides, pads)


def max_pool(x, stride=1):
    return _pool(x, -np.inf, lax.max, stride)


def avg_pool(x, stride=1):
    return _pool(x, 0, lax.add, stride) / _pool(jnp.ones_like(x), 0, lax.add, stride)


def normalise(x, mean, variance):
    mean, variance = mean.reshape(1, 1, 1, -1), variance.reshape(1, 1, 1, -1)
    return (x - mean) / jnp.sqrt(variance + 1e-5)


def moments(x):
    return jnp.mean(x, (0, 1, 2)), jnp.var(x, (0, 1, 2))


def updated(old, mean, variance, count):
    """Running statistics after a batch: a tenth of the new, unbiased variance."""
    return (
        0.9 * old[0] + 0.1 * mean,
        0.9 * old[1] + 0.1 * variance * count / (count - 1),
    )


def batch_norm(x, old, batch):
    """``(normalised, updated statistics)`` by the batch's or by running statistics."""
    if not batch:
        return normalise(x, *old), old
    mean, variance = jnp.mean(x, (0, 1, 2)), jnp.var(x, (0, 1, 2))
    count = x.shape[0] * x.shape[1] * x.shape[2]
    return normalise(x, mean, variance), updated(old, mean, variance, count)


def halve(x, even, odd):
    """Factorized reduction: two 1x1 convolutions of stride 2, one pixel apart."""
    return jnp.concatenate([pointwise(x, even, 2), pointwise(x[:, 1:, 1:], odd, 2)], -1)


@partial(jax.jit, static_argnames=("operation", "stride", "pool_norm", "batch"))
def operate(operation, weights, statistics, x, stride, pool_norm, batch):
    """One candidate operation of one edge: ``(result, updated statistics)``.

    Compiled by itself: there are hundreds, of few shapes.
    """
    new = {}

    def norm(name, y):
        y, new[name] = batch_norm(y, statistics[name], batch)
        return y

    kind, window = operation.split("_")[0], operation.split("_")[-1]
    if operation == "none":
        x = jnp.zeros_like(x[:, ::stride, ::stride])
    elif operation == "skip_connect":
        if stride == 2:
            x = norm("norm", halve(jax.nn.relu(x), weights["even"], weights["odd"]))
    elif operation in POOLS:
        x = (max_pool if operation == "max_pool_3x3" else avg_pool)(x, stride)
        x = norm("norm", x) if pool_norm else x
    elif kind == "nor":
        x = conv(jax.nn.relu(x), weights["kernel"], stride)
        x = norm("norm", x + weights["bias"].reshape(1, 1, 1, -1))
    else:
        dilation, repeats = {"sep": (1, 2), "dil": (2, 1)}[kind]
        for i in range(repeats):
            kernel = weights[f"depthwise{i}"]
            assert kernel.shape[:2] == tuple(map(int, window.split("x")))
            x = jax.nn.relu(x)
            x = depthwise(x, kernel, stride if i == 0 else 1, dilation)
            x = norm(f"norm{i}", pointwise(x, weights[f"pointwise{i}"]))
    return x, new


def mixture_terms(group, rows):
    """All candidates of all edges: ``(edge, operation, weight)``."""
    for edge in range(len(group.edges)):
        for column, operation in enumerate(group.operations):
            yield edge, operation, rows[edge, column]


def genotype_terms(group, cell):
    """The chosen candidates only, with no weight."""
    for operation, source, target in cell.edges:
        yield group.edges.index((source, target)), operation, None


class Pass:
    """One evaluation: the weights, the old statistics and the updated ones."""

    def __init__(self, values, statistics, batch):
        self.values, self.old, self.batch = values, statistics, batch
        self.new = {}

    def norm(self, key, x):
        x, self.new[key] = batch_norm(x, self.old[key], self.batch)
        return x

    def affine_norm(self, key, x):
        scale, shift = self.values[*key, "scale"], self.values[*key, "bias"]
        return self.norm(key, x) * scale.reshape(1, 1, 1, -1) + shift.reshape(
            1, 1, 1, -1
        )

    def edge(self, key, operation, x, stride, pool_norm):
        def own(entries):
            return {k[3]: v for k, v in entries.items() if k[:3] == (*key, operation)}

        weights, old = own(self.values), own(self.old)
        y, new = operate(operation, weights, old, x, stride, pool_norm, self.batch)
        self.new |= {(*key, operation, name): v for name, v in new.items()}
        return y

    def cell(self, name, group, terms, inputs, reduction, pool_norm):
        """``terms``: which candidates take part, ``(edge, operation, weight)``."""
        terms = list(terms)
        states = list(inputs)
        for node in sorted({target for _, target in group.edges}):
            total = 0
            for edge, operation, weight in terms:
                source, target = group.edges[edge]
                if target == node:
                    stride = 2 if reduction and source < group.inputs else 1
                    x = states[source]
                    y = self.edge((name, edge), operation, x, stride, pool_norm)
                    total = total + (y if weight is None else weight * y)
            states.append(total)
        return jnp.concatenate([states[s] for s in group.concat], -1)

    def fixed_reduction(self, name, inputs, norm):
        """GDAS' fixed reduction cell; ``norm``: `norm` or `affine_norm`."""
        outputs = []
        for i, x in enumerate(inputs):
            key, groups = (name, f"halving{i}"), np.gcd(8, x.shape[-1])
            y = jax.nn.relu(x)
            for which, kernel, strides in (
                ("conv0", (1, 3), (1, 2)),
                ("conv1", (3, 1), (2, 1)),
            ):
                weights = self.values[*key, which]
                assert weights.shape[:2] == kernel
                y = lax.conv_general_dilated(
                    y,
                    weights,
                    strides,
                    [(k // 2, k // 2) for k in kernel],
                    dimension_numbers=LAYOUT,
                    feature_group_count=int(groups),
                )
            y = jax.nn.relu(norm((*key, "norm0"), y))
            y = pointwise(y, self.values[*key, "pointwise"])
            outputs.append(norm((*key, "norm1"), y))
        for i, x in enumerate(inputs):
            outputs.append(norm((name, f"pool{i}"), max_pool(x, 2)))
        return jnp.concatenate(outputs, -1)

    def classify(self, x):
        pooled = jnp.mean(x, (1, 2))
        kernel = self.values["skeleton", "classifier", "kernel"]
        return pooled @ kernel + self.values["skeleton", "classifier", "bias"][None]


def darts_kinds(cells):
    """The group of each cell: reductions at 1/3 and 2/3."""
    reductions = (cells // 3, 2 * cells // 3)
    return ["reduce" if p in reductions else "normal" for p in range(cells)]


def darts(space, cells, values, statistics, images, terms, batch=True):
    """DARTS' search network: ``(logits, updated statistics)``.

    Args:
      space: groups "normal" and "reduce", or "normal" with "reduce" fixed.
      cells: how many.
      values: weights as from `unstack`.
      statistics: running statistics as from `unstack_statistics`.
      images: ``[B, H, W, C]``.
      terms: ``(kind, index in its kind) -> (edge, operation, weight)...`` of a cell.
      batch: normalise by the batch's statistics.
    """
    run = Pass(values, statistics, batch)

    def preprocess(which, position, x, halved):
        key = ("skeleton", f"preprocess{which}_{position}")
        x = jax.nn.relu(x)
        if halved:
            x = halve(x, values[*key, "even"], values[*key, "odd"])
        else:
            x = conv(x, values[*key, "conv", "kernel"])
        return run.norm((*key, "norm"), x)

    x = conv(images, values["skeleton", "stem_conv", "kernel"])
    earlier = last = run.affine_norm(("skeleton", "stem_norm"), x)
    kinds = darts_kinds(cells)
    for position, kind in enumerate(kinds):
        after_reduction = position > 0 and kinds[position - 1] == "reduce"
        inputs = [
            preprocess(0, position, earlier, after_reduction),
            preprocess(1, position, last, False),
        ]
        name, reduction = f"cell_{position}", kind == "reduce"
        if kind in space.fixed:
            earlier, last = last, run.fixed_reduction(name, inputs, run.norm)
            continue
        group, own = space.group(kind), terms(kind, kinds[:position].count(kind))
        earlier, last = last, run.cell(name, group, own, inputs, reduction, True)
    return run.classify(last), run.new


def nasbench201(space, cells_per_stage, values, statistics, images, terms, batch=True):
    """NAS-Bench-201's search network; arguments and result as in `darts`."""
    run = Pass(values, statistics, batch)
    (group,) = space.groups

    def relu_conv_norm(key, x, stride):
        x = conv(jax.nn.relu(x), values[*key, "conv", "kernel"], stride)
        return run.affine_norm((*key, "norm"), x)

    x = conv(images, values["skeleton", "stem_conv", "kernel"])
    x = run.affine_norm(("skeleton", "stem_norm"), x)
    position = 0
    for stage in range(3):
        if stage:
            key = ("skeleton", f"reduction_{stage}")
            y = relu_conv_norm((*key, "conv_a"), x, 2)
            y = relu_conv_norm((*key, "conv_b"), y, 1)
            zero, window = np.zeros((), x.dtype), (1, 2, 2, 1)
            pooled = lax.reduce_window(x, zero, lax.add, window, window, "VALID") / 4
            x = y + conv(pooled, values[*key, "shortcut", "kernel"])
        for _ in range(cells_per_stage):
            own = terms(group.name, position)
            x = run.cell(f"cell_{position}", group, own, [x], False, False)
            position += 1
    return run.classify(
        jax.nn.relu(run.affine_norm(("skeleton", "last_norm"), x))
    ), run.new


def cross_entropy(logits, labels):
    log_probability = logits - jax.scipy.special.logsumexp(logits, -1, keepdims=True)
    picked = [log_probability[i, label] for i, label in enumerate(np.asarray(labels))]
    return -sum(picked) / len(picked)


def _leaves(tree):
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        yield tuple(entry.key for entry in path), leaf


def row_edges(group, operation, reduction):
    """The edges of the rows of an operation's stacked weights: by source, then edge."""
    edges = [
        edge
        for edge, (source, _) in enumerate(group.edges)
        if operation != "skip_connect" or (reduction and source < group.inputs)
    ]
    return sorted(edges, key=lambda edge: (group.edges[edge][0], edge))


def _is_fixed(space, kinds, path):
    """Whether weights are of no operation: outside the cells, or in a fixed cell."""
    first = path[0]
    return first == "skeleton" or kinds[int(first.removeprefix("cell_"))] in space.fixed


def unstack(space, kinds, weights):
    """The shipped weight tree as a dict with an entry per edge; ``kinds`` per cell."""
    values = {}
    for path, leaf in _leaves(weights):
        if _is_fixed(space, kinds, path):
            values[path] = leaf
            continue
        cell, operation, name = path
        kind = kinds[int(cell.removeprefix("cell_"))]
        edges = row_edges(space.group(kind), operation, kind == "reduce")
        assert len(leaf) == len(edges), path
        for row, edge in enumerate(edges):
            values[cell, edge, operation, name] = leaf[row]
    return values


def unstack_statistics(space, kinds, batch_stats):
    """The shipped running statistics as ``{key: (mean, variance)}``.

    A pool has one normalisation per state, which all edges leaving it share.
    """
    halves = {}
    for path, leaf in _leaves(batch_stats):
        if _is_fixed(space, kinds, path):
            halves[path] = leaf
            continue
        cell, operation, name = path
        kind = kinds[int(cell.removeprefix("cell_"))]
        group = space.group(kind)
        if operation in POOLS:
            rows = [source for source, _ in group.edges]
            edges = range(len(group.edges))
            assert len(leaf) == len(set(rows)), path
        else:
            edges = row_edges(group, operation, kind == "reduce")
            rows = range(len(edges))
            assert len(leaf) == len(edges), path
        norm, half = name.rsplit("_", 1)
        for row, edge in zip(rows, edges, strict=True):
            halves[cell, edge, operation, norm, half] = leaf[row]
    return {
        k[:-1]: (v, halves[*k[:-1], "var"])
        for k, v in halves.items()
        if k[-1] == "mean"
    }
