"""A compute dtype narrower than float32: what is narrow, and what is not."""

import collections
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax.extend.core import ClosedJaxpr, Jaxpr
from jax.flatten_util import ravel_pytree

import jnas
from jnas.errors import JnasError

DEPTHS = {"darts": {"cells": 3}, "nasbench201": {"cells_per_stage": 1}}
DEPTHS["darts_frc"] = DEPTHS["darts"]
CLASSES, IMAGES = 10, 16
SHAPES = {
    "image": jax.ShapeDtypeStruct((IMAGES, 8, 8, 3), jnp.float32),
    "label": jax.ShapeDtypeStruct((IMAGES,), jnp.int32),
}
TOKENS = jax.ShapeDtypeStruct((4, 5), jnp.int32)
COUNT = jax.ShapeDtypeStruct((), jnp.int32)
TEXT = {"tokens": TOKENS, "target": TOKENS, "length": COUNT}


def preset(name="darts", space="nasbench201", dtype="bfloat16", **options):
    return jnas.presets.get(name)(
        jnas.spaces.get(space),
        channels=4,
        num_classes=CLASSES,
        epochs=1,
        steps_per_epoch=2,
        dtype=dtype,
        **DEPTHS[space],
        **options,
    )


def begun(search, batch=SHAPES):
    inputs = search.task.inputs(batch)
    return jax.eval_shape(search.init, jax.random.key(0), inputs)


def equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else [value]:
                if isinstance(inner, ClosedJaxpr):
                    yield from equations(inner.jaxpr)
                elif isinstance(inner, Jaxpr):
                    yield from equations(inner)


def products(function, *arguments):
    """``{(primitive, dtypes of its operands): shapes of the operands}``."""
    found = collections.defaultdict(list)
    for equation in equations(jax.make_jaxpr(function)(*arguments).jaxpr):
        if equation.primitive.name in ("conv_general_dilated", "dot_general"):
            operands = [v.aval for v in equation.invars]
            if _sums(equation):  # statistics are in float32
                continue
            kind = (equation.primitive.name, *{x.dtype.name for x in operands})
            found[kind].append(tuple(x.shape for x in operands))
    return dict(found)


def _sums(equation):
    """Whether it is a sum of `kernels.channel_sums`: two rows of ones by each part."""
    if equation.primitive.name != "dot_general":
        return False
    _, batched = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    return batched == ((0,), (0,)) and len(left) == 3 and left[1] == 2


NARROW = {("conv_general_dilated", "bfloat16"), ("dot_general", "bfloat16")}


@pytest.mark.parametrize(
    ("name", "space"),
    [
        ("darts", "nasbench201"),
        ("gdas", "nasbench201"),
        ("pc_darts", "nasbench201"),
        ("darts", "darts"),
        ("gdas_frc", "darts_frc"),
    ],
)
def test_a_step_computes_in_bfloat16_but_for_the_classifier(name, space):
    search = preset(name, space)
    state = begun(search)
    found = products(search.step, state, SHAPES, SHAPES)
    wide = found.pop(("dot_general", "float32"))
    assert set(found) == NARROW
    # Of the fixed reduction the kernel is made of two, in the weights' own precision.
    images = [shapes for shapes in wide if IMAGES in shapes[0]]
    assert images == wide or space == "darts_frc"
    assert all(CLASSES in shapes[0] + shapes[1] for shapes in images)


def test_a_recurrent_step_computes_in_bfloat16():
    options = {"vocab_size": 11, "width": 8, "dtype": "bfloat16"}
    search = jnas.presets.darts_rnn(jnas.spaces.darts_rnn(), **options)
    found = products(search.step, begun(search, TEXT), TEXT, TEXT)
    assert set(found) == {("dot_general", "bfloat16")}


@pytest.mark.parametrize("kind", ["images", "text"])
def test_final_networks_compute_in_bfloat16(kind):
    if kind == "images":
        genotype = jnas.Genotype.parse("DARTS_V2")
        recipe = jnas.networks.recipes.get("quick", dtype="bfloat16")
        network = jnas.networks.build(genotype, **recipe.network_options(genotype))
        batch = SHAPES
    else:
        genotype = jnas.Genotype.parse("DARTS_RNN_V2")
        recipe = jnas.networks.recipes.get("darts_rnn", width=8, dtype=jnp.bfloat16)
        options = recipe.network_options(genotype)
        network = jnas.networks.recurrent(genotype, vocab_size=11, **options)
        batch = TEXT
    assert network.config["dtype"] == recipe.dtype == "bfloat16"
    trainer = recipe.trainer(network, steps_per_epoch=2)
    inputs = batch["image"] if kind == "images" else batch
    state = jax.eval_shape(trainer.init, jax.random.key(0), inputs)
    assert floats(state) == {"float32"}
    assert floats(jax.eval_shape(trainer.step, state, batch)) == {"float32"}
    found = products(trainer.step, state, batch)
    wide = found.pop(("dot_general", "float32"), [])
    assert set(found) <= NARROW and found
    assert all(CLASSES in shapes[0] + shapes[1] for shapes in wide)
    again = jnas.networks.recipes.from_json(recipe.to_json())
    assert again == recipe


