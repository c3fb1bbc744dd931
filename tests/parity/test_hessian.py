"""The Hessian of the loss by all architecture parameters, against double backward.

The reference (RobustDARTS' analysis of DARTS' network) differentiates twice by reverse
mode; here forward mode goes over reverse mode, one direction at a time.
"""

import comparing
import golden_files
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

import jnas
from jnas import interop
from jnas.regularizers import curvature

GOLDEN = golden_files.load("darts_hessian")
TOLERANCE = comparing.TOLERANCE[jnp.float64]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def computed():
    """The value, the gradient and the Hessian by the concatenated matrices."""
    with jax.enable_x64(True):
        net = jnas.supernet.build(
            jnas.spaces.darts(),
            channels=int(GOLDEN["cfg/C"]),
            cells=int(GOLDEN["cfg/layers"]),
            num_classes=int(GOLDEN["cfg/num_classes"]),
            dtype=jnp.float64,
        )
        variables = interop.from_darts(golden_files.collect(GOLDEN, "w/"), net)
        arch = interop.arch_from_darts(golden_files.collect(GOLDEN, "in/"))
        relaxation = jnas.relax.softmax()
        task = jnas.supernet.classification()
        batch = comparing.batch(GOLDEN, "_val", jnp.float64)
        point, restore = jax.flatten_util.ravel_pytree(arch)
        assert (point[:112] == GOLDEN["in/alphas_normal"].ravel()).all()

        def loss(point):
            mixture = relaxation.probabilities(restore(point))
            logits, _ = net.apply(*variables, mixture, batch["image"], train=True)
            return task.loss(logits, batch)[0], logits

        (value, logits), slope = comparing.jit(jax.value_and_grad(loss, has_aux=True))(
            point
        )

        @comparing.jit
        def curved(point):
            def alone(point):
                return loss(point)[0]

            hessian = curvature.exact(alone, point, at_once=8)
            largest = curvature.largest_eigenvalue(alone, point, jax.random.key(0))
            return {"hessian": hessian, "lanczos": largest}

        return jax.device_get(
            {"loss": value, "logits": logits, "gradient": slope, **curved(point)}
        )


def test_value_and_gradient(computed):
    for key in ("loss", "logits"):
        comparing.assert_close(computed[key], GOLDEN[f"out/{key}"], TOLERANCE, key)
    expected = np.concatenate(
        [GOLDEN[f"grad/alphas_{g}"].ravel() for g in ("normal", "reduce")]
    )
    comparing.assert_close(computed["gradient"], expected, TOLERANCE)


def test_all_entries(computed):
    hessian = computed["hessian"]
    comparing.assert_close(hessian, GOLDEN["out/hessian"], TOLERANCE)
    comparing.assert_close(hessian, hessian.T, TOLERANCE)


def test_eigenvalues(computed):
    hessian = computed["hessian"]
    values = np.linalg.eigvalsh((hessian + hessian.T) / 2)
    comparing.assert_close(values, GOLDEN["out/eigenvalues"], TOLERANCE)
    comparing.assert_close(values.max(), GOLDEN["out/lambda_max"], TOLERANCE)
    # 20 products, from a random vector
    comparing.assert_close(computed["lanczos"], GOLDEN["out/lambda_max"], 1e-6)
    # A softmax does not see a shift of its row: 28 rows.
    assert (np.abs(values) < 1e-12).sum() == 28
    # Their code's figure has the weight decay of arch on the diagonal.
    figure = values.max() + GOLDEN["cfg/arch_wd"]
    comparing.assert_close(figure, GOLDEN["out/lambda_max_robustdarts"], TOLERANCE)
