"""A real search through the loop: resume in the same bits, SIGKILL, bad input."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

import jnas
from jnas import data as datasets

EPOCHS = 6


def _data(num_classes=3, side=8, per_class=16):
    rng = np.random.default_rng(0)
    label = np.repeat(np.arange(num_classes), per_class).astype(np.int32)
    image = rng.integers(0, 60, (len(label), side, side, 1)).astype(np.uint8)
    for i, k in enumerate(label):  # bright pixels tell the class
        image[i, 0, 2 * k : 2 * k + 2] += 180
    return datasets.from_arrays(image, label, name="rows")


def _search(data, learning_rate=0.1, **options):
    """A search on the tiny supernet, planned like a preset's."""
    return tiny.tiny_search(
        weight_tx=jnas.optimizers.coupled_sgd(learning_rate),
        config={
            "epochs": EPOCHS,
            "steps_per_epoch": -(-len(data.train) // 8),
            "learning_rate": learning_rate,
        },
        **options,
    )


@pytest.fixture(scope="module")
def setup():
    data = _data()
    return data, _search(data)


def _run(setup, workdir, **options):
    data, search = setup
    options = {"epochs": EPOCHS, "batch_size": 8, "progress": False, **options}
    return jnas.run.search(search, data, workdir=workdir, **options)


@pytest.fixture(scope="module")
def straight(setup, tmp_path_factory):
    folder = tmp_path_factory.mktemp("straight")
    return _run(setup, folder), folder


def _bits(state):
    leaves = []
    for leaf in jax.tree.leaves(state):
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        leaves.append(np.asarray(leaf).tobytes())
    return leaves


def _rows(folder):
    rows = [json.loads(x) for x in (folder / "metrics.jsonl").read_text().splitlines()]
    return [
        {k: v for k, v in row.items() if k not in ("seconds", "images_per_second")}
        for row in rows
    ]


def test_history_tells_what_happened(straight, setup):
    result, folder = straight
    assert [row["epoch"] for row in result.history] == [1, 2, 3, 4, 5, 6]
    last = result.history[-1]
    assert last["train_loss"] < result.history[0]["train_loss"]
    assert last["genotype"] == str(result.genotype)
    table = np.array(last["probabilities"]["cell"])
    assert table.shape == (3, 3)
    np.testing.assert_allclose(table.sum(axis=1), 1, atol=1e-4)
    assert 0 < last["arch_entropy"] <= 1 and 0 < last["skip_share"] < 1
    assert _rows(folder)[0]["step"] == 3


def test_the_folder_has_what_people_and_other_commands_need(
    straight, setup, tmp_path, caplog
):
    result, folder = straight
    text = (folder / "genotype.json").read_text()
    assert jnas.Genotype.parse(text) == result.genotype
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "metrics.jsonl", "report.html", "space.json"} <= names
    page = (folder / "report.html").read_text()
    assert all(operation in page for operation in ("skip_connect", "dense"))
    # A page that can't be written is no reason to lose the result.
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / "report.html").write_text("somebody's own page")
    again = _run(setup, tmp_path / "copy")
    assert again.genotype == result.genotype
    assert "no report" in caplog.text
    assert (tmp_path / "copy" / "report.html").read_text() == "somebody's own page"


def test_three_epochs_stop_and_three_more_give_the_same_bits(straight, setup, tmp_path):
    result, folder = straight

    class Stop(Exception):
        pass

    def on_epoch(info):
        if info.epoch == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(jnas.run.Interrupted) as stopped:
        _run(setup, tmp_path / "x", on_epoch=on_epoch)
    assert stopped.value.signum == signal.SIGTERM
    resumed = _run(setup, tmp_path / "x")
    assert resumed.resumed_from == 9
    assert _bits(resumed.state) == _bits(result.state)
    assert _rows(tmp_path / "x") == _rows(folder)
    again = _run(setup, tmp_path / "x")
    assert again.resumed_from == 18 and _bits(again.state) == _bits(result.state)


