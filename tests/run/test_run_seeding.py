"""Several seeds: each as its single run, one program or several, resume, summary."""

import json
import os
import signal
import statistics

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_run_search as single
import tiny

import jnas
from jnas import report
from jnas.regularizers import Action, Regularizer, chain, identity
from jnas.run import metrics, phases, planning, seeding

SEEDS = (0, 3)
OPTIONS = {"epochs": single.EPOCHS, "batch_size": 8, "progress": False}
COMPILED = "/jax/core/compile/backend_compile_duration"


@pytest.fixture(scope="module")
def data():
    return single._data()


@pytest.fixture(scope="module")
def search(data):
    return single._search(data)


@pytest.fixture(scope="module")
def singles(data, search):
    """The runs with one seed that everything is compared with."""
    return {
        seed: jnas.run.search(search, data, seed=seed, **OPTIONS)
        for seed in (0, 1, 2, 3)
    }


def _close(got, expected, rtol, atol):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for (path, x), y in zip(
        jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(expected), strict=True
    ):
        assert (x.shape, x.dtype) == (y.shape, y.dtype), path
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
            np.testing.assert_array_equal(x, y)
        else:
            np.testing.assert_allclose(
                np.asarray(x), np.asarray(y), rtol, atol, err_msg=str(path)
            )


def _same_rows(got, expected, rtol=1e-4):
    """Rows with the same names, in the same order, and nearly the same numbers."""
    for one, other in zip(got, expected, strict=True):
        assert list(one) == list(other)
        for name, value in other.items():
            if name not in ("seconds", "images_per_second", "genotype"):
                flat, expected_flat = jax.tree.leaves(one[name]), jax.tree.leaves(value)
                np.testing.assert_allclose(flat, expected_flat, rtol, 1e-5)


def _nasbench(preset, dtype=jnp.float32, epochs=1, steps=1):
    return getattr(jnas.presets, preset)(
        jnas.spaces.nasbench201(), channels=4, cells_per_stage=1, num_classes=3,
        dtype=dtype, epochs=epochs, steps_per_epoch=steps,
    )  # fmt: skip


@pytest.mark.parametrize(
    "preset", ["darts", pytest.param("drnas", marks=pytest.mark.slow)]
)
def test_one_vmapped_step_is_that_of_the_single_runs(data, preset):
    search = _nasbench(preset)
    options = {"epochs": 1, "batch_size": 19, "diagnose_every": 0, "progress": False}
    many = jnas.run.search(search, data, seeds=SEEDS, batching="vmap", **options)
    assert many.batching == "vmap" and many.seeds == SEEDS
    for seed, got in zip(SEEDS, many.results, strict=True):
        expected = jnas.run.search(search, data, seed=seed, **options)
        assert int(got.state.step) == 1
        _close(got.state, expected.state, 1e-5, 1e-5)
        _same_rows(got.history, expected.history)
        assert got.genotype == expected.genotype
    first, second = (found.state.weights for found in many.results)
    assert any(
        np.any(np.asarray(a) != np.asarray(b))
        for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    )


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["darts", "drnas"])
def test_twenty_vmapped_steps_in_float64(x64, data, preset):
    search = _nasbench(preset, jnp.float64, epochs=5, steps=4)
    options = {"epochs": 5, "batch_size": 5, "diagnose_every": 0, "progress": False}
    many = jnas.run.search(search, data, seeds=SEEDS, batching="vmap", **options)
    for seed, got in zip(SEEDS, many.results, strict=True):
        expected = jnas.run.search(search, data, seed=seed, **options)
        assert int(got.state.step) == 20
        assert got.state.arch["cell"].dtype == jnp.float64
        _close(got.state, expected.state, 1e-9, 1e-9)


