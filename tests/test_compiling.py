"""The compiler's options: known to this jaxlib, overridden by the user, harmless."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnas import compiling


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")
    compiling._of_cpu.cache_clear()
    yield
    compiling._of_cpu.cache_clear()


def test_the_library_is_left_out_on_the_cpu():
    def product(x):
        return jnp.sum(x @ x, axis=0)

    x = jnp.asarray(np.random.default_rng(0).normal(size=(64, 64)), jnp.float32)
    found = compiling.options()
    if found is None:
        pytest.skip("this jaxlib does not know the option")
    text = jax.jit(product, compiler_options=found).lower(x).compile().as_text()
    assert "ynn" not in text
    plain = jax.jit(product)(x)
    other = jax.jit(product, compiler_options=found)(x)
    np.testing.assert_allclose(other, plain, rtol=1e-4, atol=1e-4)


def test_a_choice_in_the_environment_stands(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_experimental_ynn_fusion_type=")
    assert compiling.options() is None


def test_an_unknown_option_is_left_out(monkeypatch):
    monkeypatch.setattr(compiling, "_LIBRARY", "xla_cpu_no_such_option")
    assert compiling.options() is None


def test_other_backends_keep_their_defaults(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert compiling.options() is None
