"""Final networks: their sizes, outputs, rates and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnas
from jnas.networks import auxiliary, cells
from jnas.spaces import Cell, Edge, Genotype
from jnas.supernet import initial

TINY = {"channels": 4, "cells": 3}
NB201 = jnas.spaces.nasbench201()
CELL = (
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_1x1~1|+"
    "|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
)
IMAGES = jax.random.normal(jax.random.key(9), (4, 8, 8, 1))


def darts_like(normal, concat=(2,), reduce=None, reduce_concat=(2,)):
    normal = [Edge(*edge) for edge in normal]
    reduce = [Edge(*edge) for edge in reduce or [("skip_connect", 0, 2)]]
    both = (("normal", Cell(normal, concat)), ("reduce", Cell(reduce, reduce_concat)))
    return Genotype("mine", both)


# Small enough to compile quickly.
SMALL = darts_like(
    [("sep_conv_3x3", 0, 2), ("skip_connect", 1, 2), ("avg_pool_3x3", 2, 3)],
    (2, 3),
    [("skip_connect", 0, 2), ("dil_conv_3x3", 1, 2), ("max_pool_3x3", 0, 3)],
    (2, 3),
)
PLAIN = darts_like([("skip_connect", 0, 2), ("avg_pool_3x3", 1, 2)])


def sizes(net, image, colours=3):
    """Parameters without and of the auxiliary head."""
    shape = jax.ShapeDtypeStruct((2, image, image, colours), jnp.float32)
    weights = jax.eval_shape(net.init, jax.random.key(0), shape).weights
    head = jnas.cost.num_parameters(weights.get("auxiliary", {}))
    return jnas.cost.num_parameters(weights) - head, head


# Published and logged counts of the authors' networks (C36 L20, with 10 classes), and
# the same networks in other sizes: C16 L8, ImageNet's C48 L14, and auxiliary heads.
COUNTS = {
    "DARTS_V1": (3169414, 232890, 4510432, 476426),
    "DARTS_V2": (3349342, 246106, 4718752, 476426),
    "NASNet": (3830950, 333946, 5564320, 457994),
    "AmoebaNet": (3145078, 326330, 4627360, 457994),
    "PC_DARTS": (3634678, 335738, 5270560, 476426),
    "PDARTS": (3433798, 292026, 4944352, 476426),
}


@pytest.mark.parametrize("name", COUNTS)
def test_sizes_of_published_genotypes(name):
    net = jnas.networks.build(name, channels=16, cells=8)
    assert sizes(net, 32) == (COUNTS[name][1], 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", COUNTS)
def test_sizes_of_the_authors_networks(name):
    full, _, imagenet, head = COUNTS[name]
    assert sizes(jnas.networks.build(name, auxiliary=True), 32) == (full, head)
    net = jnas.networks.build(
        name, channels=48, cells=14, num_classes=1000, stem="imagenet"
    )
    assert sizes(net, 224) == (imagenet, 0)


@pytest.mark.parametrize("classes", [1000])
def test_size_of_the_imagenet_network_with_head(classes):
    size = {"channels": 8, "cells": 5, "num_classes": classes, "stem": "imagenet"}
    net = jnas.networks.build("PNASNet5", auxiliary=True, **size)
    cost = jnas.cost.count("PNASNet5", **size)
    both = jnas.cost.count("PNASNet5", auxiliary=True, **size)
    expected = (cost.parameters, both.parameters - cost.parameters)
    assert sizes(net, 224) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|", 73306),
        (
            "|skip_connect~0|+|avg_pool_3x3~0|none~1|+"
            "|skip_connect~0|avg_pool_3x3~1|none~2|",
            73306,
        ),
        (
            "|nor_conv_1x1~0|+|nor_conv_1x1~0|nor_conv_1x1~1|+"
            "|nor_conv_1x1~0|nor_conv_1x1~1|nor_conv_1x1~2|",
            241306,
        ),
        (
            "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+"
            "|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|",
            1531546,
        ),
        (CELL, 1073466),
        (
            "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+"
            "|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|",
            1288506,
        ),
    ],
)
def test_sizes_of_nasbench201(text, expected):
    net = jnas.networks.build(text, channels=16)
    assert sizes(net, 32) == (expected, 0)


def test_classes_of_nasbench201():
    net = jnas.networks.build(CELL, channels=16, num_classes=100)
    assert sizes(net, 32) == (1073466 + 5850, 0)


@pytest.fixture(scope="module")
def darts():
    net = jnas.networks.build(SMALL, **TINY)
    return net, net.init(jax.random.key(0), IMAGES)


@pytest.fixture(scope="module")
def run(darts):
    """The small network, compiled once for each setting."""
    net, variables = darts

    def apply(images, rate, key, train, statistics):
        rates = None if rate is None else {"drop_path": rate}
        return net.apply(
            *variables,
            images,
            train=train,
            statistics=statistics,
            rates=rates,
            key=key,
        )

    compiled = jax.jit(apply, static_argnames=("train", "statistics"))

    def call(rate=None, key=None, train=True, statistics=None, images=IMAGES):
        return compiled(images, rate, key, train, statistics)

    return call


def changed(state, before):
    """The share of running statistics that differ."""
    pairs = zip(jax.tree.leaves(state), jax.tree.leaves(before), strict=True)
    return np.mean([not np.array_equal(a, b) for a, b in pairs])


def test_training_updates_every_running_statistic(darts, run):
    logits, state = run()
    assert logits.shape == (4, 10) and logits.dtype == jnp.float32
    assert jax.tree.structure(state) == jax.tree.structure(darts[1].model_state)
    assert changed(state, darts[1].model_state) == 1


def test_evaluation_uses_running_statistics(darts, run):
    logits, state = run(train=False)
    assert changed(state, darts[1].model_state) == 0
    again, _ = run(train=False, statistics="batch")
    assert float(jnp.abs(logits - again).max()) > 1e-3
    # Without drop path training differs from evaluation in the statistics only.
    np.testing.assert_allclose(again, run()[0], rtol=1e-5, atol=1e-6)


def test_samples_do_not_mix_in_evaluation(run):
    whole, _ = run(train=False)
    other, _ = run(train=False, images=IMAGES.at[1:].set(0.0))
    np.testing.assert_allclose(whole[0], other[0], rtol=1e-5, atol=1e-6)
    assert float(jnp.abs(whole[1:] - other[1:]).max()) > 1e-3


def test_drop_path_at_rate_zero_changes_nothing(run):
    logits, state = run()
    dropped, dropped_state = run(0.0, jax.random.key(0))
    np.testing.assert_allclose(dropped, logits, rtol=1e-5, atol=1e-6)
    assert changed(dropped_state, state) < 0.5  # rounding of another program


def test_drop_path_depends_on_key_and_rate(run):
    base = run(0.3, jax.random.key(0))[0]
    np.testing.assert_array_equal(base, run(0.3, jax.random.key(0))[0])
    assert float(jnp.abs(base - run(0.3, jax.random.key(1))[0]).max()) > 1e-3
    assert float(jnp.abs(base - run(0.1, jax.random.key(0))[0]).max()) > 1e-3


def test_drop_path_differs_between_samples(run):
    # With running statistics equal images can differ by their masks only.
    alike = {"statistics": "running", "images": jnp.tile(IMAGES[:1], (4, 1, 1, 1))}
    dropped = run(0.5, jax.random.key(0), **alike)[0]
    whole = run(0.0, jax.random.key(0), **alike)[0]
    assert float(jnp.abs(whole - whole[:1]).max()) < 1e-5
    assert float(jnp.abs(dropped - dropped[:1]).max()) > 1e-3


def test_every_edge_of_every_cell_has_its_own_mask(darts, monkeypatch):
    net, variables = darts
    shapes = []

    @jax.jit
    def run(scales):
        def given(key, rate, shape, dtype):
            shapes.append(shape)
            return scales

        monkeypatch.setattr(cells, "drop_path_scales", given)
        call = {"train": True, "rates": {"drop_path": 0.5}, "key": jax.random.key(0)}
        return net.apply(*variables, IMAGES, **call)[0]

    ones = jnp.ones((3, 3, 4))  # cells, edges, samples
    # All but the identity (edge 1) of the normal cells, all of the reduction cells.
    places = [(0, 0), (0, 2), *((c, e) for c in (1, 2) for e in range(3))]
    results = [run(ones), *(run(ones.at[place].set(0.0)) for place in places)]
    assert shapes == [ones.shape]
    for i, a in enumerate(results):
        for b in results[:i]:
            assert float(jnp.abs(a - b).max()) > 1e-4
    np.testing.assert_array_equal(run(ones.at[0, 1].set(0.0)), results[0])


def test_drop_path_is_for_training_only(run):
    plain, _ = run(train=False)
    rated, _ = run(0.9, train=False)  # needs no key, either
    np.testing.assert_array_equal(plain, rated)


@pytest.mark.slow
def test_every_weight_has_a_gradient(darts):
    net, variables = darts
    task = jnas.networks.classification()
    batch = {"image": IMAGES, "label": jnp.arange(4)}

    @jax.jit
    @jax.grad
    def grad(weights):
        outputs, _ = net.apply(weights, variables.model_state, IMAGES, train=True)
        return task.loss(outputs, batch)[0]

    for path, leaf in jax.tree_util.tree_leaves_with_path(grad(variables.weights)):
        assert float(jnp.abs(leaf).max()) > 0, jax.tree_util.keystr(path)


def test_bfloat16_keeps_wide_logits_and_statistics():
    cell = "|nor_conv_1x1~0|+|none~0|none~1|+|none~0|avg_pool_3x3~1|none~2|"
    size = {"channels": 4, "cells_per_stage": 1}
    net = jnas.networks.build(cell, dtype=jnp.bfloat16, **size)
    exact = jnas.networks.build(cell, **size)
    variables = net.init(jax.random.key(0), IMAGES)

    @jax.jit
    def run(key):
        rates = {"drop_path": 0.2}
        call = {"train": True, "rates": rates, "key": key}
        return [n.apply(*variables, IMAGES, **call) for n in (net, exact)]

    (logits, state), (expected, _) = run(jax.random.key(0))
    assert logits.dtype == jnp.float32
    assert {x.dtype for x in jax.tree.leaves((variables, state))} == {logits.dtype}
    np.testing.assert_allclose(logits, expected, atol=0.1)
    assert not jnp.array_equal(logits, expected)


def test_initial_values():
    net = jnas.networks.build(SMALL, channels=16, cells=3)
    weights = net.init(jax.random.key(0), IMAGES).weights
    edge = weights["cell_0"]["edge0_sep_conv_3x3"]
    assert float(edge["norm0"]["scale"].min()) == 1
    assert float(edge["norm0"]["scale"].max()) == 1 and not edge["norm1"]["bias"].any()
    for name, bound in (("depthwise0", 1 / 3), ("pointwise1", 1 / 4)):
        assert 0.8 * bound < float(jnp.abs(edge[name]).max()) <= bound
    other = net.init(jax.random.key(1), IMAGES).weights["cell_0"]["edge0_sep_conv_3x3"]
    assert float(jnp.abs(edge["pointwise0"] - other["pointwise0"]).max()) > 0.1


def test_auxiliary_head():
    size = {"channels": 2, "cells": 6, "num_classes": 5}
    net = jnas.networks.build(PLAIN, auxiliary=True, **size)
    images = jax.random.normal(jax.random.key(0), (4, 32, 32, 1))
    variables = net.init(jax.random.key(0), images)

    def loss(weights):
        outputs, state = net.apply(weights, variables.model_state, images, train=True)
        return jnp.sum(outputs.auxiliary * jnp.arange(20.0).reshape(4, 5)), (
            outputs,
            state,
        )

    grads, (outputs, state) = jax.jit(jax.grad(loss, has_aux=True))(variables.weights)
    assert isinstance(outputs, jnas.networks.Outputs)
    assert outputs.logits.shape == outputs.auxiliary.shape == (4, 5)
    assert float(jnp.abs(outputs.logits - outputs.auxiliary).max()) > 1e-3
    assert changed(state, variables.model_state) == 1
    # It reads the cell at two thirds: the last of 6 gets no gradient from it.
    skeleton = grads["skeleton"]
    assert skeleton["preprocess0_4"]["conv"]["kernel"].any()
    for name in ("preprocess0_5", "preprocess1_5"):
        assert not any(leaf.any() for leaf in jax.tree.leaves(skeleton[name]))
    for path, leaf in jax.tree_util.tree_leaves_with_path(grads["auxiliary"]):
        assert leaf.any(), jax.tree_util.keystr(path)
    # In evaluation it is left out.
    outputs, _ = jax.eval_shape(lambda v: net.apply(*v, images, train=False), variables)
    assert outputs.logits.shape == (4, 5) and outputs.auxiliary is None


@pytest.mark.parametrize(("stem", "size"), [("cifar", 8), ("imagenet", 7)])
def test_auxiliary_head_by_its_definition(stem, size):
    head = auxiliary.AuxiliaryHead(3, stem)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, size, size, 4)).astype(np.float32)
    variables = initial.initial_variables(
        lambda key: head.init(key, x, "batch"), jax.random.key(0)
    )
    variables = jax.tree.map(lambda v: v + 0.1, variables)
    p, stats = variables["params"], variables["batch_stats"]
    assert ("norm_b" in p) == (stem == "cifar")

    def norm(name, y):
        if name not in p:
            return y
        mean, var = np.asarray(stats[name]["mean"]), np.asarray(stats[name]["var"])
        scale, bias = np.asarray(p[name]["scale"]), np.asarray(p[name]["bias"])
        return (y - mean) / np.sqrt(var + 1e-5) * scale + bias

    stride = {"cifar": 3, "imagenet": 2}[stem]
    y = np.maximum(x, 0)
    corners = [(i, j) for i in (0, stride) for j in (0, stride)]
    pooled = [y[:, i : i + 5, j : j + 5].mean((1, 2)) for i, j in corners]
    hidden = [h @ np.asarray(p["conv_a"]["kernel"])[0, 0] for h in pooled]
    hidden = [np.maximum(norm("norm_a", h), 0) for h in hidden]
    kernel = np.asarray(p["conv_b"]).reshape(4, 128, 768)
    wide = sum(h @ k for h, k in zip(hidden, kernel, strict=True))
    wide = np.maximum(norm("norm_b", wide), 0)
    expected = wide @ np.asarray(p["classifier"]["kernel"])
    expected = expected + np.asarray(p["classifier"]["bias"])
    got = jax.jit(head.apply, static_argnums=2)(variables, x, "running")
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("value", [0.4, 0.0])
def test_task_weighs_the_auxiliary_loss(value):
    task = jnas.networks.classification(auxiliary_weight=value, label_smoothing=0.1)
    logits, other = jax.random.normal(jax.random.key(0), (2, 6, 3))
    batch = {"image": logits, "label": jnp.arange(6) % 3}
    plain = jnas.supernet.classification(0.1)
    a, b = plain.loss(logits, batch), plain.loss(other, batch)
    loss, metrics = task.loss(jnas.networks.Outputs(logits, other), batch)
    np.testing.assert_allclose(loss, a[0] + value * b[0], rtol=1e-6)
    assert metrics == a[1]
    for outputs in (logits, jnas.networks.Outputs(logits)):
        np.testing.assert_allclose(task.loss(outputs, batch)[0], a[0], rtol=1e-6)


def test_an_input_state_may_be_put_out_by_a_normal_cell():
    genotype = darts_like([("skip_connect", 0, 2)], concat=(1, 2))
    net = jnas.networks.build(genotype, **TINY)
    variables = net.init(jax.random.key(0), IMAGES)
    logits, _ = jax.eval_shape(lambda v: net.apply(*v, IMAGES, train=True), variables)
    assert logits.shape == (4, 10)


ARCH = NB201.decode([3] * 6)


@pytest.mark.parametrize(
    ("genotype", "options", "match"),
    [
        (3, {}, "genotype must be a jnas.Genotype or its text, got int"),
        ("DARTS_V9", {}, "did you mean"),
        ("DARTS_V2", {"channels": 0}, "channels must be a positive integer"),
        ("DARTS_V2", {"num_classes": True}, "num_classes must be a positive"),
        ("DARTS_V2", {"cells": 2}, "at least 3"),
        ("DARTS_V2", {"cells_per_stage": 2}, "takes cells="),
        ("DARTS_V2", {"stem": "cifra"}, "did you mean 'cifar'"),
        ("DARTS_V2", {"stem": "imagenet", "channels": 5}, "channels must be even"),
        ("DARTS_V2", {"dtype": jnp.int32}, "dtype must be a floating type"),
        (ARCH, {"cells": 3}, "takes cells_per_stage="),
        (ARCH, {"cells_per_stage": 0}, "cells_per_stage must be a positive"),
        (ARCH, {"auxiliary": True}, "has no auxiliary head"),
        (ARCH, {"stem": "imagenet"}, "no stem but 'cifar'"),
        (darts_like([("sep_conv_9x9", 0, 2)]), {}, "unknown operation 'sep_conv_9x9'"),
        (darts_like([("skip_connect", 0, 1)], (1,)), {}, "edge into state 1"),
        (darts_like([("skip_connect", 3, 4)], (4,)), {}, "reads state 3, into which"),
        (
            darts_like([("skip_connect", 0, 4)], (3, 4)),
            {},
            "reads state 3, into which no edge leads",
        ),
        (
            darts_like([("skip_connect", 0, 2)], reduce_concat=(1, 2)),
            {},
            "cell 'reduce' puts out its input state 1",
        ),
        (
            Genotype("x", (("a", Cell([("none", 0, 1), ("none", 0, 2)], (1, 2))),)),
            {},
            "must put out one state",
        ),
        (
            Genotype("x", tuple((n, Cell([("none", 0, 2)], (2,))) for n in "ab")),
            {},
            "no network is known",
        ),
    ],
)
def test_bad_genotypes_and_options(genotype, options, match):
    with pytest.raises(jnas.JnasError, match=match) as error:
        jnas.networks.build(genotype, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("shape", "options", "match"),
    [
        ((1, 8, 8), {}, "4 dimensions"),
        ((1, 10, 8, 1), {}, "multiples of 4"),
        ((1, 48, 32, 1), {"stem": "imagenet"}, "multiples of 32"),
        ((1, 28, 28, 1), {"auxiliary": True}, "at least 32x32, got 28x28"),
        (
            (1, 192, 224, 1),
            {"auxiliary": True, "stem": "imagenet"},
            "at least 224x224, got 192x224",
        ),
    ],
)
def test_bad_images(shape, options, match):
    net = jnas.networks.build("DARTS_V2", **TINY, **options)
    with pytest.raises(jnas.JnasError, match=match):
        net.init(jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))


@pytest.mark.parametrize(
    ("call", "match"),
    [
        ({"rates": {"drop_paht": 0.1}}, "did you mean 'drop_path'"),
        ({"rates": {"drop_path": 0.1}, "key": None}, "drop_path needs a key"),
        ({"rates": {"drop_path": 1.0}}, r"in \[0, 1\), got 1.0"),
        ({"rates": {"drop_path": jnp.zeros(2)}}, "must be a scalar"),
        ({"statistics": "moving"}, "statistics must be 'batch' or 'running'"),
        ({"inputs": jnp.zeros((1, 8, 8, 3))}, "must have 1 channels"),
        ({"inputs": jnp.zeros((1, 8, 8, 1), jnp.uint8)}, "floating point"),
    ],
)
def test_bad_calls(darts, call, match):
    net, variables = darts
    call = {"inputs": IMAGES, "key": jax.random.key(0), **call}
    with pytest.raises(jnas.JnasError, match=match):
        net.apply(*variables, call.pop("inputs"), train=True, **call)


def test_unknown_context_is_ignored(darts):
    net, variables = darts
    jax.eval_shape(lambda v: net.apply(*v, IMAGES, train=False, unknown=1), variables)
