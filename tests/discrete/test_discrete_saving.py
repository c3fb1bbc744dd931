"""Saved states: what is no state, or another strategy's, is told in one line."""

import jax
import numpy as np
import pytest

from jnas import discrete
from jnas.errors import JnasError


def made(**options):
    return discrete.regularized_evolution("nasbench201", **options)


def test_what_is_no_state_of_this_strategy_is_refused(tmp_path):
    path, own = tmp_path / "state.npz", made()
    state = own.init(jax.random.key(0))
    with pytest.raises(JnasError, match="there is no saved state"):
        discrete.load_state(path, own)
    with pytest.raises(JnasError, match="can't be written"):
        discrete.save_state(tmp_path / "no" / "state.npz", own, state)
    with open(path, "wb") as file:
        np.save(file, np.zeros(3))  # an array, not a file of arrays
    with pytest.raises(JnasError, match="no saved state"):
        discrete.load_state(path, own)
    discrete.save_state(path, own, state)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(JnasError, match="no saved state, or damaged"):
        discrete.load_state(path, own)


def test_other_hyper_parameters_are_refused(tmp_path):
    path, own = tmp_path / "state.npz", made()
    discrete.save_state(path, own, own.init(jax.random.key(0)))
    with pytest.raises(JnasError, match="mutation = 'uniform', this one has 'node'"):
        discrete.load_state(path, made(mutation="node"))
    with pytest.raises(JnasError, match="is the state of regularized_evolution"):
        discrete.load_state(path, discrete.random_search("nasbench201"))
    again = discrete.load_state(path, made())
    assert int(again.asked) == 0
