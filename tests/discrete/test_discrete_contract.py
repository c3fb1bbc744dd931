"""The conformance suite of strategies: what each must do, whatever it is."""

import functools
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnas
from jnas import discrete
from jnas.errors import JnasError

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from strategies import OTHERS, STRATEGIES

SPACES = {
    "nasbench201": jnas.spaces.nasbench201(),  # a product of choices
    "s2": jnas.spaces.robust_darts("S2"),  # nodes choose their edges, ragged
}
EVERY = [(name, "nasbench201") for name in STRATEGIES] + [
    (name, "s2") for name in STRATEGIES if not name.endswith("-201")
]
every = pytest.mark.parametrize(("name", "space"), EVERY)
TOLD = 24


class Jitted:
    """A strategy's functions, compiled where they can be."""

    def __init__(self, name, space):
        self.plain = STRATEGIES[name](SPACES[space])
        self.traceable = self.plain.traceable
        jit = jax.jit if self.traceable else (lambda f, **_: f)
        self.init, self.best = jit(self.plain.init), jit(self.plain.best)
        self.ask = jit(self.plain.ask, static_argnums=1)
        self.tell = jit(self.plain.tell)


@functools.cache
def jitted(name, space):
    return Jitted(name, space)


def score(genes, scores=None):
    """Something to climb, with M parts where that is asked for."""
    genes = np.asarray(genes)
    target = np.arange(genes.shape[-1]) % 2
    first = -np.abs(genes - target).sum(-1).astype(np.float32)
    if scores is None:
        return first
    second = genes.sum(-1).astype(np.float32)
    return np.stack([first, *[second] * (scores - 1)], axis=-1)


def play(own, state, batches, values=score):
    """Asks and tells; returns the state and all that was proposed."""
    asked = []
    for n in batches:
        proposal, state = own.ask(state, n)
        asked.append(proposal)
        state = own.tell(state, proposal, values(proposal.genes, own.plain.scores))
    return state, asked


def genes_of(asked):
    return np.concatenate([np.asarray(p.genes) for p in asked])


def leaves(state):
    return [
        np.asarray(
            jax.random.key_data(x)
            if jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
            else x
        )
        for x in jax.tree.leaves(state)
        if hasattr(x, "dtype")
    ]