def floats(tree):
    kinds = {x.dtype for x in jax.tree.leaves(tree)}
    return {kind.name for kind in kinds if jnp.issubdtype(kind, jnp.floating)}


@pytest.mark.parametrize("name", ["darts", "gdas", "hessian_darts"])
def test_what_is_kept_and_told_is_float32(name):
    seen = []

    def update(updates, state, params=None):
        seen.append(floats(updates))
        return updates, state

    spy = optax.GradientTransformation(lambda params: (), update)
    made = preset(name)
    search = jnas.search.differentiable(
        made.supernet, regularizer=made.regularizer, weight_tx=spy, arch_tx=spy
    )
    state = begun(search)
    after, info = jax.eval_shape(search.step, state, SHAPES, SHAPES)
    assert seen == [{"float32"}] * 2
    assert floats(state) == floats(after) == floats(info) == {"float32"}
    loss, metrics = jax.eval_shape(
        search.evaluate, state, jnas.mixture.uniform(search.supernet.space), SHAPES
    )
    sharpness = jax.eval_shape(search.lambda_max, state, SHAPES)
    assert floats((loss, metrics, sharpness)) == {"float32"}
    assert made.config["supernet"]["dtype"] == "bfloat16"


def test_second_derivatives_are_computed_in_float32():
    """Those of curvature and hypergradients; all else of the step stays narrow."""
    state = begun(preset())
    plain = ("conv_general_dilated", "float32")
    for search, precise in (
        (preset(), False),
        (preset("milenas"), False),
        (preset(order=2), True),
        (preset(order=2, second_order="finite_difference"), True),
        (preset("hessian_darts"), True),
    ):
        found = products(search.arch_step, state, SHAPES, SHAPES)
        assert (plain in found) == precise
        assert set(found) >= NARROW
        assert plain not in products(search.weight_step, state, SHAPES)
    narrow = NARROW & set(products(preset().lambda_max, state, SHAPES))
    assert not narrow


def random_batch(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "image": jnp.asarray(rng.normal(size=(IMAGES, 8, 8, 3)), jnp.float32),
        "label": jnp.asarray(rng.integers(0, CLASSES, IMAGES), jnp.int32),
    }


def test_lambda_max_is_that_of_the_float32_search():
    narrow, wide = preset(), preset(dtype="float32")
    batch = random_batch()
    state = jax.jit(narrow.init)(jax.random.key(0), batch["image"])
    state = state._replace(arch=random_arch(narrow.supernet.space))

    def measured(search):
        return jax.jit(functools.partial(search.lambda_max, products=4))(state, batch)

    found, expected = float(measured(narrow)), float(measured(wide))
    assert found == pytest.approx(expected, rel=1e-5) and abs(found) > 1e-6


def random_arch(space):
    return {
        group.name: 0.5 * jax.random.normal(jax.random.key(i), group.allowed.shape)
        for i, group in enumerate(space.groups)
    }


def agreement(space, sampled=False, **options):
    """Loss and gradients in both dtypes, and what rounding the weights alone does.

    Returns ``{"loss": relative error, "weights": (error, of rounding), "arch": ...}``.
    """
    space = jnas.spaces.get(space)
    options |= DEPTHS[space.name]
    batch, arch = random_batch(), random_arch(space)
    edges = {g.name: jnp.ones(g.num_edges) for g in space.groups}

    def mixture(arch):
        weights = jax.tree.map(lambda x: jax.nn.softmax(x, axis=-1), arch)
        if not sampled:
            uses_edges = options.get("partial_channels", 1) > 1
            return jnas.Mixture(weights, edges=edges if uses_edges else None)
        active = jax.tree.map(lambda x: jnp.argmax(x, axis=-1)[:, None], arch)
        return jnas.Mixture(weights, active=active)

    def results(dtype):
        net = jnas.supernet.build(space, channels=4, dtype=dtype, **options)

        @jax.jit
        def evaluate(variables, arch):
            def loss(weights, arch):
                outputs, _ = net.apply(
                    weights, variables[1], mixture(arch), batch["image"], train=True
                )
                return jnas.supernet.classification().loss(outputs, batch)[0]

            return jax.value_and_grad(loss, (0, 1))(variables[0], arch)

        return net, evaluate

    net, precise = results("float32")
    variables = jax.jit(net.init)(jax.random.key(0), batch["image"])
    rounded = jax.tree.map(lambda x: x.astype(jnp.bfloat16).astype(x.dtype), variables)
    loss, gradients = precise(variables, arch)
    nearby = precise(rounded, arch)[1]
    found, narrow = results("bfloat16")[1](variables, arch)

    def error(tree, place):
        one, other = (ravel_pytree(t[place])[0] for t in (tree, gradients))
        return float(jnp.linalg.norm(one - other) / jnp.linalg.norm(other))

    return {"loss": float(jnp.abs(found - loss) / loss)} | {
        name: (error(narrow, place), error(nearby, place))
        for place, name in enumerate(("weights", "arch"))
    }