def test_vmapped_rows_and_folders_are_those_of_single_runs(
    data, search, singles, tmp_path
):
    many = jnas.run.search(
        search, data, seeds=SEEDS, batching="vmap", workdir=tmp_path, **OPTIONS
    )
    for seed, got in zip(SEEDS, many.results, strict=True):
        _close(got.state, singles[seed].state, 1e-5, 1e-5)
        _same_rows(got.history, singles[seed].history)
        folder = tmp_path / f"seed{seed}"
        assert metrics.read_rows(folder / "metrics.jsonl") == got.history
        names = {path.name for path in folder.iterdir()}
        assert {"config.json", "genotype.json", "report.html", "space.json"} <= names
        run = report.runs.read(folder)
        assert (run.seed, run.finished, run.genotype) == (seed, True, got.genotype)
        assert run.epochs == single.EPOCHS
    runs = report.runs.read_all(tmp_path)
    assert [run.seed for run in runs] == list(SEEDS)
    assert len(report.spread.settings(runs)) == 1  # they differ in the seed alone
    told = json.loads((tmp_path / "seeds.json").read_text())
    assert told["finished"] and told["seeds"] == list(SEEDS)
    assert told["batching"] == "vmap" and told["genotypes"] == many.summary.genotypes
    spread = many.summary.metrics["val_loss"]
    assert told["metrics"]["val_loss"] == spread._asdict()
    assert (tmp_path / "report.html").exists()
    # Of the wall time each row has its share.
    total = sum(row["seconds"] for got in many.results for row in got.history)
    np.testing.assert_allclose(total, many.seconds)


def test_every_seed_draws_as_its_single_run(data):
    """Samples, perturbations, batches have the keys of the single runs; in a scan."""
    search = single._search(
        data,
        relaxation=jnas.relax.dirichlet(),
        regularizer=jnas.regularizers.random_smoothing(0.03),
    )
    many = jnas.run.search(
        search, data, seeds=SEEDS, batching="vmap", chunk=3, **OPTIONS
    )
    for seed, got in zip(SEEDS, many.results, strict=True):
        expected = jnas.run.search(search, data, seed=seed, **OPTIONS)
        _close(got.state, expected.state, 1e-5, 1e-5)
        _same_rows(got.history, expected.history)


@pytest.mark.parametrize("batching", ["vmap", "sharded"])
def test_a_mapped_run_goes_on_in_the_same_bits(data, search, tmp_path, batching):
    def run(folder, **options):
        return jnas.run.search(
            search, data, seeds=SEEDS, batching=batching, workdir=tmp_path / folder,
            **OPTIONS, **options,
        )  # fmt: skip

    straight = run("a")
    told = []

    def on_epoch(info):
        told.append(info.epoch)
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(jnas.run.Interrupted):
        run("b", on_epoch=on_epoch)
    assert told == [1]
    # A process that was killed may have left more rows than its checkpoint knows of.
    rows = tmp_path / "b" / "seed0" / "metrics.jsonl"
    rows.write_text(rows.read_text() + '{"epoch": 2, "step": 6, "seconds": 1}\n{"ep')
    resumed = run("b")
    assert resumed.results[0].resumed_from == 3
    for got, expected, seed in zip(
        resumed.results, straight.results, SEEDS, strict=True
    ):
        assert single._bits(got.state) == single._bits(expected.state)
        folders = [tmp_path / name / f"seed{seed}" for name in "ab"]
        assert single._rows(folders[0]) == single._rows(folders[1])
    again = run("b")
    assert again.results[0].resumed_from == 3 * single.EPOCHS
    assert [found.history for found in again.results] == [
        found.history for found in resumed.results
    ]