def test_sigkill_in_the_middle_then_the_same_bits(straight, setup, tmp_path):
    result, folder = straight
    script = tmp_path / "child.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import sys
            sys.path[:0] = {[os.path.dirname(__file__), *sys.path]!r}
            import conftest  # the tests' JAX settings
            import test_run_search as t
            data = t._data()
            t._run((data, t._search(data)), {str(tmp_path / "x")!r})
            """
        )
    )
    environment = {
        **os.environ,
        "PYTHONPATH": os.path.dirname(os.path.dirname(__file__)),
    }
    child = subprocess.Popen([sys.executable, str(script)], env=environment)
    metrics = tmp_path / "x" / "metrics.jsonl"
    deadline = time.monotonic() + 300
    while not (metrics.exists() and metrics.read_text().count("\n") >= 2):
        assert child.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    resumed = _run(setup, tmp_path / "x")
    assert _bits(resumed.state) == _bits(result.state)
    assert _rows(tmp_path / "x") == _rows(folder)


def test_regularizer_epoch_end_changes_state_and_stops(setup):
    data, _ = setup
    seen = []

    def epoch_end(state, *, arch, evaluate, epoch, **context):
        uniform = jnas.mixture.uniform(tiny.SPACE)
        seen.append((float(state), evaluate(uniform)))
        return state + 1, jnas.regularizers.Action(stop=epoch == 2)

    regularizer = jnas.regularizers.Regularizer(
        init=lambda supernet, arch: jnp.zeros(()), epoch_end=epoch_end
    )
    result = _run((data, _search(data, regularizer=regularizer)), None)
    assert result.stopped and len(result.history) == 2
    assert [s for s, _ in seen] == [0.0, 1.0]
    assert set(seen[0][1]) == {"loss", "accuracy"}
    assert float(result.state.regularizer_state) == 2.0


def test_retrain_learns_and_reports(setup, tmp_path):
    data, _ = setup
    genotype = jnas.spaces.nasbench201().decode([3, 1, 1, 1, 1, 1])
    result = jnas.run.retrain(
        genotype, data, epochs=6, batch_size=16, seeds=(0, 1), channels=4,
        cells_per_stage=1, workdir=tmp_path, progress=False,
    )  # fmt: skip
    assert len(result.accuracies) == 2 and result.mean > 0.8
    expected = np.std(result.accuracies, ddof=1) / np.sqrt(2)
    np.testing.assert_allclose(result.standard_error, expected)
    network = jnas.networks.build(
        genotype, channels=4, cells_per_stage=1, num_classes=3
    )
    image = jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.float32)
    weights = jax.eval_shape(network.init, jax.random.key(0), image).weights
    assert result.parameters == jnas.cost.num_parameters(weights)
    again = jnas.run.retrain(
        genotype, data, epochs=6, batch_size=16, seeds=(0, 1), channels=4,
        cells_per_stage=1, workdir=tmp_path, progress=False,
    )  # fmt: skip
    assert again.accuracies == result.accuracies


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 7}, "composed for 6: pass epochs=7 to the preset"),
        ({"batch_size": 12}, "pass steps_per_epoch=2 to the preset"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"batch_size": 10_000}, "batch_size must be at most"),
    ],
)
def test_bad_options_are_one_line(setup, change, message):
    with pytest.raises(jnas.JnasError, match=message) as error:
        _run(setup, None, **change)
    assert "\n" not in str(error.value)


def test_data_that_does_not_fit_the_net_is_one_line():
    search = jnas.presets.darts(
        jnas.spaces.nasbench201(), channels=2, cells_per_stage=1, num_classes=3,
        epochs=EPOCHS, steps_per_epoch=3,
    )  # fmt: skip
    with pytest.raises(jnas.JnasError, match="has 3 outputs but 'rows' has 2 classes"):
        _run((_data(num_classes=2), search), None)


def test_nan_loss_is_one_line(setup, tmp_path):
    data, _ = setup
    with pytest.raises(jnas.JnasError, match="must be finite, got") as error:
        _run((data, _search(data, learning_rate=1e38)), tmp_path / "x")
    assert "\n" not in str(error.value) and "epoch" in str(error.value)


def test_workdir_of_another_configuration_names_the_difference(straight, setup):
    data, _ = setup
    _, folder = straight
    before = sorted(p.name for p in (folder / "checkpoints").iterdir())
    other = _search(data, learning_rate=0.5)
    with pytest.raises(jnas.JnasError, match="learning_rate") as error:
        _run((data, other), folder)
    assert "0.5" in str(error.value) and "0.1" in str(error.value)
    assert sorted(p.name for p in (folder / "checkpoints").iterdir()) == before
