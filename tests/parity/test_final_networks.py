"""DARTS' final networks against the authors' code: CIFAR with its head, ImageNet."""

import functools

import comparing
import golden_files
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnas
from jnas import interop
from jnas.networks import cells as cell_modules
from jnas.supernet import Variables

GOLDEN = golden_files.load("darts_eval")
IMAGENET = golden_files.load("darts_eval_imagenet")
GENOTYPES = ("DARTS_V2", "PC_DARTS")


def genotype_text(reprs):
    """The text form of the authors' code, from the four parts that are stored."""
    names = ("normal", "normal_concat", "reduce", "reduce_concat")
    parts = zip(names, map(str, reprs), strict=True)
    return f"Genotype({', '.join(f'{name}={value}' for name, value in parts)})"


@pytest.mark.parametrize("name", GENOTYPES)
def test_the_genotypes_are_the_published_ones(name):
    genotype = jnas.Genotype.parse(genotype_text(GOLDEN[f"cfg/genotype/{name}"]))
    assert genotype == jnas.Genotype.parse(name)
    assert jnas.Genotype.parse(genotype.to_text()) == genotype


def training(net, task, batch):
    """``(weights, state) -> ((loss, (outputs, state)), gradients)``."""

    def run(weights, model_state):
        def loss(weights):
            outputs, state = net.apply(
                weights, model_state, task.inputs(batch), train=True
            )
            return task.loss(outputs, batch)[0], (outputs, state)

        return jax.value_and_grad(loss, has_aux=True)(weights)

    return comparing.jit(run)


@functools.cache
def network(name, dtype):
    """The network, its loaded variables and the batch; in the dtype's mode."""
    net = jnas.networks.build(
        genotype_text(GOLDEN[f"cfg/genotype/{name}"]),
        channels=int(GOLDEN["cfg/C"]),
        cells=int(GOLDEN["cfg/layers"]),
        num_classes=int(GOLDEN["cfg/num_classes"]),
        auxiliary=True,
        dtype=dtype,
    )
    prefixes = (f"w/{name}/", f"buf/{name}/", "w/shared/", "buf/shared/")
    variables = interop.from_darts(golden_files.collect(GOLDEN, *prefixes), net)
    return net, variables, comparing.batch(GOLDEN, "", dtype)


@pytest.fixture(
    params=[
        ("DARTS_V2", jnp.float64),
        pytest.param(("PC_DARTS", jnp.float64), marks=pytest.mark.slow),
        pytest.param(("DARTS_V2", jnp.float32), marks=pytest.mark.slow),
        pytest.param(("PC_DARTS", jnp.float32), marks=pytest.mark.slow),
    ],
    ids=lambda p: f"{p[0]}-{p[1].__name__}",
)
def case(request):
    """``(genotype's name, its results under out/, dtype)``."""
    name, dtype = request.param
    with jax.enable_x64(dtype == jnp.float64):
        yield name, golden_files.collect(GOLDEN, f"out/{name}/"), dtype


def test_a_training_pass(case):
    name, golden, dtype = case
    net, variables, batch = network(name, dtype)
    task = jnas.networks.classification(float(GOLDEN["cfg/aux_weight"]))
    (loss, (outputs, state)), gradients = training(net, task, batch)(*variables)
    gradients = interop.to_darts(Variables(gradients, None), net)
    after = interop.to_darts(Variables(variables.weights, state), net)
    tolerance = comparing.TOLERANCE[dtype]
    for got, key in (
        (outputs.logits, "logits_train"),
        (outputs.auxiliary, "logits_aux_train"),
        (loss, "loss_train"),
    ):
        comparing.assert_close(got, golden[key], tolerance, key)
    names = list(map(str, golden["grad_l2_names"]))
    assert set(names) == set(gradients)
    norms = [np.linalg.norm(gradients[n]) for n in names]
    comparing.assert_close(norms, golden["grad_l2"], tolerance, "grad_l2")
    sums = [gradients[n].sum() for n in names]
    comparing.assert_close(sums, golden["grad_sum"], tolerance, "grad_sum")
    expected = golden_files.split(
        golden["bn_after_flat"], golden["bn_after_names"], golden["bn_after_sizes"]
    )
    assert set(expected) == set(after) - set(gradients)
    for key, value in expected.items():
        comparing.assert_close(after[key], value, tolerance, key)


def test_evaluation(case):
    name, golden, dtype = case
    net, variables, batch = network(name, dtype)
    tolerance = comparing.TOLERANCE[dtype]

    @comparing.jit
    def evaluate(weights, model_state):
        apply = functools.partial(net.apply, weights, model_state, batch["image"])
        return apply(train=False)[0], apply(train=True, statistics="running")[0]

    outputs, with_head = evaluate(*variables)
    assert outputs.auxiliary is None
    comparing.assert_close(outputs.logits, golden["logits_eval"], tolerance)
    loss, _ = jnas.networks.classification().loss(outputs, batch)
    comparing.assert_close(loss, golden["loss_eval"], tolerance)
    comparing.assert_close(with_head.logits, golden["logits_eval"], tolerance)
    head = golden["logits_aux_head_evalmode"]
    comparing.assert_close(with_head.auxiliary, head, tolerance)


