"""The unrolled arch step of DARTS' recurrent code, with its quirks.

Those of clipping are `jnas.bilevel.unrolled`'s ``clip``. A third one is an accident
that only these tests reproduce: the virtual weights are loaded by name, and as the
decoder is tied to the embedding, the embedding's virtual update is overwritten by the
decoder's old value; its derivative is still taken.
"""

import comparing
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import test_recurrent as recurrent
import test_second_order as second

import jnas
from jnas import bilevel, optimizers

SEARCH = recurrent.SEARCH


def lose_embedding(updates, params):
    """Updates the embedding by 0, with the derivative of the lost update."""
    del params
    lost = updates["embedding"]
    return {**updates, "embedding": lost - jax.lax.stop_gradient(lost)}


@pytest.mark.parametrize("case", ["arch_unrolled", "arch_unrolled_clip2"])
def test_finite_difference_arch_step(x64, case):
    """In the second case the factor of the implicit term is above 1."""
    eta, clip = float(SEARCH[f"out/{case}/eta"]), float(SEARCH[f"out/{case}/clip"])
    factor = float(SEARCH[f"out/{case}/clip_coef_unclamped"])
    assert (factor > 1) == (case == "arch_unrolled_clip2")
    tx = optimizers.coupled_sgd(
        eta, momentum=0.0, weight_decay=float(SEARCH["cfg/wdecay"]), clip=None
    )
    record = []
    inner_tx = optax.chain(tx, optax.stateless(lose_embedding))
    tx = optax.chain(tx, optax.identity())
    hypergradient = bilevel.unrolled(
        method="finite_difference", clip=clip, inner_tx=inner_tx
    )
    plain, state, train, val = recurrent.composed(jnp.float64)
    search = jnas.search.differentiable(
        plain.supernet,
        task=recurrent.TASK,
        weight_tx=tx,
        arch_tx=optimizers.coupled_adam(
            float(SEARCH["cfg/arch_lr"]),
            b1=float(SEARCH["cfg/arch_betas"][0]),
            b2=float(SEARCH["cfg/arch_betas"][1]),
            weight_decay=float(SEARCH["cfg/arch_wdecay"]),
        ),
        hypergradient=second.recorded(hypergradient, record),
    )
    state = state._replace(weight_opt_state=tx.init(state.weights))

    def step(state):
        after, _ = search.arch_step(state, train, val)
        return after.arch["recurrent"], record.pop()["recurrent"]

    arch, grad = comparing.jit(step)(state)
    expected = SEARCH[f"out/{case}/grad_alphas"]
    comparing.assert_close(grad, expected, 1e-6, "gradient")
    response = expected - SEARCH[f"out/{case}/grad_direct"]
    assert np.abs(response).max() > 1e-3 * np.abs(expected).max()
    comparing.assert_close(arch, SEARCH[f"out/{case}/alphas_after_adam"], 1e-6)
