"""NAS-Bench-201's networks against the authors' code: numbers in tests/golden."""

import functools

import comparing
import golden_files
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jnas
from jnas import interop
from jnas.mixture import Mixture, from_genotype
from jnas.supernet import Variables

GOLDEN = golden_files.load("nb201_supernet")
SINGLE = range(len(GOLDEN["cfg/arch_strings"]))


def build(dtype, **options):
    sizes = {
        "channels": int(GOLDEN["cfg/C"]),
        "cells_per_stage": int(GOLDEN["cfg/N"]),
        "num_classes": int(GOLDEN["cfg/num_classes"]),
        "dtype": dtype,
    }
    return jnas.supernet.build(jnas.spaces.nasbench201(), **(sizes | options))


def test_operations_edges_and_their_order_are_the_reference_s():
    group = jnas.spaces.nasbench201().group("cell")
    assert tuple(GOLDEN["cfg/op_names"]) == group.operations
    assert tuple(GOLDEN["cfg/edge_names"]) == group.edge_names


@functools.cache
def search_network(form, dtype):
    """All passes of the search network, as dicts of NumPy arrays by the passes' names.

    ``form``: "stacked" is the shipped evaluation, "plain" goes edge by edge.
    """
    with jax.enable_x64(dtype == jnp.float64):
        net = build(dtype)
        evaluated = comparing.plain(net) if form == "plain" else net
        search = jnas.search.differentiable(
            evaluated, weight_tx=optax.sgd(1.0), arch_tx=optax.sgd(1.0)
        )
        arrays = golden_files.collect(GOLDEN, "w/")
        weights, model_state = interop.from_nasbench201(arrays, net)
        batch = comparing.batch(GOLDEN, "", dtype)

        @comparing.jit
        def run(weights, arch, one_hot):
            """With the softmax of arch, or with a path where one is given."""

            def loss(weights, arch):
                soft = search.probabilities(arch)
                rows = jax.tree.map(
                    lambda s, h: jnp.where(jnp.any(h), h, s), soft.weights, one_hot
                )
                logits, _ = evaluated.apply(
                    weights, model_state, Mixture(rows), batch["image"], train=True
                )
                return search.task.loss(logits, batch)[0], logits

            return jax.value_and_grad(loss, (0, 1), has_aux=True)(weights, arch)

        arch = {"cell": jnp.asarray(GOLDEN["in/alphas"], dtype)}
        paths = {"darts": np.zeros(arch["cell"].shape)}
        for i in SINGLE:
            paths[f"single{i}"] = np.eye(5)[GOLDEN["out/single_op_index"][i]]
        for draw in (0, 1):
            paths[f"gdas{draw}"] = np.eye(5)[GOLDEN[f"out/gdas{draw}/index"]]
        paths["setn_select"] = np.eye(5)[GOLDEN["in/alphas"].argmax(-1)]
        results = {}
        for name, path in paths.items():
            path = {"cell": jnp.asarray(path, dtype)}
            (loss, logits), (by_weights, by_arch) = run(weights, arch, path)
            by_weights = interop.to_nasbench201(Variables(by_weights, None), net)
            results[name] = jax.device_get(
                {"loss": loss, "logits": logits, "w": by_weights, "alphas": by_arch}
            )
        return results


@pytest.fixture(
    params=[
        ("stacked", jnp.float64),
        ("plain", jnp.float64),
        ("stacked", jnp.float32),
        pytest.param(("plain", jnp.float32), marks=pytest.mark.slow),
    ],
    ids=lambda p: f"{p[0]}-{p[1].__name__}",
)
def passes(request):
    form, dtype = request.param
    return search_network(form, dtype), comparing.TOLERANCE[dtype]


def assert_gradients_close(got, expected, tolerance):
    for name, value in expected.items():
        # A bias before a batch norm has no influence: its gradient is only rounding.
        floor = 1.0 if "edges" in name and name.endswith("bias") else 0.0
        comparing.assert_close(got[name], value, tolerance, name, floor)


def test_logits_and_loss(passes):
    results, tolerance = passes
    for name, found in results.items():
        for key in ("logits", "loss"):
            if f"out/{name}/{key}" in GOLDEN:
                expected = GOLDEN[f"out/{name}/{key}"]
                comparing.assert_close(found[key], expected, tolerance, (name, key))


def test_gradients_by_arch_and_by_all_weights(passes):
    results, tolerance = passes
    found = results["darts"]
    expected = GOLDEN["grad/darts/alphas"]
    comparing.assert_close(found["alphas"]["cell"], expected, tolerance)
    gradients = golden_files.collect(GOLDEN, "grad/darts/w/")
    assert set(gradients) == set(found["w"])
    assert_gradients_close(found["w"], gradients, tolerance)


def test_gradients_by_the_weights_of_single_paths(passes):
    results, tolerance = passes
    for i in SINGLE:
        expected = GOLDEN[f"out/single{i}/stem_conv_grad"]
        got = results[f"single{i}"]["w"]["stem.0.weight"]
        comparing.assert_close(got, expected, tolerance)
    for draw in (0, 1):
        found = results[f"gdas{draw}"]["w"]
        gradients = golden_files.collect(GOLDEN, f"grad/gdas{draw}/w/")
        unused = set(map(str, GOLDEN[f"out/gdas{draw}/params_without_grad"]))
        assert set(gradients) | unused == set(found)
        assert_gradients_close(found, gradients, tolerance)
        for name in unused:  # torch gives none at all
            assert not found[name].any(), name


