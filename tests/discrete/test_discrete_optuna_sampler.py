"""Optuna's samplers: as asked and told by hand, branched, resumed, in any order."""

import sys
import warnings

import jax
import numpy as np
import pytest

import jnas
from jnas import discrete
from jnas.errors import JnasError

optuna = pytest.importorskip("optuna")
SPACE = jnas.spaces.nasbench201()


def by_hand(make, key, steps, score, directions, ordered=False):
    """The same study through Optuna's own ask and tell."""
    data = np.random.SeedSequence(np.asarray(jax.random.key_data(key)))
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        sampler=make(int(data.generate_state(1)[0])), directions=directions
    )
    optuna.logging.set_verbosity(optuna.logging.INFO)
    rows = []
    for _ in range(steps):
        trial = study.ask()
        genes = [
            trial.suggest_int(f"gene{i}", 0, n - 1)
            if ordered
            else trial.suggest_categorical(f"gene{i}", range(n))
            for i, n in enumerate(SPACE.genes)
        ]
        rows.append(genes)
        study.tell(trial, score(np.array([genes]))[0].tolist())
    return rows


def one(genes):
    return -np.abs(genes - 2).sum(-1).astype(float)


def two(genes):
    return np.stack([one(genes), genes.sum(-1).astype(float)], -1)


CASES = {
    "tpe": (lambda seed: optuna.samplers.TPESampler(seed=seed), one, None, True),
    "random": (lambda seed: optuna.samplers.RandomSampler(seed=seed), one, None, False),
    "nsga2": (
        lambda seed: optuna.samplers.NSGAIISampler(seed=seed, population_size=6),
        two,
        2,
        False,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_optuna_own_loop(case):
    make, score, many, ordered = CASES[case]
    strategy = discrete.optuna_sampler(SPACE, make, scores=many, ordered=ordered)
    key = jax.random.key(5)
    state, rows = strategy.init(key), []
    for _ in range(30):
        proposal, state = strategy.ask(state)
        rows += proposal.genes.tolist()
        state = strategy.tell(state, proposal, score(proposal.genes))
    directions = ["maximize"] * (many or 1)
    assert rows == by_hand(make, key, 30, score, directions, ordered)
    told = score(np.array(rows)).reshape(30, -1)[:, 0]
    assert float(strategy.best(state)[1]) == told.max()


@pytest.mark.parametrize("case", CASES)
def test_states_can_be_branched_and_made_again(case):
    """A new process has no study alive: the log alone gives the same proposals."""
    make, score, many, _ = CASES[case]
    strategy = discrete.optuna_sampler(SPACE, make, scores=many)
    state = strategy.init(jax.random.key(1))
    for n in (3, 8, 6):
        proposal, state = strategy.ask(state, n)
        values = score(proposal.genes)
        values[0] = np.nan  # a failure
        state = strategy.tell(state, proposal, values)
    fresh = discrete.optuna_sampler(SPACE, make, scores=many)
    want, _ = strategy.ask(state, 4)
    for again in (strategy, fresh, strategy):
        got, _ = again.ask(state, 4)
        np.testing.assert_array_equal(got.genes, want.genes)


def test_a_sampler_that_ignores_its_seed_is_found_out():
    strategy = discrete.optuna_sampler(
        SPACE, lambda seed: optuna.samplers.RandomSampler(seed=None)
    )
    _, state = strategy.ask(strategy.init(jax.random.key(0)), 5)
    strategy.ask(state, 1)
    with pytest.raises(JnasError, match="proposes something else for candidate"):
        strategy.ask(state, 1)


def test_only_what_was_asked_can_be_told_once():
    strategy = discrete.optuna_sampler(SPACE, "RandomSampler", capacity=4)
    proposal, state = strategy.ask(strategy.init(jax.random.key(0)), 3)
    with pytest.raises(JnasError, match="told candidate 3, which was never asked"):
        strategy.tell(state, proposal._replace(id=proposal.id + 1), np.zeros(3))
    state = strategy.tell(state, proposal, np.zeros(3))
    with pytest.raises(JnasError, match=r"told candidate 0, .* or was told before"):
        strategy.tell(state, proposal, np.zeros(3))
    with pytest.raises(JnasError, match="room for 4 evaluations, asked for 5"):
        strategy.ask(state, 2)


def test_optuna_stays_quiet_and_its_settings_as_they_were(capsys):
    before = optuna.logging.get_verbosity()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        strategy = discrete.optuna_sampler(
            SPACE,
            lambda seed: optuna.samplers.TPESampler(
                seed=seed, multivariate=True, constant_liar=True, n_startup_trials=2
            ),
        )
        proposal, state = strategy.ask(strategy.init(jax.random.key(0)), 4)
        strategy.ask(strategy.tell(state, proposal, one(proposal.genes)), 2)
    assert optuna.logging.get_verbosity() == before
    assert capsys.readouterr() == ("", "")


def test_wrong_samplers_are_one_clear_line(monkeypatch):
    with pytest.raises(JnasError, match="unknown Optuna sampler 'TPE'"):
        discrete.optuna_sampler(SPACE, "TPE")
    with pytest.raises(JnasError, match="sampler must be a name or"):
        discrete.optuna_sampler(SPACE, optuna.samplers.RandomSampler(seed=0))
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(JnasError, match="pip install optuna"):
        discrete.optuna_sampler(SPACE)