@pytest.mark.parametrize(
    ("seeds", "devices", "share"), [((0, 1, 2, 3), 4, 1), ((0, 1, 2), 2, 2)]
)
def test_sharded_seeds_are_the_single_runs(
    data, search, singles, monkeypatch, seeds, devices, share
):
    own = jax.devices()[:devices]
    monkeypatch.setattr(jax, "local_devices", lambda *_, **__: own)
    seen = []

    def on_epoch(info):
        shards = info.state.weights["out"].addressable_shards
        seen.append({shard.device: shard.data.shape[0] for shard in shards})

    many = jnas.run.search(
        search, data, seeds=seeds, batching="sharded", on_epoch=on_epoch, **OPTIONS
    )
    assert seen == [dict.fromkeys(own, share)] * single.EPOCHS
    for seed, got in zip(seeds, many.results, strict=True):
        _close(got.state, singles[seed].state, 1e-5, 1e-5)
        _same_rows(got.history, singles[seed].history)


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["drnas", "gdas"])
def test_sharded_nasbench_step(data, preset):
    search = _nasbench(preset)
    options = {"epochs": 1, "batch_size": 19, "diagnose_every": 0, "progress": False}
    many = jnas.run.search(search, data, seeds=range(4), batching="sharded", **options)
    for seed, got in enumerate(many.results):
        expected = jnas.run.search(search, data, seed=seed, **options)
        _close(got.state, expected.state, 1e-5, 1e-5)


def test_sequential_seeds_are_the_single_runs_in_bits(data, search, singles, tmp_path):
    many = jnas.run.search(search, data, seeds=SEEDS, workdir=tmp_path, **OPTIONS)
    assert many.batching == "sequential"  # on the CPU
    for seed, got in zip(SEEDS, many.results, strict=True):
        assert single._bits(got.state) == single._bits(singles[seed].state)
        folder = tmp_path / f"seed{seed}"
        assert (folder / "checkpoints").is_dir() and (folder / "report.html").exists()
    more = jnas.run.search(search, data, seeds=(0, 1, 3), workdir=tmp_path, **OPTIONS)
    assert [found.resumed_from for found in more.results] == [18, None, 18]
    assert single._bits(more.results[1].state) == single._bits(singles[1].state)


def test_a_second_seed_compiles_nothing(data):
    compiled = []

    def listener(event, duration, **context):
        del duration, context
        if event == COMPILED:
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listener)
    try:

        def count(*seeds):
            before = len(compiled)
            jnas.run.search(
                single._search(data), data, seeds=seeds, diagnose_every=2, **OPTIONS
            )
            return len(compiled) - before

        count(0)  # what all searches share
        alone = count(0)
        assert alone > 0
        assert count(0, 1, 2) == alone
    finally:
        jax.monitoring.unregister_event_duration_listener(listener)


def test_summary_is_numpys(data, search, singles):
    results = [singles[seed] for seed in (0, 1, 2, 3)]
    summary = seeding.seeds_result.summarize(results)
    for name in ("val_loss", "train_accuracy", "arch_entropy", "seconds"):
        values = [found.history[-1][name] for found in results]
        mean, std, count = summary.metrics[name]
        np.testing.assert_allclose(
            [mean, std], [np.mean(values), np.std(values, ddof=1)]
        )
        assert count == 4
    assert not {"epoch", "step", "genotype"} & set(summary.metrics)
    assert sum(summary.genotypes.values()) == sum(summary.verdicts.values()) == 4
    assert set(summary.genotypes) == {str(found.genotype) for found in results}
    many = jnas.run.SeedsResult(tuple(results), (0, 1, 2, 3), "vmap", 1.0, summary)
    assert str(many) == many.text and " ± " in many.text
    assert f"val_loss {summary.metrics['val_loss']}" in many.text
    one = seeding.seeds_result.summarize(results[:1]).metrics["val_loss"]
    assert one.std is None and "±" not in str(one) and "(1 seed)" in str(one)


def test_summary_leaves_out_what_is_not_finite(singles):
    row = {"epoch": 1, "step": 3, "seconds": 1.0, "val_loss": None, "flag": True}
    odd = singles[0]._replace(history=[row | {"val_accuracy": float("nan")}])
    summary = seeding.seeds_result.summarize([odd, singles[1]])
    assert summary.metrics["val_loss"].count == 1
    assert (
        summary.metrics["val_accuracy"].mean == singles[1].history[-1]["val_accuracy"]
    )
    assert "flag" not in summary.metrics


def _diverging(key, state):
    """Some seeds begin with weights that are not finite."""
    bad = jax.random.uniform(key) < 0.5
    return state._replace(
        weights=jax.tree.map(lambda w: jnp.where(bad, jnp.nan, w), state.weights)
    )


