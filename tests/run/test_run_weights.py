"""Export of trained networks: three formats, one content, and every kind of damage."""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import run_networks

import jnas
from jnas import networks, run
from jnas.run import weights_files

IMAGE = np.linspace(-1, 1, 2 * 8 * 8).reshape(2, 8, 8, 1).astype(np.float32)
FORMATS = ["net.npz", "net.safetensors", "net"]


@pytest.fixture(scope="module")
def trained():
    """A network whose every array differs from what init gives."""
    net = networks.build(
        run_networks.CELL, channels=2, cells_per_stage=1, num_classes=3
    )
    state = jax.eval_shape(net.init, jax.random.key(0), IMAGE)
    rng = np.random.default_rng(0)
    state = jax.tree.map(
        lambda x: jnp.asarray(rng.uniform(0.5, 1.5, x.shape), x.dtype), state
    )
    return net, state, run_networks.images()


@pytest.fixture(scope="module")
def files(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    net, state, data = trained
    for name in FORMATS:
        run.save_weights(folder / name, net, state, data=data, extra={"note": "x"})
    return folder


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_read_is_what_was_written(trained, files, name):
    net, state, data = trained
    network, variables, about = run.load_weights(files / name)
    same(variables, state)
    assert network.config == net.config and network.genotype == net.genotype
    assert about["jnas"] == jnas.__version__ and about["note"] == "x"
    assert about["data"]["mean"] == list(data.mean)
    assert about["data"]["image_shape"] == [8, 8, 1]
    assert jnas.Genotype.from_json(json.dumps(about["genotype"])) == net.genotype


def test_a_read_network_gives_the_same_logits(trained, files):
    net, state, _ = trained
    network, variables, _ = run.load_weights(files / "net.npz")
    expected = net.apply(*state, IMAGE, train=False)[0]
    got = network.apply(*variables, IMAGE, train=False)[0]
    np.testing.assert_array_equal(got, expected)


def test_arrays_have_readable_names_for_others(trained, files):
    _, state, _ = trained
    stem = state.weights["skeleton"]["stem_conv"]["kernel"]
    with np.load(files / "net.npz", allow_pickle=False) as stored:
        np.testing.assert_array_equal(stored["weights/skeleton/stem_conv/kernel"], stem)
        assert json.loads(stored["metadata"].item())["kind"] == "jnas network"
    from safetensors.numpy import load_file

    read = load_file(files / "net.safetensors")
    np.testing.assert_array_equal(read["weights/skeleton/stem_conv/kernel"], stem)
    from orbax.checkpoint import v1 as ocp

    tree = ocp.load(str(files / "net"))
    np.testing.assert_array_equal(tree["weights/skeleton/stem_conv/kernel"], stem)


def test_language_models_come_back_without_their_carry(tmp_path):
    for net in (
        networks.recurrent(
            run_networks.RNN,
            vocab_size=5,
            width=3,
            dropouts=networks.Dropouts(hidden=0.1),
        ),
        networks.vanilla_rnn(vocab_size=5, width=3),
    ):
        variables = net.init(jax.random.key(0), {"tokens": jnp.zeros((4, 2), int)})
        moved = variables._replace(model_state={"carry": jnp.ones((4, 3))})
        run.save_weights(tmp_path / "rnn.npz", net, moved)
        network, read, about = run.load_weights(tmp_path / "rnn.npz")
        same(read.weights, variables.weights)
        np.testing.assert_array_equal(read.model_state["carry"], np.zeros((1, 3)))
        assert network.config == net.config and about["data"] is None


def test_a_network_for_imagenet_without_data_comes_back(tmp_path):
    net = networks.build(
        "DARTS_V2", channels=2, cells=3, auxiliary=True, stem="imagenet"
    )
    image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    shapes = jax.eval_shape(net.init, jax.random.key(0), image)
    state = jax.tree.map(lambda x: jnp.ones(x.shape, x.dtype), shapes)
    run.save_weights(tmp_path / "net.npz", net, state)
    network, variables, about = run.load_weights(tmp_path / "net.npz")
    assert network.config == net.config and about["inputs"] == [224, 224, 3]
    same(variables, state)


@pytest.mark.parametrize("name", FORMATS)
def test_writing_again_replaces(trained, files, tmp_path, name):
    net, state, _ = trained
    run.save_weights(tmp_path / "new" / name, net, state)
    other = jax.tree.map(lambda x: x + 1, state)
    run.save_weights(tmp_path / "new" / name, net, other)
    same(run.load_weights(tmp_path / "new" / name).variables, other)
    assert [p.name for p in (tmp_path / "new").iterdir()] == [name]


def test_a_failed_write_leaves_the_old_file(trained, tmp_path, monkeypatch):
    net, state, _ = trained
    path = tmp_path / "net.npz"
    run.save_weights(path, net, state)

    def full(file, **arrays):
        file.write(b"PK")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(weights_files.np, "savez", full)
    with pytest.raises(jnas.JnasError, match="No space left"):
        run.save_weights(path, net, jax.tree.map(lambda x: x + 1, state))
    monkeypatch.undo()
    same(run.load_weights(path).variables, state)
    assert [p.name for p in tmp_path.iterdir()] == ["net.npz"]


@pytest.mark.parametrize("name", FORMATS[:2])
def test_truncated_and_flipped_files_are_refused(trained, files, tmp_path, name):
    _, state, _ = trained
    whole = (files / name).read_bytes()
    path = tmp_path / name
    for size in (0, 1, 7, 50, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(jnas.JnasError, match=r"damaged|no network exported"):
            run.load_weights(path)
    rng = np.random.default_rng(0)
    refused = 0
    for place in rng.integers(0, len(whole), 60):
        bad = bytearray(whole)
        bad[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(bad)
        try:
            read = run.load_weights(path)
        except jnas.JnasError as error:
            refused += 1
            assert "\n" not in str(error) and len(str(error)) < 500
        else:  # the time of an entry, say: nothing that is used
            same(read.variables, state)
    assert refused > 30


def test_a_damaged_folder_is_refused(trained, files, tmp_path):
    net, state, _ = trained
    run.save_weights(tmp_path / "net", net, state)
    folder = tmp_path / "net"
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        if path.name == "metadata.json" or not path.stat().st_size:
            continue
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(jnas.JnasError, match="damaged or no exported network"):
            run.load_weights(folder)
        path.write_bytes(whole)
    same(run.load_weights(folder).variables, state)
    about = tmp_path / "net" / "metadata.json"
    about.write_text(about.read_text().replace('"num_classes": 3', '"num_classes": 4'))
    with pytest.raises(jnas.JnasError, match="its checksum does not match"):
        run.load_weights(tmp_path / "net")
    about.write_text("{")
    with pytest.raises(jnas.JnasError, match="damaged or no exported network"):
        run.load_weights(tmp_path / "net")
    about.unlink()
    with pytest.raises(jnas.JnasError, match="is no network exported by jnas"):
        run.load_weights(tmp_path / "net")


def test_newer_foreign_and_missing_files(trained, files, tmp_path):
    arrays, about = weights_files.read(files / "net.npz")
    path = tmp_path / "x.npz"

    def told(**changes):
        np.savez(path, metadata=np.array(json.dumps({**about, **changes})), **arrays)
        with pytest.raises(jnas.JnasError) as error:
            run.load_weights(path)
        return str(error.value)

    assert "has format 2, written by jnas 9.1; this jnas reads up to 1" in told(
        format=2, jnas="9.1"
    )
    assert "its checksum does not match" in told()
    assert "its checksum does not match" in told(format="1")
    assert "is no network exported by jnas" in told(kind="other")
    np.savez(path, image=np.zeros(3))
    with pytest.raises(jnas.JnasError, match="is no network exported by jnas"):
        run.load_weights(path)
    np.savez(path, metadata=np.array(["{}"], object))  # a pickle is never opened
    with pytest.raises(jnas.JnasError, match="damaged or no exported network"):
        run.load_weights(path)
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(3)}, tmp_path / "x.safetensors")
    with pytest.raises(jnas.JnasError, match="is no network exported by jnas"):
        run.load_weights(tmp_path / "x.safetensors")
    (tmp_path / "folder").mkdir()
    with pytest.raises(jnas.JnasError, match="is no network exported by jnas"):
        run.load_weights(tmp_path / "folder")
    with pytest.raises(jnas.JnasError, match="there is no file or folder"):
        run.load_weights(tmp_path / "no.npz")
    (tmp_path / "net.pt").write_bytes(b"x")
    with pytest.raises(jnas.JnasError, match=r"must end in .npz or .safetensors"):
        run.load_weights(tmp_path / "net.pt")


def test_a_valid_file_of_an_unknown_network(files, tmp_path):
    arrays, about = weights_files.read(files / "net.npz")

    def refused(arrays, match, **changes):
        weights_files.write(tmp_path / "x.npz", arrays, {**about, **changes})
        with pytest.raises(jnas.JnasError, match=match):
            run.load_weights(tmp_path / "x.npz")

    for key in ("network", "genotype", "inputs"):
        refused(arrays, "no network that this jnas can build", **{key: 3})
    config = {**about["network"], "channels": -1}
    refused(arrays, "channels must be a positive", network=config)
    config = {**about["network"], "speed": 1}
    refused(arrays, "no network that this jnas can build", network=config)
    name = next(iter(arrays))
    refused({**arrays, name: arrays[name][..., :0]}, f"its network: {name} is float32")
    refused({**arrays, "more": arrays[name]}, "more is float32.*expected none")
    rest = {n: x for n, x in arrays.items() if n != name}
    refused(rest, f"{name} is missing")
    half = {**arrays, name: arrays[name].astype(np.float16)}
    refused(half, f"{name} is float16.*expected float32")


def test_what_can_not_be_written(trained, tmp_path, monkeypatch):
    net, state, data = trained
    with pytest.raises(jnas.JnasError, match=r"must end in .npz or .safetensors"):
        run.save_weights(tmp_path / "net.h5", net, state)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.tex").write_text("x")
    with pytest.raises(jnas.JnasError, match="a folder with other things in it"):
        run.save_weights(tmp_path / "taken", net, state)
    (tmp_path / "file").write_text("x")
    with pytest.raises(jnas.JnasError, match="is a file already"):
        run.save_weights(tmp_path / "file", net, state)
    with pytest.raises(jnas.JnasError, match="can't write"):
        run.save_weights(tmp_path / "file" / "net.npz", net, state)
    with pytest.raises(jnas.JnasError, match="extra must not be named 'data'"):
        run.save_weights(tmp_path / "x.npz", net, state, data=data, extra={"data": 1})
    other = networks.build(run_networks.CELL, channels=4, cells_per_stage=1)
    with pytest.raises(jnas.JnasError, match="the state is not of this network"):
        run.save_weights(tmp_path / "x.npz", other, state)
    own = net._replace(config={**net.config, "speed": 3})
    with pytest.raises(jnas.JnasError, match="can't be rebuilt from a file"):
        run.save_weights(tmp_path / "x.npz", own, state)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(jnas.JnasError, match="needs a library: pip install"):
        run.save_weights(tmp_path / "x.safetensors", net, state)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "taken"]
