"""Files of runs: damaged ones give the right values or one clear line, never others."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fuzz.damage import JSON, changed_json, damaged, edits, fuzz, result_or_error
from hypothesis import given
from hypothesis import strategies as st

import jnas
from jnas import report, run
from jnas.cli import config
from jnas.cli.search import Search
from jnas.networks import recipes
from jnas.run import metrics, workdir
from jnas.run.checkpoint import Checkpoints

STATE = {
    "w": jnp.arange(40.0).reshape(5, 8),
    "count": jnp.int32(3),
    "key": jax.random.key(1),
    "empty": jnp.zeros((0, 2)),
}
TEMPLATE = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), STATE)
NB201 = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|none~1|none~2|"
# Picks a file.
which = st.integers(0, 10_000)


def equal(one, other):
    def raw(leaf):
        key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if key else leaf)

    same = jax.tree.map(lambda a, b: np.array_equal(raw(a), raw(b)), one, other)
    return all(jax.tree.leaves(same))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "checkpoints"
    checkpoints = Checkpoints(folder, keep=2)
    for step in (4, 9):
        checkpoints.save(step, STATE, {"loss": jnp.float32(step)}, seconds=1.5)
    checkpoints.wait()
    return folder


def copied(saved, tmp_path):
    folder = tmp_path / "checkpoints"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(saved, folder)
    return folder


@fuzz(20)
@given(which, edits, st.booleans())
def test_damaged_checkpoints(saved, tmp_path, number, edits, removed):
    folder = copied(saved, tmp_path)
    files = sorted(path for path in (folder / "9").rglob("*") if path.is_file())
    path = files[number % len(files)]
    if removed:
        path.unlink()
    else:
        path.write_bytes(damaged(path.read_bytes(), edits))
    found = result_or_error(Checkpoints(folder, keep=2).latest, TEMPLATE)
    if found is not None:
        assert found.step == 9 and found.extra == {"seconds": 1.5}
        assert equal(found.state, STATE) and float(found.sums["loss"]) == 9
    # What was saved before can still be used.
    assert equal(Checkpoints(folder, keep=2).load(4, TEMPLATE).state, STATE)


@fuzz(20)
@given(st.data())
def test_changed_descriptions_of_checkpoints(saved, tmp_path, data):
    folder = copied(saved, tmp_path)
    about = folder / "9" / "jnas.json"
    changed = data.draw(changed_json(json.loads(about.read_text())))
    about.write_text(json.dumps(changed))
    found = result_or_error(Checkpoints(folder, keep=2).latest, TEMPLATE)
    if found is not None:
        assert equal(found.state, STATE)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    text = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
    network = jnas.networks.build(text, channels=2, cells_per_stage=1)
    shape = jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), shape)
    variables = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.5), shapes)
    run.save_weights(folder / "net.npz", network, variables)
    run.save_weights(folder / "net.safetensors", network, variables)
    run.save_weights(folder / "net", network, variables)
    return folder, variables


@fuzz(60)
@given(edits, st.sampled_from(["net.npz", "net.safetensors"]))
def test_damaged_networks(exported, tmp_path, edits, name):
    folder, variables = exported
    path = tmp_path / name
    path.write_bytes(damaged((folder / name).read_bytes(), edits))
    found = result_or_error(run.load_weights, path)
    if found is not None:
        assert equal(found.variables, variables)
        assert found.network.config["channels"] == 2


@fuzz(12)
@given(edits, which)
def test_damaged_folders_of_networks(exported, tmp_path, edits, number):
    folder, variables = exported
    place = tmp_path / "net"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(folder / "net", place)
    files = sorted(path for path in place.rglob("*") if path.is_file())
    path = files[number % len(files)]
    path.write_bytes(damaged(path.read_bytes(), edits))
    found = result_or_error(run.load_weights, place)
    if found is not None:
        assert equal(found.variables, variables)


ROWS = [
    {"epoch": e, "step": 7 * e, "seconds": 0.5, "train_loss": 1 / (e + 1)}
    for e in range(5)
]


@fuzz(200)
@given(edits)
def test_damaged_metrics(tmp_path, edits):
    path = tmp_path / "metrics.jsonl"
    content = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    path.write_bytes(damaged(content, edits))
    for row in result_or_error(metrics.read_rows, path) or []:
        assert {"epoch", "step", "seconds"} <= set(row)


def read_config(tmp_path, text):
    path = tmp_path / "run.json"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    found = result_or_error(config.read, path, "search", Search)
    assert found is None or isinstance(found, Search)
    return found


@fuzz(150)
@given(st.data())
def test_changed_configurations(tmp_path, data):
    whole = json.loads(config.text("search", Search(epochs=7)))
    assert read_config(tmp_path, json.dumps(whole)) == Search(epochs=7)
    found = read_config(tmp_path, json.dumps(data.draw(changed_json(whole))))
    if found is not None:
        for name, kind in (("epochs", int), ("method", str), ("baselines", bool)):
            assert type(getattr(found, name)) is kind


@fuzz(150)
@given(edits)
def test_damaged_configurations(tmp_path, edits):
    content = damaged(config.text("search", Search(epochs=7)).encode(), edits)
    (tmp_path / "run.json").write_bytes(content)
    result_or_error(config.read, tmp_path / "run.json", "search", Search)


@fuzz(60)
@given(JSON)
def test_any_json_as_configuration(tmp_path, value):
    read_config(tmp_path, json.dumps(value))


@fuzz(200)
@given(st.data())
def test_changed_recipes(data):
    whole = json.loads(recipes.get("darts").to_json())
    text = json.dumps(data.draw(changed_json(whole)))
    found = result_or_error(recipes.from_json, text)
    if found is not None:
        assert recipes.from_json(found.to_json()) == found


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 50_000 + "1", "1e999", "NaN"]
)
def test_odd_json(tmp_path, text):
    assert read_config(tmp_path, text) is None
    assert result_or_error(recipes.from_json, text) is None
    path = tmp_path / "metrics.jsonl"
    path.write_text(text + "\n")
    assert result_or_error(metrics.read_rows, path) is None
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(jnas.JnasError):
        workdir.match_config(tmp_path, {"seed": 0})


def run_folder(place):
    """A search as far as its report needs it."""
    genotype = jnas.Genotype.parse(NB201)
    probabilities = {"cell": [[0.2] * 5] * 6}
    rows = [{**row, "genotype": NB201, "probabilities": probabilities} for row in ROWS]
    files = {
        "genotype.json": json.loads(genotype.to_json()),
        "config.json": json.loads(config.text("search", Search(epochs=5))),
        "summary.json": {
            "format": 1,
            "genotype": NB201,
            "search_seconds": 2.5,
            "notes": ["undecided"],
            "environment": {"jax": "0.10"},
            "config": {"method": "darts"},
            "table": [
                {
                    "label": "found",
                    "genotype": NB201,
                    "parameters": 10,
                    "seeds": [0, 1],
                    "test_accuracies": [0.5, 0.6],
                    "test_accuracy_mean": 0.55,
                    "seconds": [1.0, 1.0],
                }
            ],
        },
        "search/config.json": {
            "format": 1,
            "seed": 0,
            "epochs": 5,
            "config": {
                "search": {"method": "darts", "supernet": {"space": "nasbench201"}}
            },
        },
        "search/metrics.jsonl": rows,
    }
    for name, content in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        write_json(place / name, content)
    return files


def write_json(path, content):
    if path.suffix == ".jsonl" and isinstance(content, list):
        path.write_text("".join(json.dumps(row) + "\n" for row in content))
    else:
        path.write_text(json.dumps(content))


def test_the_valid_run_is_read(tmp_path):
    run_folder(tmp_path)
    found = report.read(tmp_path)
    assert found.genotype == jnas.Genotype.parse(NB201) and len(found.history) == 5


@fuzz(60)
@given(st.data())
def test_changed_runs(tmp_path, data):
    files = run_folder(tmp_path)
    name = data.draw(st.sampled_from(sorted(files)))
    write_json(tmp_path / name, data.draw(changed_json(files[name])))
    result_or_error(report.read, tmp_path)


@fuzz(60)
@given(edits, which)
def test_damaged_runs(tmp_path, edits, number):
    names = sorted(run_folder(tmp_path))
    path = tmp_path / names[number % len(names)]
    path.write_bytes(damaged(path.read_bytes(), edits))
    result_or_error(report.read, tmp_path)


@fuzz(60)
@given(edits)
def test_damaged_descriptions_of_runs(tmp_path, edits):
    about = {"seed": 0, "config": {"channels": 2, "data": {"name": "toy"}}}
    path = tmp_path / "config.json"
    path.unlink(missing_ok=True)
    workdir.match_config(tmp_path, about)
    before = json.loads(path.read_text())
    path.write_bytes(damaged(path.read_bytes(), edits))
    try:
        workdir.match_config(tmp_path, about)
    except jnas.JnasError as error:
        assert "\n" not in str(error)
    else:  # the same run
        assert json.loads(path.read_text()) == before
