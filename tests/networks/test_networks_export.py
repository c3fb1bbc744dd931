"""Exported modules: they need flax only, and give the numbers of our networks."""

import ast
import importlib.util
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from networks.exporting import (
    built,
    difference,
    differences,
    load_source,
    numbered,
    ours,
    statistics,
    theirs,
)

import jnas
from jnas.networks.export import export_module
from jnas.networks.export_weights import export_variables, write_arrays
from jnas.spaces import Cell, Edge, Genotype
from jnas.supernet import operations

ROOT = pathlib.Path(jnas.__file__).parent.parent
STYLES = ("linen", "nnx")
DARTS = {"channels": 4, "cells": 4}
STAGES = {"channels": 4, "cells_per_stage": 1}
NB201 = (
    "|nor_conv_3x3~0|+|avg_pool_3x3~0|none~1|+|skip_connect~0|nor_conv_1x1~1|none~2|"
)
SKIPS = "|skip_connect~0|+|none~0|none~1|+|avg_pool_3x3~0|skip_connect~1|none~2|"
# Loose ends, edges without an operation, an input that no cell reads.
ODD = Genotype(
    "mine",
    (
        (
            "normal",
            Cell(
                [
                    Edge("none", 1, 2),
                    Edge("sep_conv_3x3", 1, 3),
                    Edge("none", 2, 3),
                    Edge("skip_connect", 3, 4),
                    Edge("dil_conv_5x5", 3, 4),
                    Edge("none", 1, 4),
                    Edge("dil_conv_3x3", 2, 4),
                    Edge("dil_conv_3x3", 4, 5),
                ],
                (4, 2, 1),
            ),
        ),
        (
            "reduce",
            Cell(
                [
                    Edge("skip_connect", 1, 2),
                    Edge("conv_7x1_1x7", 1, 2),
                    Edge("none", 0, 3),
                    Edge("sep_conv_5x5", 2, 4),
                ],
                (2, 3, 4),
            ),
        ),
    ),
)
# Cheap to compile.
PLAIN = Genotype(
    "mine",
    (
        (
            "normal",
            Cell([Edge("skip_connect", 0, 2), Edge("avg_pool_3x3", 1, 2)], (2,)),
        ),
        (
            "reduce",
            Cell([Edge("max_pool_3x3", 0, 2), Edge("skip_connect", 1, 2)], (2,)),
        ),
    ),
)
pytestmark = pytest.mark.filterwarnings("ignore:.*rank promotion.*")


@pytest.fixture(autouse=True)
def ordinary_jax():
    """The exported source is read by people, who let ranks be promoted."""
    with jax.numpy_rank_promotion("allow"):
        yield


def images(size=8, batch=2, dtype=np.float64):
    rng = np.random.default_rng(7)
    return rng.normal(size=(batch, size, size, 3)).astype(dtype)


def check(genotype, size, folder, x, drop=None):
    """Both styles against ours, in float64."""
    network, variables = built(genotype, size, np.float64, x)
    options = {}
    if drop:
        options = {"rates": {"drop_path": drop["drop_path"]}, "key": drop["key"]}
    evaluated, trained, state = ours(network, variables, x, **options)
    for style in STYLES:
        got = theirs(genotype, size, style, folder, variables, x, drop)
        if size.get("auxiliary"):
            assert got[0][1] is None
            pairs = [(got[0][0], evaluated.logits), *zip(got[1], trained, strict=True)]
        else:
            pairs = [(got[0], evaluated), (got[1], trained)]
        for result, expected in pairs:
            assert difference(result, expected) < 1e-12
        moved = statistics(genotype, variables.weights, state, size, style)
        assert differences(numbered(got[2]), moved) < 1e-12
        before = statistics(genotype, *variables, size, style)
        assert differences(moved, before) > 1e-3


# DARTS_V1 and all kinds of operations are in the quick tests below.
@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "AmoebaNet",
        "PDARTS",
        "DARTS_V2",
        "NASNet",
        "PC_DARTS",
        "PNASNet5",
    ],
)
def test_published_networks(name, x64, tmp_path):
    check(name, DARTS, tmp_path, images())