def test_drop_path(case, monkeypatch):
    """With the authors' draws: an edge is kept where the noise is below 1 - rate."""
    name, golden, dtype = case
    net, variables, batch = network(name, dtype)
    masks, places = (
        GOLDEN[f"rec/{name}/{key}"] for key in ("droppath_masks", "droppath_cell_op")
    )
    drawn = []

    def noise(key, shape, dtype):
        full = np.full(shape, np.nan)  # edges that are not to be dropped
        for mask, (cell, edge) in zip(masks, places, strict=True):
            full[cell, edge] = np.where(mask > 0, 0.0, 0.99)
        drawn.append(shape)
        return jnp.asarray(full, dtype)

    monkeypatch.setattr(cell_modules, "uniform_noise", noise)
    rate = float(GOLDEN["cfg/drop_path_prob"])

    @comparing.jit
    def run(weights, model_state):
        outputs, _ = net.apply(
            weights,
            model_state,
            batch["image"],
            train=True,
            rates={"drop_path": rate},
            key=jax.random.key(0),
        )
        return outputs

    outputs = run(*variables)
    assert drawn == [(5, 8, len(batch["label"]))]
    tolerance = comparing.TOLERANCE[dtype]
    for got, key in (
        (outputs.logits, "droppath_logits"),
        (outputs.auxiliary, "droppath_logits_aux"),
    ):
        comparing.assert_close(got, golden[key], tolerance, key)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
def test_imagenet_network(dtype):
    tolerance = comparing.TOLERANCE[dtype]
    golden = golden_files.collect(IMAGENET, "out/")
    with jax.enable_x64(dtype == jnp.float64):
        net = jnas.networks.build(
            genotype_text(IMAGENET["cfg/genotype"]),
            channels=int(IMAGENET["cfg/C"]),
            cells=int(IMAGENET["cfg/layers"]),
            num_classes=int(IMAGENET["cfg/num_classes"]),
            stem="imagenet",
            dtype=dtype,
        )
        variables = interop.from_darts(golden_files.collect(IMAGENET, "w/"), net)
        image = comparing.images(IMAGENET["in/x_uint8"].astype(float) - 1.5, dtype)
        batch = {"image": image, "label": jnp.asarray(IMAGENET["in/y"], jnp.int32)}
        run = training(net, jnas.networks.classification(), batch)
        (loss, (logits, state)), gradients = run(*variables)
        gradients = interop.to_darts(Variables(gradients, None), net)
        after = interop.to_darts(Variables(variables.weights, state), net)
    comparing.assert_close(logits, golden["logits_train"], tolerance)
    comparing.assert_close(loss, golden["loss_train"], tolerance)
    names = list(map(str, golden["grad_l2_names"]))
    assert set(names) == set(gradients)
    norms = [np.linalg.norm(gradients[n]) for n in names]
    comparing.assert_close(norms, golden["grad_l2"], tolerance, "grad_l2")
    expected = golden_files.split(
        golden["bn_after_flat"], golden["bn_after_names"], golden["bn_after_sizes"]
    )
    assert set(expected) == set(after) - set(gradients)
    for key, value in expected.items():
        comparing.assert_close(after[key], value, tolerance, key)


NETWORKS = {
    "cifar10": {"channels": 36, "cells": 20, "num_classes": 10},
    "cifar100": {"channels": 36, "cells": 20, "num_classes": 100},
    "imagenet": {
        "channels": 48,
        "cells": 14,
        "num_classes": 1000,
        "stem": "imagenet",
    },
}


@pytest.mark.parametrize("row", range(6))
def test_parameters(row):
    """Of six genotypes in full size; the auxiliary heads are counted by themselves."""
    name = str(GOLDEN["out/count/genotype_names"][row])
    genotype = genotype_text(GOLDEN[f"out/count/genotype/{name}"])
    columns = map(str, GOLDEN["out/count/columns"])
    counts = dict(zip(columns, GOLDEN["out/count/params"][row], strict=True))
    expected = {}
    for network, options in NETWORKS.items():
        plain = jnas.cost.count(genotype, **options).parameters
        full = jnas.cost.count(genotype, auxiliary=True, **options).parameters
        size = f"_C{options['channels']}_L{options['cells']}"
        expected |= {f"{network}{size}": plain, f"{network}_aux": full - plain}
    assert counts == expected


@pytest.mark.parametrize("row", range(6))
def test_parameters_of_the_networks_themselves(row):
    """Small ones, by the arrays that they have, against the closed form."""
    name = str(GOLDEN["out/count/genotype_names"][row])
    genotype = genotype_text(GOLDEN[f"out/count/genotype/{name}"])
    options = {"channels": 4, "cells": 3, "auxiliary": True}
    net = jnas.networks.build(genotype, **options)
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    shapes = jax.eval_shape(net.init, jax.random.key(0), image)
    counted = jnas.cost.num_parameters(shapes.weights)
    assert counted == jnas.cost.count(genotype, **options).parameters