def test_a_seed_that_diverges(data, search, caplog):
    options = {**OPTIONS, "start": jax.tree_util.Partial(_diverging)}
    broken = [
        seed
        for seed in range(4)
        if jax.random.uniform(
            jax.random.split(jax.random.fold_in(jax.random.key(seed), 0))[1]
        )
        < 0.5
    ]
    assert 0 < len(broken) < 4
    message = f"train_loss of seed {broken[0]} must be finite"
    with pytest.raises(jnas.JnasError, match=message):
        jnas.run.search(search, data, seeds=range(4), batching="vmap", **options)
    with pytest.raises(jnas.JnasError, match=f"seed {broken[0]}: train_loss must"):
        jnas.run.search(search, data, seeds=range(4), **options)

    options["on_nan"] = "skip"
    many = jnas.run.search(search, data, seeds=range(4), batching="vmap", **options)
    for seed, got in enumerate(many.results):
        skipped = 1.0 if seed in broken else 0.0
        assert [row["steps_skipped"] for row in got.history] == [skipped] * 6
        assert int(got.state.step) == 18
        told = f"seed {seed}: every step of epoch 6 was skipped" in caplog.text
        assert told == (seed in broken)
        if seed in broken:
            assert got.history[-1]["train_loss"] is None
            continue
        expected = jnas.run.search(search, data, seed=seed, **options)
        _close(got.state, expected.state, 1e-5, 1e-5)
        _same_rows(got.history, expected.history)
    assert many.summary.metrics["val_loss"].count == 4 - len(broken)


def test_means_of_a_seed_leave_out_its_own_skipped_steps():
    sums = {
        "loss of seed 0": 6.0, "steps_skipped of seed 0": 2.0,
        "loss of seed 1": 6.0, "steps_skipped of seed 1": 1.0,
        "loss": 6.0, "steps_skipped": 1.5,
    }  # fmt: skip
    row = phases.means({"both": sums}, {"both": 4})
    assert row["loss of seed 0"] == 3.0 and row["loss of seed 1"] == 2.0
    assert row["steps_skipped of seed 0"] == 0.5
    np.testing.assert_allclose(row["loss"], 6.0 / 2.5)


def test_phases_are_mapped_too(data):
    search = single._search(data, arch_from=6, arch_every=2)
    many = jnas.run.search(search, data, seeds=SEEDS, batching="vmap", **OPTIONS)
    for seed, got in zip(SEEDS, many.results, strict=True):
        expected = jnas.run.search(search, data, seed=seed, **OPTIONS)
        _close(got.state, expected.state, 1e-5, 1e-5)
        _same_rows(got.history, expected.history)
    assert ["val_loss" in row for row in got.history] == [False] * 2 + [True] * 4


def test_both_halves_may_share_a_batch(data):
    size = {"epochs": single.EPOCHS, "steps_per_epoch": 5, "data": "full"}
    search = tiny.tiny_search(config=size)
    many = jnas.run.search(search, data, seeds=SEEDS, batching="vmap", **OPTIONS)
    for seed, got in zip(SEEDS, many.results, strict=True):
        expected = jnas.run.search(search, data, seed=seed, **OPTIONS)
        _close(got.state, expected.state, 1e-5, 1e-5)


def _plan(data, search):
    return planning.Plan(search, data, epochs=single.EPOCHS, batch_size=8)


def test_auto_chooses_by_backend_devices_and_search(data, search, monkeypatch):
    plan = _plan(data, search)

    def auto(plan, number=8, **options):
        return seeding.choose(plan, number, **options)[0]

    assert auto(plan) == "sequential"
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert auto(plan) == "sharded"
    devices = jax.devices()[:1]
    monkeypatch.setattr(jax, "local_devices", lambda *_, **__: devices)
    assert auto(plan) == "vmap" and auto(plan, 1) == "sequential"
    assert auto(plan, on_nan="rollback") == "sequential"
    assert auto(plan, on_epoch=print) == "sequential"
    sampled = _plan(data, single._search(data, relaxation=jnas.relax.gumbel_hard()))
    assert seeding.samples_paths(sampled.search)
    assert auto(sampled) == "sequential"
    devices = jax.devices()
    assert auto(sampled, 8) == "sharded"  # one on each: nothing is mapped
    assert auto(sampled, 9) == "sequential"
    stopping = Regularizer(epoch_end=lambda state, **context: (state, Action()))
    between = _plan(data, single._search(data, regularizer=chain(stopping)))
    assert auto(between) == "sequential"
    quiet = _plan(data, single._search(data, regularizer=chain(identity(), identity())))
    assert auto(quiet) == "sharded"


