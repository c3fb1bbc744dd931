"""The conformance suite of strategies: what each must do, whatever it is.

What takes time here is to compile. So all tests of a strategy share its compiled
functions, and they ask for `SIZE` candidates at once: more than a population or an
initial stage of those in `strategies`, and no multiple of one.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from strategies import STRATEGIES

import jnas
from jnas import discrete
from jnas.errors import JnasError

SPACES = {
    "nasbench201": jnas.spaces.nasbench201(),  # a product of choices
    "s2": jnas.spaces.robust_darts("S2"),  # nodes choose their edges, ragged
}
SIZE = 7


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
def jitted(name, space="nasbench201"):
    return Jitted(name, space)


def score(genes, scores=None, np=np):
    """Something to climb, with M parts where that is asked for."""
    genes = np.asarray(genes)
    target = np.arange(genes.shape[-1]) % 2
    target = target.reshape((1,) * (genes.ndim - 1) + (-1,))
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


def proposes(name, space, batches):
    """Valid candidates in numbers of any size, of which the best is remembered."""
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


class Conformance:
    """The tests of every strategy and its variants; a subclass says of which."""

    def test_valid_genes_and_the_best_of_them(self, name):
        proposes(name, "nasbench201", [SIZE] * 3)

    def test_same_seed_same_candidates_another_seed_others(self, name):
        own = jitted(name)
        runs = [
            genes_of(play(own, own.init(jax.random.key(seed)), [SIZE] * 2)[1])
            for seed in (0, 0, 1)
        ]
        np.testing.assert_array_equal(runs[0], runs[1])
        assert np.any(runs[0] != runs[2])

    def test_scores_that_are_not_finite_never_win(self, name):
        own = jitted(name)
        bad = np.array([np.nan, np.inf, -np.inf, np.nan], np.float32)

        def values(genes, scores, real=1):
            result = score(genes, scores)
            many = SIZE - real  # the last one is told as it is
            rows = np.resize(bad, many).reshape(-1, *[1] * (result.ndim - 1))
            result[:many] = rows
            return result

        state = own.init(jax.random.key(2))
        proposal, state = own.ask(state, SIZE)
        first = values(proposal.genes, own.plain.scores, real=0)
        before = own.tell(state, proposal, first)
        assert float(own.best(before)[1]) == -np.inf
        state, asked = play(own, before, [SIZE] * 3, values)
        genes = genes_of(asked)
        assert SPACES["nasbench201"].valid(genes).all()
        real = score(genes)[SIZE - 1 :: SIZE]
        assert float(own.best(state)[1]) == real.max()
        for leaf in leaves(state):
            if leaf.dtype.kind == "f" and name.split("-")[0] in ("reinforce", "ppo"):
                assert np.isfinite(leaf[leaf != -np.inf]).all()

    def test_resume_from_a_saved_state_is_exact(self, name, tmp_path):
        own = jitted(name)
        state, _ = play(own, own.init(jax.random.key(3)), [SIZE] * 2)
        discrete.save_state(tmp_path / "state.npz", own.plain, state)
        read = discrete.load_state(tmp_path / "state.npz", own.plain)
        equal(state, read)
        whole, asked = play(own, state, [SIZE] * 2)
        resumed, again = play(own, read, [SIZE] * 2)
        np.testing.assert_array_equal(genes_of(asked), genes_of(again))
        equal(whole, resumed)

    def test_told_in_parts_and_in_any_order(self, name):
        own = jitted(name)
        state = own.init(jax.random.key(6))
        pending = []
        for _ in range(2):  # 14 asked before any is told
            proposal, state = own.ask(state, SIZE)
            pending += [
                jax.tree.map(lambda x, i=i: np.asarray(x)[i : i + 1], proposal)
                for i in range(SIZE)
            ]
        seen = []
        for i in np.random.default_rng(0).permutation(2 * SIZE):
            values = score(pending[i].genes, own.plain.scores)
            state = own.tell(state, pending[i], values)
            seen.append(float(score(pending[i].genes)[0]))
            assert float(own.best(state)[1]) == max(seen)
        proposal, state = own.ask(state, SIZE)
        assert SPACES["nasbench201"].valid(np.asarray(proposal.genes)).all()

    def test_wrong_calls_are_one_clear_line(self, name):
        own = jitted(name)
        state = own.init(jax.random.key(7))
        for n in (0, -1, True, 1.5):
            with pytest.raises(JnasError, match="number of candidates >= 1"):
                own.plain.ask(state, n)
        proposal, state = own.ask(state, SIZE)
        with pytest.raises(JnasError, match="scores of shape"):
            own.plain.tell(state, proposal, np.zeros((SIZE, 7)))
        for space, message in (("nasbench202", "unknown"), (3, "expected a space")):
            with pytest.raises(JnasError, match=message):
                STRATEGIES[name](space)


class More:
    """What variants of a strategy share; every test compiles further programs."""

    def test_any_batch_size(self, name):
        proposes(name, "nasbench201", [1, 1, SIZE, 1, 1, 1, SIZE])

    @pytest.mark.slow
    def test_all_at_once(self, name):
        proposes(name, "nasbench201", [24])

    def test_genes_that_depend_on_each_other(self, name):
        if name.endswith("-201"):
            pytest.skip("it is of genes that may be chosen one by one")
        proposes(name, "s2", [SIZE] * 3)

    def test_scan_under_vmap_over_seeds_equals_single_calls(self, name):
        own = jitted(name)
        if not own.traceable:
            pytest.skip("its state lives on the host")
        axes = discrete.seed_axes

        def step(state, _):
            proposal, state = own.plain.ask(state, SIZE)
            values = score(proposal.genes, own.plain.scores, jnp)
            return own.plain.tell(state, proposal, values), proposal.genes

        def run(state):
            state, genes = jax.lax.scan(step, state, length=3)
            return genes, own.plain.best(state), state

        keys = jax.random.split(jax.random.key(4), 2)
        states = jax.jit(jax.vmap(own.plain.init, out_axes=axes))(keys)
        together = jax.jit(jax.vmap(run, in_axes=(axes,), out_axes=(0, 0, axes)))
        genes, (best, value), states = together(states)
        assert states.asked.shape == () and states.told == SIZE * 3
        for i, key in enumerate(keys):
            alone, asked = play(own, own.init(key), [SIZE] * 3)
            np.testing.assert_array_equal(
                genes[i].reshape(SIZE * 3, -1), genes_of(asked)
            )
            np.testing.assert_array_equal(best[i], own.best(alone)[0])
            assert float(own.best(alone)[1]) == float(value[i])