@pytest.mark.slow
def test_deeper_network(x64, tmp_path):
    check(
        "DARTS_V2", {"channels": 4, "cells": 6, "num_classes": 7}, tmp_path, images(16)
    )


def test_a_cell_without_layers(x64, tmp_path):
    check(SKIPS, STAGES, tmp_path, images())


def test_loose_ends_are_left_out(x64, tmp_path):
    check(ODD, DARTS, tmp_path, images())
    assert "edge7" not in export_module(ODD)


def test_imagenet_stem(x64, tmp_path):
    check(PLAIN, {**DARTS, "cells": 3, "stem": "imagenet"}, tmp_path, images(32))


@pytest.mark.parametrize(
    ("stem", "size"),
    [("cifar", 32), pytest.param("imagenet", 224, marks=pytest.mark.slow)],
)
def test_auxiliary_head(stem, size, x64, tmp_path):
    size_of = {"channels": 2, "cells": 3, "stem": stem, "auxiliary": True}
    check(PLAIN, size_of, tmp_path, images(size))


@pytest.mark.parametrize(("genotype", "size"), [("DARTS_V1", DARTS), (NB201, STAGES)])
def test_networks_with_drop_path_of_the_same_key(genotype, size, x64, tmp_path):
    drop = {"drop_path": 0.4, "key": jax.random.key(3)}
    check(genotype, size, tmp_path, images(), drop)


@pytest.mark.parametrize(
    ("genotype", "size"),
    [(NB201, STAGES), pytest.param("DARTS_V2", DARTS, marks=pytest.mark.slow)],
)
def test_float32(genotype, size, tmp_path):
    x = images(dtype=np.float32)
    network, variables = built(genotype, size, np.float32, x)
    evaluated, _, _ = ours(network, variables, x)
    for style in STYLES:
        got, _, _ = theirs(genotype, size, style, tmp_path, variables, x)
        assert got.dtype == np.float32
        # Sums of products in another order: a few units in the last place.
        assert difference(got, evaluated) < 2e-6


def test_an_auxiliary_head_can_be_left_behind(tmp_path):
    x = images(32, dtype=np.float32)
    _, variables = built("DARTS_V1", {**DARTS, "auxiliary": True}, np.float32, x)
    module = load_source(export_module("DARTS_V1", **DARTS), tmp_path)
    shapes = jax.eval_shape(module.Network().init, jax.random.key(0), x)
    exported = export_variables("DARTS_V1", *variables)
    assert jax.tree.structure(exported) == jax.tree.structure(shapes)


def test_initial_values_have_the_range_of_ours(tmp_path):
    module = load_source(export_module("DARTS_V1", **DARTS), tmp_path)
    layer = module.SepConv(64, 3)
    x = np.zeros((1, 8, 8, 64), np.float32)
    params = layer.init(jax.random.key(0), x, False)["params"]
    for name, fan_in in (("depthwise0", 9), ("pointwise0", 64)):
        kernel = np.asarray(params[name]["kernel"])
        assert 0.9 < np.abs(kernel).max() * np.sqrt(fan_in) <= 1
        assert abs(kernel.std() * np.sqrt(3 * fan_in) - 1) < 0.1


