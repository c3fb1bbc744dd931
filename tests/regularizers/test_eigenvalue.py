"""When the curvature stops a search, against a list-based reading of the rule."""

import types

import numpy as np
import pytest

import jnas
from jnas import regularizers


def published_rule(values, last_epoch, ratio=1.3):
    """METHODS of RobustDARTS on lists: (trigger epoch, stop epoch) or None."""
    averages = {}
    for k in range(3, len(values) + 1):
        epoch = 2 * (k - 1)
        averages[epoch - 4] = np.mean(values[max(0, k - 5) : k])
        if epoch == last_epoch or (epoch - 4) - 8 < 10:
            continue
        if averages[epoch - 4] / averages[epoch - 12] > ratio:
            return epoch, epoch - 12
    return None


def run(part, values, epochs=50):
    """Feeds a curve; (trigger epoch, epoch of the result), counted from 0, or None."""
    state = part.init(None, None)
    for epoch in range(1, epochs + 1):
        seen = None
        if (epoch - 1) % 2 == 0:
            seen = types.SimpleNamespace(lambda_max=values[(epoch - 1) // 2])
        state, action = part.epoch_end(
            state, arch=None, diagnostics=seen, evaluate=None, epoch=epoch, more=1
        )
        if action.stop:
            return epoch - 1, epoch - 1 - action.rollback_epochs
    return None


def test_stops_where_the_published_rule_does():
    part = regularizers.eigenvalue_stop(epochs=50)
    rng = np.random.default_rng(0)
    found = []
    for _ in range(200):
        steps = rng.normal(0.02, 0.15, 25)
        values = np.float32(0.2 * np.exp(np.cumsum(steps)))
        expected = published_rule(list(values), last_epoch=49)
        assert run(part, values) == expected
        found.append(expected)
    assert None in found and len({x for x in found if x}) > 5


@pytest.mark.parametrize(
    ("rises_at", "trigger", "stop"),
    [(20, 22, 10), (26, 28, 16), (32, 34, 22), (28, 30, 18), (22, 24, 12)],
)
def test_synthetic_curves(rises_at, trigger, stop):
    """A jump of the curve is seen after two measurements: the mean of five moves."""
    values = [0.1 if 2 * k < rises_at else 0.2 for k in range(25)]
    # (4 * 0.1 + 0.2) / 5 = 0.12 is not over 1.3 * 0.1; (3 * 0.1 + 2 * 0.2) / 5 is.
    assert run(regularizers.eigenvalue_stop(epochs=50), values) == (trigger, stop)
    assert published_rule(values, 49) == (trigger, stop)


def test_never_before_22_never_in_the_last_epoch_never_when_flat():
    part = regularizers.eigenvalue_stop(epochs=50)
    doubling = [0.1 * 2**k for k in range(25)]
    assert run(part, doubling) == (22, 10)
    assert run(part, [0.1] * 25) is None
    assert run(part, doubling[::-1]) is None
    # 23 epochs: epoch 22, counted from 0, is the last.
    assert run(regularizers.eigenvalue_stop(epochs=23), doubling, epochs=23) is None
    assert run(regularizers.eigenvalue_stop(), doubling, epochs=23) == (22, 10)
    # Of what is not finite, or was not positive, no ratio says anything.
    assert run(part, [float("nan")] * 25) is None
    assert run(part, [-0.1 * 2**k for k in range(25)]) is None


def test_the_offset_counts_in_the_ratio():
    values = [0.001] * 10 + [0.002] * 15
    assert run(regularizers.eigenvalue_stop(), values) is not None
    assert run(regularizers.eigenvalue_stop(offset=0.1), values) is None


def test_adaptive_goes_back_raises_and_ends_with_the_most():
    part = regularizers.eigenvalue_adaptive(epochs=50)
    state = part.init(None, None)
    epoch, taken = 0, []
    for _ in range(300):
        if epoch == 50:
            break
        epoch += 1
        seen = types.SimpleNamespace(lambda_max=0.1 * 1.2**epoch)
        state, action = part.epoch_end(state, diagnostics=seen, epoch=epoch)
        assert not action.stop
        if action.rollback_epochs:
            taken.append((epoch - 1, action.hyperparams["weight_decay"]))
            epoch -= action.rollback_epochs
    # The curve always rises: at epoch 22 (from 0) each time, back to 10.
    assert [at for at, _ in taken] == [22, 22]
    np.testing.assert_allclose([decay for _, decay in taken], [3e-3, 3e-2])
    assert epoch == 50 and int(state.raised) == 2


def test_adaptive_remembers_what_was_before():
    # After going back the measurements up to there still count, as if never left.
    part = regularizers.eigenvalue_adaptive()
    state = part.init(None, None)
    values = [0.1 * 1.2**k for k in range(12)]
    for k, value in enumerate(values):
        seen = types.SimpleNamespace(lambda_max=value)
        state, action = part.epoch_end(state, diagnostics=seen, epoch=2 * k + 1)
    assert action.rollback_epochs == 12
    kept = np.asarray(state.values)
    np.testing.assert_allclose(kept[np.isfinite(kept)], values[:6], rtol=1e-6)


@pytest.mark.parametrize("most", [0.03, 0.3])
def test_adaptive_keeps_the_checkpoints_that_a_soon_second_trigger_needs(most):
    """Curvature that rises again right after going back goes back further."""
    part = regularizers.eigenvalue_adaptive(most=most)
    state, epoch, saved, returns = part.init(None, None), 0, [], []
    flat, high = 0.1, 10.0
    while epoch < 60:
        epoch += 1
        # From epoch 41 on it is high; after going back at once.
        value = high if epoch > 40 or returns else flat
        seen = None if epoch % 2 == 0 else types.SimpleNamespace(lambda_max=value)
        state, action = part.epoch_end(state, diagnostics=seen, epoch=epoch)
        if action.rollback_epochs:
            epoch -= action.rollback_epochs
            assert epoch in saved
            returns.append(epoch)
            saved = [e for e in saved if e < epoch]
        saved = [*saved, epoch][-part.keeps_states - 1 :]
    assert len(returns) == {0.03: 2, 0.3: 3}[most]
    assert returns[1] < returns[0]


def test_bad_input_is_one_line():
    part = regularizers.eigenvalue_stop()
    with pytest.raises(jnas.JnasError, match="lambda_max"):
        part.epoch_end(part.init(None, None), diagnostics=None, epoch=1)
    for options in (
        {"every": 0},
        {"window": 1.5},
        {"lag": 0},
        {"ratio": 0},
        {"epochs": -1},
        {"earliest": -1},
    ):
        with pytest.raises(jnas.JnasError, match=next(iter(options))):
            regularizers.eigenvalue_stop(**options)
    for options in ({"factor": 1.0}, {"most": 0}, {"weight_decay": 0}):
        with pytest.raises(jnas.JnasError, match=next(iter(options))):
            regularizers.eigenvalue_adaptive(**options)
