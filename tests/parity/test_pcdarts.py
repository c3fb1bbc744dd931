"""PC-DARTS' search network against the authors' code: numbers in tests/golden."""

import functools

import comparing
import golden_files
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnas
from jnas import interop
from jnas.supernet import Variables, partial

GOLDEN = golden_files.load("pcdarts")


def build(channels=16, cells=8, **options):
    space = jnas.spaces.darts()
    return jnas.supernet.build(space, channels=channels, cells=cells, **options)


@functools.cache
def passes():
    """The loss, the logits and all gradients, in float64."""
    with jax.enable_x64(True):
        net = build(
            int(GOLDEN["cfg/C"]),
            int(GOLDEN["cfg/layers"]),
            partial_channels=int(GOLDEN["cfg/k"]),
            dtype=jnp.float64,
        )
        arrays = golden_files.collect(GOLDEN, "w/")
        image = jax.ShapeDtypeStruct((3, 16, 16, 3), jnp.float64)
        fresh = jax.eval_shape(net.init, jax.random.key(0), image)
        state = jax.tree_util.tree_map_with_path(_fresh_statistic, fresh.model_state)
        weights, model_state = interop.from_darts(
            {
                **interop.to_darts(Variables(_zeros(fresh.weights), state), net),
                **arrays,
            },
            net,
        )
        relaxation = jnas.relax.edge_normalised()
        batch = comparing.batch(GOLDEN, "", jnp.float64)
        task = jnas.supernet.classification()
        arch = {
            name: {
                group: jnp.asarray(GOLDEN[f"in/{stored}_{group}"])
                for group in ("normal", "reduce")
            }
            for name, stored in (("operations", "alphas"), ("edges", "betas"))
        }

        def loss(weights, arch):
            mixture = relaxation.probabilities(arch, space=net.space)
            logits, _ = net.apply(
                weights, model_state, mixture, batch["image"], train=True
            )
            return task.loss(logits, batch)[0], logits

        run = comparing.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
        (value, logits), (by_weights, by_arch) = run(weights, arch)
        by_weights = interop.to_darts(Variables(by_weights, state), net)
        genotype = jnas.select.argmax().select(
            arch, relaxation.probabilities(arch, space=net.space), space=net.space
        )
        return jax.device_get((value, logits, by_weights, by_arch)), genotype


def _zeros(tree):
    return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), tree)


def _fresh_statistic(path, leaf):
    return np.full(leaf.shape, float(str(path[-1].key).endswith("var")), leaf.dtype)


def test_logits_and_loss():
    (value, logits, _, _), _ = passes()
    comparing.assert_close(value, GOLDEN["out/loss"], 1e-9)
    comparing.assert_close(logits, GOLDEN["out/logits"], 1e-9)


def test_gradients_by_alpha_beta_and_all_weights():
    (_, _, by_weights, by_arch), _ = passes()
    for name, stored in (("operations", "alphas"), ("edges", "betas")):
        for group in ("normal", "reduce"):
            expected = GOLDEN[f"grad/{stored}_{group}"]
            comparing.assert_close(by_arch[name][group], expected, 1e-9, name)
    gradients = golden_files.collect(GOLDEN, "grad/w/")
    assert len(gradients) > 100
    for name, expected in gradients.items():
        comparing.assert_close(by_weights[name], expected, 1e-9, name)


def test_genotype_is_of_the_products_of_alpha_and_beta():
    _, genotype = passes()
    for group, text in zip(("normal", "reduce"), GOLDEN["out/genotype"], strict=True):
        edges = [(edge.operation, edge.source) for edge in genotype[group].edges]
        assert str(edges) == str(text)


def test_published_size():
    net = build(partial_channels=4)
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    shapes = jax.eval_shape(net.init, jax.random.key(0), image).weights
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 299_578


def test_shuffle_is_the_reference_s():
    x = jnp.arange(12.0)
    found = partial.joined(x[:3], x[3:], 4)
    expected = GOLDEN["out/channel_shuffle_of_arange12_groups4"]
    np.testing.assert_array_equal(found, expected)


def test_channels_must_divide():
    with pytest.raises(jnas.JnasError, match="must divide channels, got 4 and 6"):
        build(channels=6, partial_channels=4)
