"""The diagnosis in every search's rows, and what regularizers do between epochs."""

import json
import logging

import jax
import numpy as np
import pytest
import tiny
from test_run_search import _bits, _data

import jnas
from jnas import regularizers
from jnas.regularizers import Action, Regularizer
from jnas.run import diagnosing

EPOCHS = 6
KEYS = ("lambda_max", "mixture_loss", "derived_loss", "mixture_accuracy")


@pytest.fixture(scope="module")
def data():
    return _data()


def make(data, regularizer=None, epochs=EPOCHS):
    return tiny.tiny_search(
        weight_tx=jnas.optimizers.coupled_sgd(0.1),
        regularizer=regularizer,
        recent_every=-(-len(data.train) // 8),
        config={"epochs": epochs, "steps_per_epoch": -(-len(data.train) // 8)},
    )


def run(search, data, workdir=None, epochs=EPOCHS, **options):
    return jnas.run.search(
        search, data, epochs=epochs, batch_size=8, progress=False, workdir=workdir,
        report=False, **options,
    )  # fmt: skip


def measured(history):
    return [row["epoch"] for row in history if "lambda_max" in row]


def test_rows_have_curvature_and_gap_at_the_cadence(data):
    search = make(data)
    result = run(search, data, diagnose_every=2)
    assert measured(result.history) == [1, 3, 5, 6]
    for row in result.history:
        assert all((key in row) == ("lambda_max" in row) for key in KEYS)
    # The last row is of the state that is given back.
    state, last = result.state, result.history[-1]
    count, batches = jnas.run.material.validation_batches(data, 8, search.config)
    batches = list(batches)[: min(count, 8)]
    expected = float(jax.jit(search.lambda_max)(state, batches[0]))
    assert last["lambda_max"] == pytest.approx(expected, rel=1e-3, abs=1e-6)
    space = search.supernet.space
    for name, mixture in (
        ("mixture", search.probabilities(state.arch)),
        ("derived", jnas.mixture.from_genotype(space, search.derive(state))),
    ):
        values = [search.evaluate(state, mixture, batch) for batch in batches]
        mean = np.mean([float(loss) for loss, _ in values])
        assert last[f"{name}_loss"] == pytest.approx(mean, rel=1e-4)
        mean = np.mean([float(own["accuracy"]) for _, own in values])
        assert last[f"{name}_accuracy"] == pytest.approx(mean, abs=1e-6)


def test_the_diagnosis_changes_no_bit_and_can_be_left_out(data):
    search = make(data)
    without = run(search, data, diagnose_every=0)
    assert measured(without.history) == []
    assert _bits(without.state) == _bits(run(search, data, diagnose_every=1).state)


@pytest.mark.parametrize(
    ("steps", "epochs", "every"),
    [(391, 50, 1), (200, 50, 1), (199, 50, 2), (12, 50, 17), (1, 200, 200), (3, 60, 0)],
)
def test_cadence_takes_a_tenth_at_most(steps, epochs, every):
    assert diagnosing.cadence(steps, epochs) == every
    if every:
        assert 0.1 * steps * every + 1e-9 >= diagnosing.COST


def scripted(actions, **fields):
    """A regularizer that asks for the actions of the epochs given, once each."""
    done = set()

    def epoch_end(state, *, epoch, **context):
        del context
        if epoch in actions and epoch not in done:
            done.add(epoch)
            return state, actions[epoch]
        return state, Action()

    return Regularizer(epoch_end=epoch_end, **fields)


def test_stopping_gives_the_architecture_of_before(data, caplog):
    archs = {}

    def keep(info):
        archs[info.epoch] = jax.tree.map(np.asarray, info.state.arch)

    part = scripted({5: Action(stop=True, rollback_epochs=3)}, keeps_archs=3)
    search = make(data, part)
    with caplog.at_level(logging.WARNING, "jnas"):
        result = run(search, data, on_epoch=keep)
    assert result.stopped and len(result.history) == 5
    np.testing.assert_array_equal(result.state.arch["cell"], archs[2]["cell"])
    assert (archs[5]["cell"] != archs[2]["cell"]).any()
    assert result.genotype == search.derive(result.state)
    assert "architecture of epoch 2" in caplog.text


def test_more_archs_than_are_kept_is_one_line(data):
    part = scripted({2: Action(stop=True, rollback_epochs=1)})
    with pytest.raises(jnas.JnasError, match="recent=2"):
        run(make(data, part), data)


def test_archs_kept_at_another_interval_are_one_line(data):
    """One step ago would be taken for one epoch ago."""
    search = tiny.tiny_search(regularizer=jnas.regularizers.skip_stop(2))
    steps = -(-len(data.train) // 8)
    with pytest.raises(jnas.JnasError, match=f"recent_every={steps}"):
        run(search, data)


def back(epochs=2, decay=0.125):
    action = Action(rollback_epochs=epochs, hyperparams={"weight_decay": decay})
    return scripted({4: action}, keeps_states=2)


def test_going_back_restores_the_checkpoint_with_the_new_decay(data, tmp_path):
    weights = []

    def keep(info):
        decay = float(info.state.weight_opt_state.hyperparams["weight_decay"])
        weights.append((info.epoch, decay, _bits(info.state.arch)))
        assert [row["epoch"] for row in info.history] == [*range(1, info.epoch + 1)]
        assert info.history[-1] == info.metrics

    result = run(make(data, back()), data, tmp_path / "a", on_epoch=keep)
    assert [w[0] for w in weights] == [1, 2, 3, 4, 3, 4, 5, 6]
    decays = [round(w[1], 6) for w in weights]
    assert decays == [3e-4] * 4 + [0.125] * 4
    assert [row["epoch"] for row in result.history] == [1, 2, 3, 4, 5, 6]
    lines = (tmp_path / "a/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert int(result.state.step) == EPOCHS * -(-len(data.train) // 8)
    # The data come in another order, and the decay differs.
    assert weights[2][2] != weights[4][2]
    # Up to there nothing is different from a run that never goes back.
    plain = run(make(data), data, tmp_path / "b")
    for a, b in zip(result.history[:2], plain.history[:2], strict=True):
        assert a["train_loss"] == b["train_loss"]


def test_a_run_that_was_stopped_after_going_back_ends_in_the_same_bits(data, tmp_path):
    straight = run(make(data, back()), data, tmp_path / "a")
    calls = []

    class Stop(Exception):
        pass

    def interrupt(info):
        calls.append(info.epoch)
        if calls == [1, 2, 3, 4, 3]:
            raise Stop

    part = back()
    search = make(data, part)
    with pytest.raises(Stop):
        run(search, data, tmp_path / "b", on_epoch=interrupt)
    # Going back was saved at once, with the new decay.
    again = run(search, data, tmp_path / "b")
    assert again.resumed_from == 2 * -(-len(data.train) // 8)
    assert _bits(straight.state) == _bits(again.state)


def test_going_back_needs_a_workdir_and_kept_states(data, tmp_path):
    with pytest.raises(jnas.JnasError, match="workdir"):
        run(make(data, back()), data)
    with pytest.raises(jnas.JnasError, match="keeps_states to 3"):
        run(make(data, back(3)), data, tmp_path)


def test_a_stop_by_curvature_gets_its_measurements(data):
    # Every epoch, window and lag 1, and a ratio that any curve exceeds.
    part = regularizers.eigenvalue_stop(
        every=1, window=1, lag=1, ratio=1e-9, earliest=1, offset=1e6
    )
    search = make(data, part)
    result = run(search, data, diagnose_every=0)
    # After epoch e, counted from 0, for the first e with e - 1 >= 1.
    assert result.stopped and [row["epoch"] for row in result.history] == [1, 2, 3]
    assert measured(result.history) == [1, 2, 3]
    values = np.asarray(result.state.regularizer_state.values)
    expected = [row["lambda_max"] for row in result.history[-2:]]
    np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_adaptive_decay_in_a_run(data, tmp_path):
    part = regularizers.eigenvalue_adaptive(
        every=1, window=1, lag=1, ratio=1e-9, earliest=1, offset=1e6, epochs=EPOCHS,
        factor=10.0, most=0.03,
    )  # fmt: skip
    result = run(make(data, part), data, tmp_path)
    assert not result.stopped and len(result.history) == EPOCHS
    decay = result.state.weight_opt_state.hyperparams["weight_decay"]
    assert float(decay) == pytest.approx(0.03)
    assert int(result.state.regularizer_state.raised) == 2


def test_bad_cadence_is_one_line(data):
    for value in (-1, 1.5, True):
        with pytest.raises(jnas.JnasError, match="diagnose_every"):
            run(make(data), data, diagnose_every=value)


def test_shares_are_in_every_row(data):
    search = make(data)
    result = run(search, data)
    space = search.supernet.space
    names = space.group("cell").operations
    for row in result.history:
        weights = np.asarray(row["probabilities"]["cell"])
        own = row["shares"]["cell"]
        assert set(own) == {"skip", "none"}  # it has no pools
        for kind, operation in (("skip", "skip_connect"), ("none", "none")):
            mean = weights[:, names.index(operation)].mean()
            assert own[kind] == pytest.approx(mean, abs=2e-5)
    assert result.verdict.level in ("undecided", "healthy", "collapsing", "collapsed")


@pytest.mark.parametrize(
    ("since", "warned"), [(3, ["epoch 3: so"]), (EPOCHS, [])], ids=["early", "at last"]
)
def test_a_collapse_is_warned_of_once_and_not_when_it_is_over(
    data, caplog, monkeypatch, since, warned
):
    verdict = jnas.report.collapse.Verdict
    asked = []

    def judge(rows, genotype=None, method=None):
        asked.append((len(rows), genotype is None))
        return verdict("collapsed" if len(rows) >= since else "healthy", "so")

    monkeypatch.setattr("jnas.report.collapse.verdict", judge)
    with caplog.at_level(logging.WARNING, "jnas"):
        result = run(make(data), data, diagnose_every=1)
    assert [record.getMessage() for record in caplog.records] == warned
    # Of the whole search, and of what it found.
    assert result.verdict.level == "collapsed" and asked[-1] == (EPOCHS, False)