@pytest.mark.parametrize(
    ("space", "options"),
    [
        ("nasbench201", {}),
        pytest.param("nasbench201", {"sampled": True}, marks=pytest.mark.slow),
        pytest.param("nasbench201", {"partial_channels": 2}, marks=pytest.mark.slow),
        pytest.param("nasbench201", {"remat": True}, marks=pytest.mark.slow),
        pytest.param("darts", {}, marks=pytest.mark.slow),
    ],
)
def test_loss_and_gradients_agree_with_float32(space, options):
    """Within what rounding makes of them.

    The loss is smooth: its error is about bfloat16's unit roundoff, 2^-8. The gradient
    jumps where a ReLU changes its side, so rounding the *weights* once, all arithmetic
    in float32, already moves it by a tenth. Arithmetic in bfloat16 rounds some times a
    layer (kernel, convolution, normalisation, sum); independent errors of n roundings
    add up to sqrt(n) of one, and n = 16 is generous. An error below 0.3 of the
    gradient's norm means a cosine above 0.95.
    """
    found = agreement(space, **options)
    assert found["loss"] < 2**-7
    for name in ("weights", "arch"):
        error, of_rounding = found[name]
        assert 0 < error < min(4 * of_rounding, 0.3), found


class Small(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dense(8)(x)
        x = jnas.supernet.Mixed("act", {"relu": nn.relu, "dense": lambda: nn.Dense(8)})(
            x
        )
        return nn.Dense(3)(nn.BatchNorm(use_running_average=not train)(x))


def test_linen_modules_compute_in_the_dtype_they_are_told():
    x = jax.random.normal(jax.random.key(1), (4, 5))
    narrow = jnas.supernet.from_linen(Small(), x, dtype="bfloat16")
    wide = jnas.supernet.from_linen(Small(), x)
    assert narrow.config["dtype"] == "bfloat16" and "dtype" not in wide.config
    variables = narrow.init(jax.random.key(0), x)
    mixture = jnas.mixture.uniform(narrow.space)

    def run(net, **options):
        return lambda: net.apply(*variables, mixture, x, train=True, **options)

    assert set(products(run(narrow))) == {("dot_general", "bfloat16")}
    for net, options in ((narrow, {"precise": True}), (wide, {})):
        assert set(products(run(net, **options))) == {("dot_general", "float32")}
    (logits, state), (expected, other) = run(narrow)(), run(wide)()
    assert floats((variables, logits, state)) == {"float32"}
    np.testing.assert_allclose(logits, expected, atol=0.1)
    assert not np.array_equal(logits, expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=0.02), state, other)
    np.testing.assert_array_equal(run(narrow, precise=True)()[0], expected)


@pytest.mark.parametrize("dtype", ["bfloat", "int8", jnp.int32, None, 3])
def test_other_dtypes_are_refused_in_one_line(dtype):
    space, rnn = jnas.spaces.nasbench201(), jnas.spaces.darts_rnn()
    for build in (
        lambda: jnas.supernet.build(space, dtype=dtype),
        lambda: jnas.supernet.recurrent(rnn, vocab_size=9, dtype=dtype),
        lambda: jnas.networks.build("DARTS_V2", dtype=dtype),
        lambda: jnas.networks.recurrent("DARTS_RNN_V2", vocab_size=9, dtype=dtype),
        lambda: jnas.networks.recipes.get("darts", dtype=dtype),
        lambda: preset(dtype=dtype),
    ):
        with pytest.raises(JnasError, match="dtype must be a floating type, got") as e:
            build()
        assert "\n" not in str(e.value) and "'bfloat16'" in str(e.value)