def test_probabilities_of_paths_and_the_derived_genotype(x64):
    net = build(jnp.float64)
    search = jnas.search.differentiable(
        net, weight_tx=optax.sgd(1.0), arch_tx=optax.sgd(1.0)
    )
    arch = interop.arch_from_nasbench201({"arch_parameters": GOLDEN["in/alphas"]})
    shares = np.asarray(search.probabilities(arch).weights["cell"])
    for i in SINGLE:
        genotype = jnas.Genotype.parse(str(GOLDEN["cfg/arch_strings"][i]))
        path = np.asarray(from_genotype(net.space, genotype).weights["cell"])
        assert (path.argmax(-1) == GOLDEN["out/single_op_index"][i]).all()
        log_probability = np.log(shares[path > 0]).sum()
        expected = GOLDEN[f"out/single{i}/setn_log_prob"]
        comparing.assert_close(log_probability, expected, 1e-9)
    state = jnas.search.SearchState(*[None] * 11)._replace(arch=arch)
    assert search.derive(state).to_text() == str(GOLDEN["out/darts/genotype_argmax"])


def test_features_before_the_classifier(x64):
    """An identity in the classifier's place shows what it reads."""
    features = GOLDEN["out/darts/features"].shape[1]
    net = build(jnp.float64, num_classes=features)
    arrays = golden_files.collect(GOLDEN, "w/") | {
        "classifier.weight": np.eye(features),
        "classifier.bias": np.zeros(features),
    }
    variables = interop.from_nasbench201(arrays, net)
    rows = jax.nn.softmax(jnp.asarray(GOLDEN["in/alphas"]))
    image = comparing.images(GOLDEN["in/x"], jnp.float64)
    apply = comparing.jit(functools.partial(net.apply, train=True))
    logits, _ = apply(*variables, Mixture({"cell": rows}), image)
    comparing.assert_close(logits, GOLDEN["out/darts/features"], 1e-9)


@pytest.mark.parametrize(
    "dtype",
    [jnp.float64, pytest.param(jnp.float32, marks=pytest.mark.slow)],
    ids=["float64", "float32"],
)
@pytest.mark.parametrize("index", SINGLE)
def test_final_networks(index, dtype):
    tolerance = comparing.TOLERANCE[dtype]
    genotype = str(GOLDEN["cfg/arch_strings"][index])
    golden = golden_files.collect(GOLDEN, f"out/infer{index}/")
    arrays = golden_files.collect(GOLDEN, f"infer{index}/w/", f"infer{index}/buf/")
    with jax.enable_x64(dtype == jnp.float64):
        net = jnas.networks.build(genotype, channels=4, cells_per_stage=1, dtype=dtype)
        variables = interop.from_nasbench201(arrays, net)
        task = jnas.networks.classification()
        batch = comparing.batch(GOLDEN, "", dtype)

        @comparing.jit
        def run(weights, model_state):
            def loss(weights):
                logits, state = net.apply(
                    weights, model_state, batch["image"], train=True
                )
                return task.loss(logits, batch)[0], (logits, state)

            training = jax.value_and_grad(loss, has_aux=True)(weights)
            evaluated = net.apply(weights, model_state, batch["image"], train=False)
            return training, evaluated[0]

        ((loss, (logits, state)), gradients), evaluated = run(*variables)
        gradients = interop.to_nasbench201(Variables(gradients, None), net)
        after = interop.to_nasbench201(Variables(variables.weights, state), net)
    for got, key in (
        (evaluated, "logits_eval"),
        (logits, "logits_train"),
        (loss, "loss_train"),
    ):
        comparing.assert_close(got, golden[key], tolerance, key)
    names = list(map(str, golden["grad_l2_names"]))
    assert set(names) == set(gradients)
    norms = [np.linalg.norm(gradients[name]) for name in names]
    comparing.assert_close(norms, golden["grad_l2"], tolerance)
    names, sizes = golden["bn_names"], golden["bn_sizes"]
    for name, value in golden_files.split(
        golden["bn_after_flat"], names, sizes
    ).items():
        comparing.assert_close(after[name], value, tolerance, name)


@pytest.mark.parametrize("index", SINGLE)
def test_parameters_and_multiply_adds(index):
    genotype = jnas.Genotype.parse(str(GOLDEN["cfg/arch_strings"][index]))
    counts = GOLDEN["out/infer_params_flops"][index].reshape(-1, 2).tolist()
    sizes = ((4, 1, 10, 16), (16, 5, 10, 32), (16, 5, 100, 32), (16, 5, 120, 16))
    for expected, (channels, cells, classes, size) in zip(counts, sizes, strict=True):
        options = {
            "channels": channels,
            "cells_per_stage": cells,
            "num_classes": classes,
        }
        counted = jnas.cost.count(genotype, image_shape=(size, size, 3), **options)
        assert [counted.parameters, counted.multiply_adds] == expected
        if channels == 4:  # and the network itself
            net = jnas.networks.build(genotype, **options)
            image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
            shapes = jax.eval_shape(net.init, jax.random.key(0), image)
            assert jnas.cost.num_parameters(shapes.weights) == expected[0]
