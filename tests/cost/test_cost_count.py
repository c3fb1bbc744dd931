"""Counts of final networks against published and independently computed numbers."""

import gzip
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from jnas import cost, errors, spaces

# columns: parameters at C36 L20, auxiliary head, millions of multiply-adds at C36 L20,
# parameters at C16 L20, C16 L8, C32 L8, and C48 L14 (ImageNet), millions of
# multiply-adds there, parameters at C36 L20 for 100 classes
TABLE = {
    "DARTS_V1": "3169414 476426 501.0 671034 232890 871786 4510432 505.9 3221344",
    "DARTS_V2": "3349342 476426 528.4 710682 246106 919722 4718752 529.9 3401272",
    "NASNet": "3830950 457994 603.5 843770 333946 1181930 5564320 604.0 3895840",
    "AmoebaNet": "3145078 457994 488.9 682938 326330 1194346 4627360 526.7 3184048",
    "PC_DARTS": "3634678 476426 556.7 788218 335738 1220842 5270560 571.1 3686608",
    "PDARTS": "3433798 476426 532.2 737338 292026 1071978 4944352 542.8 3485728",
}
# auxiliary heads for 100 classes on CIFAR and for 1000 on ImageNet, as counted by the
# reference implementation
AUXILIARY = {
    "NASNet": (527204, 1236200),
    "AmoebaNet": (527204, 1236200),
    "DARTS_V1": (545636, 1260776),
    "DARTS_V2": (545636, 1260776),
    "PC_DARTS": (545636, 1260776),
}
IMAGENET = {"channels": 48, "cells": 14, "num_classes": 1000, "stem": "imagenet"}


def data_file(name):
    folder = os.environ.get("JNAS_DATA")
    if not folder:
        pytest.skip("JNAS_DATA is not set: it names the folder of benchmark data")
    path = pathlib.Path(folder) / name
    if not path.exists():
        pytest.skip(f"{name} is not in the folder that JNAS_DATA names")
    return path


@pytest.mark.parametrize("name", TABLE)
def test_published_genotypes_have_the_known_counts(name):
    genotype = spaces.genotype(name)
    full = cost.count(genotype, channels=36, cells=20)
    with_head = cost.count(genotype, channels=36, cells=20, auxiliary=True)
    imagenet = cost.count(genotype, **IMAGENET)
    counted = [
        full.parameters,
        with_head.parameters - full.parameters,
        round(full.multiply_adds / 1e6, 1),
        *(
            cost.count(genotype, channels=channels, cells=cells).parameters
            for channels, cells in ((16, 20), (16, 8), (32, 8))
        ),
        imagenet.parameters,
        round(imagenet.multiply_adds / 1e6, 1),
        cost.count(genotype, channels=36, cells=20, num_classes=100).parameters,
    ]
    assert counted == [float(number) for number in TABLE[name].split()]
    assert with_head.multiply_adds == full.multiply_adds


@pytest.mark.parametrize("name", AUXILIARY)
def test_auxiliary_heads_match_the_reference(name):
    heads = []
    for network in ({"channels": 36, "cells": 20, "num_classes": 100}, IMAGENET):
        without = cost.count(name, **network).parameters
        heads.append(cost.count(name, auxiliary=True, **network).parameters - without)
    assert tuple(heads) == AUXILIARY[name]


def test_all_193_published_genotypes():
    with gzip.open(data_file("darts_genotypes.json.gz"), "rt") as file:
        entries = json.load(file)["genotypes"]
    assert len(entries) == 193
    for name, entry in entries.items():
        genotype = _genotype(entry["genotype"])
        cifar = cost.count(genotype, channels=36, cells=20)
        imagenet = cost.count(genotype, **IMAGENET)
        assert (cifar.parameters, imagenet.parameters) == (
            entry["params_cifar10_C36_L20_no_aux"],
            entry["params_imagenet_C48_L14_no_aux"],
        ), name