def test_sources_are_formatted_and_clean(tmp_path):
    if importlib.util.find_spec("ruff") is None:
        pytest.skip("ruff is not installed")
    few = jnas.networks.Dropouts(output=0.5, words=0.1)
    many = jnas.networks.Dropouts(0.1, 0.2, 0.3, 0.4, 0.5)
    wanted = [
        *((name, {}) for name in jnas.spaces.genotype_names() if "RNN" not in name),
        ("DARTS_V2", {"auxiliary": True, "drop_path": True}),
        ("DARTS_V2", {"auxiliary": True, "stem": "imagenet"}),
        (ODD, {"drop_path": True}),
        (NB201, {"drop_path": True}),
        (SKIPS, {}),
        ("ENAS_RNN", {"vocab_size": 10}),
        ("ENAS_RNN", {"vocab_size": 10, "dropouts": few}),
        ("DARTS_RNN_V1", {"vocab_size": 10_000, "dropouts": many}),
    ]
    for number, (genotype, options) in enumerate(wanted):
        for style in STYLES:
            source = export_module(genotype, style=style, **options)
            (tmp_path / f"{style}{number}.py").write_text(source)
    config = ["--no-cache", "--config", str(ROOT / "pyproject.toml"), str(tmp_path)]
    for command in (["check"], ["format", "--check"]):
        run = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *config],
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, run.stdout + run.stderr


def test_sources_are_small():
    assert len(export_module("DARTS_V2").splitlines()) < 260
    assert len(export_module(NB201).splitlines()) < 180
    assert "SepConv" not in export_module(NB201)
    assert "drop" not in export_module("DARTS_V2")
    assert "zeros_like" not in export_module(NB201)


@pytest.mark.parametrize("style", STYLES)
def test_no_text_of_a_genotype_becomes_code(style):
    name = '"""\'; injected = 1  # \\'
    genotype = Genotype(name, ODD.cells)
    tree = ast.parse(export_module(genotype, style=style))
    assert "injected" not in ast.dump(tree)
    one = Genotype(name, ((name, Cell([Edge("skip_connect", 0, 1)], (1,))),))
    assert "injected" not in ast.dump(ast.parse(export_module(one, style=style)))


@pytest.mark.parametrize("style", STYLES)
def test_every_built_in_operation_has_a_layer(style):
    for name in operations.operation_names():
        cell = Cell([Edge(name, 0, 2)], (2,))
        genotype = Genotype("mine", (("normal", cell), ("reduce", cell)))
        if name == "noise":
            with pytest.raises(jnas.JnasError, match=r"'noise' \(edge 0 .* draws"):
                export_module(genotype, style=style)
            continue
        assert "class Network" in export_module(genotype, style=style)


def test_own_operations_are_refused():
    operations.register_operation("triple", lambda channels, stride: lambda x: 3 * x)
    try:
        cell = Cell([Edge("skip_connect", 0, 2), Edge("triple", 1, 2)], (2,))
        genotype = Genotype("mine", (("normal", cell), ("reduce", cell)))
        with pytest.raises(jnas.JnasError, match=r"'triple' \(edge 1 of cell 'normal'"):
            export_module(genotype)
    finally:
        del operations._MODULES["triple"]


@pytest.mark.parametrize(
    ("genotype", "options", "message"),
    [
        ("DARTS_V2", {"style": "torch"}, "unknown style 'torch'"),
        ("DARTS_V2", {"cells": 2}, "cells must be at least 3"),
        ("DARTS_V2", {"stem": "svhn"}, "unknown stem"),
        (NB201, {"auxiliary": True}, "no auxiliary head"),
        ("DARTS_V3", {}, "unknown genotype"),
        ("DARTS_RNN_V1", {}, "needs vocab_size"),
        (3, {}, "genotype must be"),
    ],
)
def test_wrong_options(genotype, options, message):
    with pytest.raises(jnas.JnasError, match=message):
        export_module(genotype, **options)


def test_wrong_weights():
    x = images(dtype=np.float32)
    weights, state = built("DARTS_V2", DARTS, np.float32, x)[1]
    for genotype in ("DARTS_V1", NB201, "DARTS_RNN_V1"):
        with pytest.raises(jnas.JnasError, match="weights are not those"):
            export_variables(genotype, weights, state)
    with pytest.raises(jnas.JnasError, match="weights are not those"):
        export_variables("DARTS_V2", {"embedding": weights})
    with pytest.raises(jnas.JnasError, match="unknown style"):
        export_variables("DARTS_V2", weights, state, style="torch")
    with pytest.raises(jnas.JnasError, match=r"\.npz"):
        write_arrays("w.safetensors", weights)
