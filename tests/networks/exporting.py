"""Helpers of the tests of exported modules."""

import ast
import importlib.util

import jax
import numpy as np
from flax import nnx

import jnas
from jnas.networks.export import export_module
from jnas.networks.export_weights import export_variables, write_arrays


def imported(source):
    """The packages that a source imports."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module.split(".")[0])
    return found


def load_source(source, folder):
    """The module of a source, by way of a file."""
    assert imported(source) <= {"flax", "jax", "numpy"}
    path = folder / f"exported{len(list(folder.iterdir()))}.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def random_values(shapes, dtype, seed=0):
    """Values for a tree of shapes; scales and variances are positive."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        name = path[-1].key
        if name in ("scale", "var"):
            return rng.uniform(0.5, 1.5, leaf.shape).astype(dtype)
        if name in ("bias", "mean"):
            return rng.normal(0, 0.3, leaf.shape).astype(dtype)
        fan_in = max(np.prod(leaf.shape[:-1]), 1)
        return rng.normal(0, 1.5 / np.sqrt(fan_in), leaf.shape).astype(dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def difference(got, expected):
    """The largest difference, relative to the largest expected value."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape
    return float(np.abs(got - expected).max() / np.abs(expected).max())


def differences(got, expected):
    """The same of two trees of the same names."""
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    return max(jax.tree.leaves(jax.tree.map(difference, got, expected)))


def ours(network, variables, images, **options):
    """Our outputs: of evaluation, of training, and the statistics after it."""

    def both(variables):
        evaluated, _ = network.apply(*variables, images, train=False)
        trained, state = network.apply(*variables, images, train=True, **options)
        return evaluated, trained, state

    return jax.jit(both)(variables)


def theirs(genotype, size, style, folder, variables, images, drop=None):
    """The same of the exported module, after a trip of the weights through a file."""
    source = export_module(genotype, style=style, drop_path=bool(drop), **size)
    module = load_source(source, folder)
    auxiliary = size.get("auxiliary", False)
    options = {"style": style, "auxiliary": auxiliary}
    file = folder / f"{style}.npz"
    write_arrays(file, export_variables(genotype, *variables, **options))
    drop = drop or {}
    if style == "linen":
        network, loaded = module.Network(), module.load(file)
        assert_names(network.init, images, loaded)

        def both(variables):
            trained, moved = network.apply(
                variables, images, train=True, mutable=["batch_stats"], **drop
            )
            return network.apply(variables, images), trained, moved["batch_stats"]

        return jax.jit(both)(loaded)
    colours = images.shape[-1]
    # Without initial values, which take long to compile.
    model = nnx.eval_shape(lambda: module.Network(rngs=nnx.Rngs(0), colours=colours))
    module.load(model, file)
    with np.load(file) as arrays:
        state = nnx.to_flat_state(nnx.state(model))
        assert set(arrays.files) == {"/".join(map(str, path)) for path, _ in state}
    train = {"train": True} if auxiliary else {}
    static, state = nnx.split(model)

    def both(state):
        model = nnx.merge(static, state)
        model.eval()
        evaluated = model(images)
        model.train()
        trained = model(images, **train, **drop)
        return evaluated, trained, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))

    return jax.jit(both)(state)


def assert_names(init, images, loaded):
    """The loaded variables have the names and shapes of the module's own."""
    shapes = jax.eval_shape(init, jax.random.key(0), images)
    got = jax.tree.map(lambda leaf: leaf.shape, loaded)
    assert jax.tree.map(lambda leaf: leaf.shape, shapes) == got


def statistics(genotype, weights, state, size, style):
    """Our statistics under the exported module's names."""
    auxiliary = size.get("auxiliary", False)
    exported = export_variables(
        genotype, weights, state, style=style, auxiliary=auxiliary
    )
    if style == "linen":
        return exported["batch_stats"]
    return _only(exported, ("mean", "var"))


def _only(tree, names):
    kept = {}
    for name, below in tree.items():
        if isinstance(below, dict):
            below = _only(below, names)
            if below:
                kept[name] = below
        elif name in names:
            kept[name] = below
    return kept


def numbered(tree):
    """With the keys of lists as text, as in files."""
    if not isinstance(tree, dict):
        return tree
    return {str(name): numbered(below) for name, below in tree.items()}


def built(genotype, size, dtype, images):
    """The network and random weights for it."""
    network = jnas.networks.build(genotype, dtype=dtype, **size)
    shapes = jax.eval_shape(network.init, jax.random.key(0), images)
    return network, random_values(shapes, dtype)