def _genotype(fields):
    cells = []
    for group in ("normal", "reduce"):
        pairs = fields[group]
        # 14 pairs: every edge of four nodes is kept; otherwise two for each node
        if len(pairs) == 14:
            targets = [2] * 2 + [3] * 3 + [4] * 4 + [5] * 5
        else:
            targets = [2 + position // 2 for position in range(len(pairs))]
        edges = tuple(
            spaces.Edge(operation, source, target)
            for (operation, source), target in zip(pairs, targets, strict=True)
        )
        cells.append((group, spaces.Cell(edges, tuple(fields[f"{group}_concat"]))))
    return spaces.Genotype("darts", tuple(cells))


# counted by the reference implementation: C4 N1 at 16x16 and 10 classes, then C16 N5
# with 10 and 100 classes at 32x32 and with 120 classes at 16x16
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "|nor_conv_3x3~0|+|nor_conv_1x1~0|skip_connect~1|"
            "+|avg_pool_3x3~0|none~1|nor_conv_3x3~2|",
            [11446, 375978, 587386, 82494090, 593236, 82499940, 594536, 20631160],
        ),
        (
            "|avg_pool_3x3~0|+|none~0|nor_conv_3x3~1|"
            "+|skip_connect~0|nor_conv_1x1~1|avg_pool_3x3~2|",
            [8366, 265386, 344346, 47104650, 350196, 47110500, 351496, 11783800],
        ),
        (
            "|skip_connect~0|+|nor_conv_3x3~0|nor_conv_1x1~1|"
            "+|nor_conv_1x1~0|avg_pool_3x3~1|none~2|",
            [8758, 277674, 372346, 51036810, 378196, 51042660, 379496, 12766840],
        ),
    ],
)
def test_nasbench201_matches_the_reference(text, expected):
    genotype = spaces.Genotype.parse(text)
    counted = []
    for channels, depth, classes, side in (
        (4, 1, 10, 16),
        (16, 5, 10, 32),
        (16, 5, 100, 32),
        (16, 5, 120, 16),
    ):
        counted += cost.count(
            genotype,
            channels=channels,
            cells_per_stage=depth,
            num_classes=classes,
            image_shape=(side, side, 3),
        )
    assert counted == expected


def test_odd_images_round_up():
    # by hand: C2, one reducing cell at 7x7 from a 6-channel stem; the only weights in
    # the cell are four stride-2 identities, each a 4x4 matrix on 4x4 pixels
    edges = tuple(
        spaces.Edge("skip_connect", source, target)
        for target in range(2, 4)
        for source in range(2)
    )
    cell = spaces.Cell(edges, (2, 3))
    genotype = spaces.Genotype("darts", (("normal", cell), ("reduce", cell)))
    counted = cost.count(genotype, channels=2, cells=1, image_shape=(7, 7, 3))
    stem, preprocess, head = 3 * 6 * 9, 2 * 6 * 4, 8 * 10 + 10
    assert counted.multiply_adds == 49 * (stem + preprocess) + 16 * 4 * 16 + head
    assert counted.parameters == (
        stem + 2 * 6 + preprocess + 2 * 2 * 4 + 4 * (16 + 2 * 4) + head
    )


def test_strided_full_convolutions_halve_one_side_at_a_time():
    one = cost.operation_cost(
        "conv_7x1_1x7", channels=4, size=(8, 6), stride=2, affine=True
    )
    assert one == (14 * 16 + 8, 7 * 16 * (8 * 3 + 4 * 3))


def test_normalisation_without_scale_gives_biases_to_nasbench201_only():
    for name, affine, expected in (
        ("nor_conv_3x3", True, (9 * 16 + 8, 9 * 16 * 4)),
        ("nor_conv_3x3", False, (9 * 16 + 4, (9 * 16 + 4) * 4)),
        ("dil_conv_3x3", False, (9 * 4 + 16, (9 * 4 + 16) * 4)),
        ("max_pool_3x3", False, (0, 0)),
    ):
        assert expected == cost.operation_cost(
            name, channels=4, size=(2, 2), stride=1, affine=affine
        )


