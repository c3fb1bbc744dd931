"""`Mixture`: what it means and what is refused."""

import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from jnas import JnasError, Mixture
from jnas.mixture import effective_weights

CELLS = {"cell": 2}
W = np.arange(9.0).reshape(3, 3)


def test_weights_edges_and_active_multiply():
    edges, active = np.array([1.0, 2.0, 3.0]), np.array([[0, 1], [2, 2], [1, 2]])
    result = effective_weights(
        Mixture({"cell": W}, edges={"cell": edges}, active={"cell": active}),
        tiny.SPACE,
        CELLS,
    )["cell"]
    keep = np.array([[1, 1, 0], [0, 0, 1], [0, 1, 1]])
    np.testing.assert_allclose(result, np.stack([W * edges[:, None] * keep] * 2))


def test_cells_may_differ():
    full = np.stack([W, 2 * W])
    edges = {"cell": jnp.ones(3)}
    result = effective_weights(Mixture({"cell": full}, edges), tiny.SPACE, CELLS)
    np.testing.assert_allclose(result["cell"], full)


@pytest.mark.parametrize(
    ("mixture", "message"),
    [
        ({"cell": W}, "must be a jnas.Mixture, got dict"),
        (Mixture({"normal": W}), "must have the groups"),
        (Mixture({"cell": W[:2]}), "operations"),
        (Mixture({"cell": W}, edges={"cell": np.ones(2)}), r"must be \[3\]"),
        (Mixture({"cell": W}, auxiliary={"cell": np.ones(3)}), "no auxiliary skip"),
        (Mixture({"cell": W}, active={"cell": np.zeros(3, int)}), r"must be \[3, A\]"),
        (
            Mixture({"cell": W}, active={"cell": np.full((3, 1), 3)}),
            "operations 0 to 2",
        ),
        (Mixture({"cell": W}, active={"cell": np.zeros((3, 1))}), "must be integers"),
    ],
)
def test_bad_mixtures_are_one_line(mixture, message):
    with pytest.raises(JnasError, match=message) as error:
        effective_weights(mixture, tiny.SPACE, CELLS)
    assert "\n" not in str(error.value)
