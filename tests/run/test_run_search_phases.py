"""A search whose architecture starts late, through `jnas.run.search`."""

import numpy as np
import pytest
import tiny

import jnas
from jnas.data import from_arrays

STEPS, EPOCHS = 2, 3


def run(workdir=None, **options):
    rng = np.random.default_rng(0)
    label = np.repeat(np.arange(4), 12).astype(np.int32)
    data = from_arrays(rng.integers(0, 255, (48, 8, 8, 1), np.uint8), label)
    size = -(-len(data.train) // STEPS)
    archs = []

    def on_epoch(info):
        archs.append(np.asarray(info.state.arch["cell"]).copy())

    result = jnas.run.search(
        tiny.tiny_search(**options),
        data,
        epochs=EPOCHS,
        batch_size=size,
        workdir=workdir,
        progress=False,
        on_epoch=on_epoch,
    )
    return result, archs


def test_the_architecture_rests_until_its_first_step(tmp_path):
    result, archs = run(tmp_path, arch_from=2 * STEPS)
    np.testing.assert_array_equal(archs[0], archs[1])
    assert (archs[1] != archs[2]).any()
    assert ["val_loss" in row for row in result.history] == [False, False, True]
    assert ["arch_entropy" in row for row in result.history] == [False, False, True]
    assert all(row["train_loss"] > 0 for row in result.history)
    assert (tmp_path / "report.html").exists()


def test_rows_without_arch_metrics_can_be_shown(tmp_path):
    result, archs = run(tmp_path, arch_from=EPOCHS * STEPS)
    np.testing.assert_array_equal(archs[0], archs[-1])
    from jnas import report

    report.plot_history(result.history)
    assert (tmp_path / "report.html").exists()


@pytest.mark.parametrize("every", [2, 3])
def test_the_number_of_arch_steps(every):
    result, _ = run(arch_every=every)
    # Adam counts its updates.
    counts = [x for x in _counts(result.state.arch_opt_state)]
    assert counts and set(counts) == {-(-EPOCHS * STEPS // every)}


def _counts(tree):
    import jax

    return [
        int(leaf)
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
        if "count" in jax.tree_util.keystr(path)
    ]