def test_num_parameters_counts_arrays_and_shapes():
    import jax
    import jax.numpy as jnp

    tree = {
        "a": jnp.zeros((2, 3)),
        "b": [np.zeros(4), jax.ShapeDtypeStruct((5, 5), jnp.float32)],
        "c": np.float32(0),
        "d": None,
    }
    assert cost.num_parameters(tree) == 6 + 4 + 25 + 1
    with pytest.raises(errors.JnasError, match=r"\['b'\].*str"):
        cost.num_parameters({"b": "x"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": 0}, "channels must be an integer >= 1, got 0"),
        ({"channels": 2.5}, "channels must be an integer >= 1, got 2.5"),
        ({"channels": True}, "channels must be an integer"),
        ({"cells": None}, "cells is missing"),
        ({"cells_per_stage": 5}, "cells_per_stage=5 does not apply"),
        ({"num_classes": -1}, "num_classes must be an integer >= 1, got -1"),
        ({"image_shape": (32, 32)}, r"image_shape must be \(height, width, channels\)"),
        ({"image_shape": 32}, "image_shape must be"),
        ({"image_shape": (32, 0, 3)}, "image_shape's width must be"),
        ({"stem": "imagnet"}, "did you mean 'imagenet'"),
        ({"stem": "imagenet", "channels": 5}, "channels must be even"),
    ],
)
def test_wrong_arguments_are_told(changes, message):
    arguments = {"channels": 16, "cells": 8, **changes}
    with pytest.raises(errors.JnasError, match=message):
        cost.count(spaces.genotype("DARTS_V2"), **arguments)


def test_wrong_arguments_of_nasbench201_are_told():
    genotype = spaces.Genotype.parse(
        "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|",
    )
    for changes, message in (
        ({"cells": 3}, "cells=3 does not apply"),
        ({"cells_per_stage": None}, "cells_per_stage is missing"),
        ({"stem": "imagenet"}, "stem must be 'cifar'"),
        ({"auxiliary": True}, "no auxiliary classifier"),
    ):
        with pytest.raises(errors.JnasError, match=message):
            cost.count(genotype, **{"channels": 4, "cells_per_stage": 1, **changes})


def test_cells_that_do_not_fit_the_network_are_told():
    edge = spaces.Edge("skip_connect", 0, 1)
    last = spaces.Edge("skip_connect", 1, 2)
    one = spaces.Genotype("mine", (("cell", spaces.Cell((edge, last), (1, 2))),))
    with pytest.raises(errors.JnasError, match="puts out one state"):
        cost.count(one, channels=4, cells_per_stage=1)
    cell = spaces.Cell((edge, last), (2,))
    two = spaces.Genotype("mine", (("normal", cell), ("reduce", cell)))
    with pytest.raises(errors.JnasError, match="edge into state 1"):
        cost.count(two, channels=4, cells=2)
    group = spaces.Group("cell", ("none",), ((0, 2), (1, 2)), inputs=2, concat=(2,))
    with pytest.raises(errors.JnasError, match="2 input states"):
        cost.operation_costs(
            spaces.Space("mine", (group,)), channels=4, cells_per_stage=1
        )


def test_counts_need_no_jax():
    program = (
        "import sys; from jnas import cost; cost.count('DARTS_V2', channels=4, "
        "cells=3); cost.supernet_parameters('darts', channels=4, cells=3); "
        "sys.exit('jax' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_unknown_networks_and_operations_are_told():
    cell = spaces.Cell((spaces.Edge("sep_conv_3x3", 0, 1),), (1,))
    with pytest.raises(errors.JnasError, match="no outer network is known"):
        cost.count(spaces.Genotype("mine", (("chain", cell),)), channels=4, cells=1)
    with pytest.raises(errors.JnasError, match="unknown operation 'sep_conv'"):
        cost.operation_cost("sep_conv", channels=4, size=(2, 2), stride=1, affine=True)