STOPPING = Regularizer(epoch_end=lambda state, **context: (state, Action()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": ()}, "seeds must be at least one, got none"),
        ({"seeds": 8}, r"seeds must be several whole numbers, got 8: pass range\(8\)"),
        ({"seeds": "01"}, "seeds must be several whole numbers"),
        ({"seeds": (0, 1, 0)}, "seeds must differ, got 0 more than once"),
        ({"seeds": (0, -1)}, "seeds must be whole numbers >= 0, got -1"),
        ({"seeds": (0, 1.5)}, "seeds must be whole numbers >= 0, got 1.5"),
        ({"seeds": (True,)}, "seeds must be whole numbers >= 0, got True"),
        ({"seed": 0}, "give seed or seeds, not both"),
        ({"batching": "pmap"}, "unknown batching 'pmap'"),
        ({"batching": "vmap", "on_nan": "rollback"}, "takes single seeds back"),
        ({"batching": "vmap", "stream": True}, "the data are streamed"),
    ],
)
def test_bad_options_are_one_line(data, search, change, message):
    with pytest.raises(jnas.JnasError, match=message) as error:
        jnas.run.search(search, data, **{"seeds": SEEDS, **OPTIONS, **change})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("batching", ["vmap", "sharded"])
def test_a_regularizer_that_acts_between_epochs_is_sequential(data, batching):
    search = single._search(data, regularizer=STOPPING)
    with pytest.raises(jnas.JnasError, match=r"got '(vmap|sharded)': the regularizer"):
        jnas.run.search(search, data, seeds=SEEDS, batching=batching, **OPTIONS)


def test_folders_of_another_batching_are_told(data, search, tmp_path):
    options = {"seeds": SEEDS, **OPTIONS}
    alone, together = tmp_path / "alone", tmp_path / "together"
    jnas.run.search(search, data, workdir=alone, **options)
    with pytest.raises(jnas.JnasError, match="holds a search of that seed alone"):
        jnas.run.search(search, data, workdir=alone, batching="vmap", **options)
    jnas.run.search(search, data, workdir=together, batching="vmap", **options)
    with pytest.raises(jnas.JnasError, match='batching: got nothing, expected "vmap"'):
        jnas.run.search(search, data, workdir=together, **options)
    options["seeds"] = (0, 1)
    with pytest.raises(jnas.JnasError, match=r"holds another run .*seeds"):
        jnas.run.search(search, data, workdir=together, batching="vmap", **options)


def test_a_damaged_list_of_seeds_is_one_line(tmp_path):
    for content in ('{"seeds": []}', '{"seeds": ["../x"]}', '{"seeds": 3}', "{}"):
        (tmp_path / "seeds.json").write_text(content)
        with pytest.raises(jnas.JnasError, match="must name its seeds") as error:
            report.runs.read_all(tmp_path)
        assert "\n" not in str(error.value)


def test_spread_has_both_numbers_to_the_same_place():
    spread = seeding.seeds_result.Spread
    values = [0.9, 0.925, 0.914]
    own = spread(statistics.fmean(values), statistics.stdev(values), 3)
    assert str(own) == "0.913 ± 0.013 (3 seeds)"
    assert str(spread(0.5, 0.00123, 2)) == "0.5000 ± 0.0012 (2 seeds)"
    assert str(spread(0.5, 0.0, 2)) == "0.500 ± 0.000 (2 seeds)"