def equal(a, b):
    assert len(leaves(a)) == len(leaves(b))
    for x, y in zip(leaves(a), leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


def test_registry_is_complete():
    known = {name.split("-")[0] for name in STRATEGIES}
    assert set(discrete.__all__) - OTHERS == known
    assert set(discrete.names()) == known
    for name in discrete.names():
        assert discrete.make(name, "nasbench201", 30).name == name


@every
@pytest.mark.parametrize("batches", [[1] * 8, [3, 5], [8, 7, 2], [TOLD]], ids=str)
def test_any_batch_size_and_valid_genes(name, space, batches):
    own = jitted(name, space)
    state, asked = play(own, own.init(jax.random.key(1)), batches)
    genes = genes_of(asked)
    assert genes.dtype == np.int32 and SPACES[space].valid(genes).all()
    ids = np.concatenate([np.asarray(p.id) for p in asked])
    np.testing.assert_array_equal(ids, np.arange(sum(batches)))
    fidelity = np.concatenate([np.asarray(p.fidelity) for p in asked])
    assert np.all((fidelity > 0) & (fidelity <= 1))
    best, value = own.best(state)
    told = score(genes)
    assert float(value) == told.max()
    np.testing.assert_array_equal(best, genes[told.argmax()])


@every
def test_same_seed_same_candidates_another_seed_others(name, space):
    own = jitted(name, space)
    runs = [
        genes_of(play(own, own.init(jax.random.key(seed)), [4] * 3)[1])
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert np.any(runs[0] != runs[2])


@every
def test_scores_that_are_not_finite_never_win(name, space):
    own = jitted(name, space)
    bad = np.array([np.nan, np.inf, -np.inf, np.nan], np.float32)
    state = own.init(jax.random.key(2))

    def values(genes, scores):
        result = score(genes, scores)
        rows = np.arange(len(result)) % 5 != 4  # one of five is told as it is
        result[rows] = np.resize(bad, rows.sum()).reshape(-1, *[1] * (result.ndim - 1))
        return result

    proposal, state = own.ask(state, 4)
    before = own.tell(state, proposal, values(proposal.genes, own.plain.scores))
    assert float(own.best(before)[1]) == -np.inf
    state, asked = play(own, before, [5] * 4, values)
    genes = genes_of(asked)
    assert SPACES[space].valid(genes).all()
    real = score(genes)[4::5]
    assert float(own.best(state)[1]) == real.max()
    for leaf in leaves(state):
        if leaf.dtype.kind == "f" and name.split("-")[0] in ("reinforce", "ppo"):
            assert np.isfinite(leaf[leaf != -np.inf]).all()


@every
def test_resume_from_a_saved_state_is_exact(name, space, tmp_path):
    own = jitted(name, space)
    state, _ = play(own, own.init(jax.random.key(3)), [4] * 3)
    discrete.save_state(tmp_path / "state.npz", own.plain, state)
    read = discrete.load_state(tmp_path / "state.npz", own.plain)
    equal(state, read)
    whole, asked = play(own, state, [4] * 2)
    resumed, again = play(own, read, [4] * 2)
    np.testing.assert_array_equal(genes_of(asked), genes_of(again))
    equal(whole, resumed)


@every
def test_vmap_over_seeds_equals_a_loop(name, space):
    own = jitted(name, space)
    if not own.traceable:
        pytest.skip("its state lives on the host")
    keys = jax.random.split(jax.random.key(4), 3)
    axes = discrete.seed_axes
    ask = jax.jit(
        jax.vmap(lambda s: own.plain.ask(s, 6), in_axes=(axes,), out_axes=(0, axes))
    )
    tell = jax.jit(jax.vmap(own.plain.tell, in_axes=(axes, 0, 0), out_axes=axes))
    states = jax.jit(jax.vmap(own.plain.init, out_axes=axes))(keys)
    together = []
    for _ in range(3):
        proposal, states = ask(states)
        together.append(np.asarray(proposal.genes))
        flat = together[-1].reshape(-1, together[-1].shape[-1])
        values = score(flat, own.plain.scores).reshape(
            3, 6, *score(flat, own.plain.scores).shape[1:]
        )
        states = tell(states, proposal, values)
    together = np.concatenate(together, axis=1)
    for i, key in enumerate(keys):
        alone, asked = play(own, own.init(key), [6] * 3)
        np.testing.assert_array_equal(together[i], genes_of(asked))
        value = jax.jit(jax.vmap(own.plain.best, in_axes=(axes,)))(states)[1][i]
        assert float(own.best(alone)[1]) == float(value)


@every
def test_scan_of_ask_and_tell_equals_single_calls(name, space):
    own = jitted(name, space)
    if not own.traceable:
        pytest.skip("its state lives on the host")

    def one(state, _):
        proposal, state = own.plain.ask(state, 4)
        genes = proposal.genes
        target = (jnp.arange(genes.shape[-1]) % 2)[None]
        first = -jnp.abs(genes - target).sum(-1) * 1.0
        scores = own.plain.scores
        if scores is not None:
            rest = [genes.sum(-1) * 1.0] * (scores - 1)
            first = jnp.stack([first, *rest], axis=-1)
        return own.plain.tell(state, proposal, first), genes

    start = own.init(jax.random.key(5))
    _, genes = jax.jit(lambda s: jax.lax.scan(one, s, length=3))(start)
    _, asked = play(own, start, [4] * 3)
    np.testing.assert_array_equal(np.concatenate(np.asarray(genes)), genes_of(asked))


@every
def test_told_in_parts_and_in_any_order(name, space):
    own = jitted(name, space)
    state = own.init(jax.random.key(6))
    pending = []
    for _ in range(3):  # 12 asked before any is told
        proposal, state = own.ask(state, 4)
        pending += [
            jax.tree.map(lambda x, i=i: x[i : i + 1], proposal) for i in range(4)
        ]
    seen = []
    for i in np.random.default_rng(0).permutation(12):
        values = score(pending[i].genes, own.plain.scores)
        state = own.tell(state, pending[i], values)
        seen.append(float(score(pending[i].genes)[0]))
        assert float(own.best(state)[1]) == max(seen)
    proposal, state = own.ask(state, 4)
    assert SPACES[space].valid(np.asarray(proposal.genes)).all()


@every
def test_wrong_calls_are_one_clear_line(name, space):
    own = jitted(name, space)
    state = own.init(jax.random.key(7))
    for n in (0, -1, True, 1.5):
        with pytest.raises(JnasError, match="number of candidates >= 1"):
            own.plain.ask(state, n)
    proposal, state = own.ask(state, 3)
    with pytest.raises(JnasError, match="scores of shape"):
        own.plain.tell(state, proposal, np.zeros((3, 7)))
    with pytest.raises(JnasError, match=r"unknown|expected a space"):
        STRATEGIES[name]("nasbench202" if space == "s2" else 3)
