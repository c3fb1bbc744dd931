"""Recipes as data: the papers' numbers, their checks, and the trainers behind them."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnas
from jnas import cost, networks
from jnas.data import Augment
from jnas.networks import recipes, recipes_images
from jnas.spaces import Genotype

DARTS, NB201 = Genotype.parse("DARTS_V2"), jnas.spaces.nasbench201().decode([3] * 6)
RNN = Genotype.parse("DARTS_RNN_V2")

# Read from the papers' code once more, apart from the table.
PUBLISHED = {
    "darts": {
        **{"channels": 36, "cells": 20, "auxiliary": True, "auxiliary_weight": 0.4},
        **{"epochs": 600, "batch_size": 96, "learning_rate": 0.025, "eta_min": 0.0},
        **{"momentum": 0.9, "nesterov": False, "weight_decay": 3e-4, "clip": 5.0},
        **{"schedule": "cosine_epoch", "drop_path": 0.2, "label_smoothing": 0.0},
        **{"mixup": 0.0, "stem": "cifar"},
    },
    "darts_imagenet": {
        **{"channels": 48, "cells": 14, "auxiliary": True, "auxiliary_weight": 0.4},
        **{"epochs": 250, "batch_size": 128, "learning_rate": 0.1, "decay": 0.97},
        **{"momentum": 0.9, "nesterov": False, "weight_decay": 3e-5, "clip": 5.0},
        **{"schedule": "exponential", "drop_path": 0.0, "label_smoothing": 0.1},
        **{"mixup": 0.0, "stem": "imagenet"},
    },
    "nasbench201": {
        **{"channels": 16, "cells_per_stage": 5, "auxiliary": False, "cells": None},
        **{"epochs": 200, "batch_size": 256, "learning_rate": 0.1, "eta_min": 0.0},
        **{"momentum": 0.9, "nesterov": True, "weight_decay": 5e-4, "clip": None},
        **{"schedule": "cosine_step", "drop_path": 0.0, "label_smoothing": 0.0},
    },
    "nasbench301": {
        **{"channels": 32, "cells": 8, "epochs": 100, "batch_size": 96},
        **{"auxiliary": True, "auxiliary_weight": 0.4, "drop_path": 0.2},
        **{"learning_rate": 0.025, "momentum": 0.9, "weight_decay": 3e-4},
        **{"schedule": "cosine_epoch", "eta_min": 1e-8, "mixup": 0.2},
    },
    "darts_rnn": {
        **{"width": 850, "bptt": 35, "batch_size": 64, "learning_rate": 20.0},
        **{"weight_decay": 8e-7, "clip": 0.25, "slowness": 1e-3, "activation": 0.0},
        "dropouts": networks.Dropouts(0.75, 0.25, 0.75, 0.2, 0.1),
    },
}
PUBLISHED["nasbench201_12"] = {**PUBLISHED["nasbench201"], "epochs": 12}
AUGMENT = {"darts": (4, True, 16), "nasbench301": (4, True, 16)}
AUGMENT |= {"nasbench201": (4, True, 0), "nasbench201_12": (4, True, 0)}


@pytest.mark.parametrize("name", PUBLISHED)
def test_recipes_are_the_published_ones(name):
    recipe = recipes.get(name)
    got = {field: getattr(recipe, field) for field in PUBLISHED[name]}
    assert got == PUBLISHED[name]
    if name in AUGMENT:
        augment = recipe.augment
        assert (augment.crop, augment.flip, augment.cutout) == AUGMENT[name]
    if name == "darts_imagenet":
        expected = Augment(
            flip=True, resized_crop=(0.08, 1.0), jitter=(0.4, 0.4, 0.4, 0.2)
        )
        assert recipe.augment == expected
    assert recipe.intended and recipe.source


@pytest.mark.parametrize(
    ("name", "genotype", "parameters"),
    [
        # Of the papers and their logs; ImageNet's has 1,000 classes.
        ("darts", DARTS, 3_349_342),
        ("nasbench301", DARTS, 919_722),
        ("darts_imagenet", DARTS, 4_718_752),
        ("nasbench201", NB201, 1_531_546),
    ],
)
def test_networks_have_the_published_sizes(name, genotype, parameters):
    options = recipes.get(name).network_options(genotype)
    del options["auxiliary"], options["dtype"]
    classes = 1000 if name == "darts_imagenet" else 10
    counted = cost.count(genotype, **options, num_classes=classes)
    assert counted.parameters == parameters


@pytest.mark.parametrize("name", recipes.names())
def test_json_round_trip_and_only_the_fields_of_the_kind(name):
    recipe = recipes.get(name)
    text = recipe.to_json()
    assert recipes.from_json(text) == recipe
    written = set(json.loads(text))
    is_text = name == "darts_rnn"
    assert ("bptt" in written) == is_text and ("mixup" in written) != is_text
    everything = {field.name for field in dataclasses.fields(networks.Recipe)}
    assert written - {"format"} < everything


def linear_network():
    """A linear model that keeps the rates it was given."""
    seen = []

    def init(key, inputs):
        weights = jax.random.normal(key, (inputs.shape[1], 3)) / 8
        return jnas.supernet.Variables(weights, {})

    def apply(weights, model_state, inputs, *, train, rates=None, key=None):
        seen.append(rates)
        return inputs @ weights, model_state

    return networks.Network(DARTS, init, apply, {}), seen


BATCH = {"image": jnp.linspace(-1, 1, 24).reshape(4, 6), "label": jnp.arange(4) % 3}


def trained(training, steps=3):
    state = training.init(jax.random.key(0), BATCH["image"])
    for _ in range(steps):
        state, _ = training.step(state, BATCH)
    return state


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("darts", networks.darts_recipe),
        ("nasbench201", networks.nasbench201_recipe),
    ],
)
def test_a_recipe_trains_as_its_function(name, function):
    recipe = recipes.get(name, epochs=2)
    a = trained(recipe.trainer(linear_network()[0], steps_per_epoch=2))
    b = trained(function(linear_network()[0], epochs=2, steps_per_epoch=2))
    np.testing.assert_array_equal(a.weights, b.weights)
    assert (
        float(
            jnp.abs(
                a.weights
                - trained(
                    recipe.replace(learning_rate=0.2).trainer(
                        linear_network()[0], steps_per_epoch=2
                    )
                ).weights
            ).max()
        )
        > 1e-3
    )


def test_every_field_of_a_recipe_reaches_its_trainer():
    base = recipes.get("darts", epochs=4, clip=0.1, weight_decay=0.1, momentum=0.5)
    plain = trained(base.trainer(linear_network()[0], steps_per_epoch=1))
    for field, value in {
        "learning_rate": 0.05,
        "momentum": 0.0,
        "nesterov": True,
        "weight_decay": 0.2,
        "clip": None,
        "schedule": "exponential",
        "eta_min": 0.01,
        "label_smoothing": 0.3,
        "mixup": 0.5,
    }.items():
        network, _ = linear_network()
        other = base.replace(**{field: value}).trainer(network, steps_per_epoch=1)
        assert other.config[field] == value
        assert not np.array_equal(trained(other).weights, plain.weights), field
    network, seen = linear_network()
    trained(base.trainer(network, steps_per_epoch=1))
    rates = [float(rates["drop_path"]) for rates in seen]
    np.testing.assert_allclose(rates, [0.0, 0.05, 0.1], rtol=1e-6)
    exponential = base.replace(schedule="exponential")
    fast = exponential.replace(decay=0.5).trainer(network, steps_per_epoch=1)
    slow = exponential.trainer(network, steps_per_epoch=1)
    assert not np.array_equal(trained(fast).weights, trained(slow).weights)


def test_schedules_against_closed_forms():
    steps = np.arange(40)
    epochs = steps // 10
    sizes = {"epochs": 4, "steps_per_epoch": 10}
    for kind, expected in (
        ("exponential", 0.1 * 0.97**epochs),
        ("cosine_epoch", 1e-3 + 0.099 * (1 + np.cos(np.pi * epochs / 4)) / 2),
        ("cosine_step", 1e-3 + 0.099 * (1 + np.cos(np.pi * steps / 40)) / 2),
    ):
        schedule = recipes_images.rate_schedule(kind, 0.1, eta_min=1e-3, **sizes)
        np.testing.assert_allclose(schedule(steps), expected, rtol=1e-5)


def test_a_recipe_sizes_only_networks_it_knows():
    assert recipes.get("quick").network_options(DARTS)["cells"] == 5
    assert recipes.get("quick").network_options(NB201)["cells_per_stage"] == 1
    assert recipes.get("darts_rnn").network_options(RNN)["width"] == 850
    own = recipes.get("darts", cells_per_stage=3, auxiliary=False)
    assert own.network_options(NB201)["cells_per_stage"] == 3
    for name, genotype, match in (
        ("darts", NB201, "give cells_per_stage="),
        ("nasbench201", DARTS, "give cells=..."),
        ("darts", RNN, "recipe 'darts' is for images, .* use recipe='darts_rnn'"),
        ("darts_rnn", DARTS, "is for text, .* use recipe='darts'"),
    ):
        with pytest.raises(jnas.JnasError, match=match):
            recipes.get(name).network_options(genotype)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"epoch": 3}, "unknown field of a recipe 'epoch': did you mean 'epochs'"),
        ({"epochs": 0}, "epochs must be a positive integer, got 0"),
        ({"epochs": 2.0}, "epochs must be a positive integer, got 2.0"),
        ({"channels": None}, "channels must be a positive integer, got None"),
        ({"batch_size": True}, "batch_size must be a positive"),
        ({"learning_rate": 0}, "learning_rate must be positive, got 0"),
        ({"learning_rate": "0.1"}, "learning_rate must be a finite number"),
        ({"weight_decay": float("nan")}, "weight_decay must be a finite number"),
        ({"weight_decay": -1}, "weight_decay must be >= 0"),
        ({"clip": -1}, "clip must be positive or None"),
        ({"momentum": 1}, r"momentum must be in \[0, 1\)"),
        ({"drop_path": 1.5}, r"drop_path must be in \[0, 1\)"),
        ({"label_smoothing": -0.1}, "label_smoothing must be in"),
        ({"mixup": -1}, "mixup must be >= 0"),
        ({"auxiliary_weight": -1}, "auxiliary_weight must be >= 0"),
        ({"schedule": "cosine"}, "unknown schedule 'cosine': did you mean"),
        ({"stem": "imagenets"}, "did you mean 'imagenet'"),
        ({"decay": 0}, r"decay must be in \(0, 1\]"),
        ({"eta_min": 1.0}, "eta_min must be in 0..learning_rate"),
        (
            {"schedule": "exponential", "eta_min": 1e-3},
            "eta_min is where a cosine ends",
        ),
        ({"auxiliary": 1}, "auxiliary must be True or False"),
        ({"augment": 4}, "augment must be of type Augment or a mapping"),
        ({"augment": {"crops": 4}}, "did you mean 'crop'"),
        ({"augment": {"crop": -4}}, "augment crop must be a whole number"),
        ({"bptt": 20}, "bptt is for text, but recipe 'darts' is for images"),
        ({"kind": "image"}, "did you mean 'images'"),
        ({"name": 3}, "name must be a text"),
    ],
)
def test_bad_fields(changes, match):
    with pytest.raises(jnas.JnasError, match=match):
        recipes.get("darts").replace(**changes)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"mixup": 0.2}, "mixup is for images, but recipe 'darts_rnn' is for text"),
        ({"dropouts": {"hiden": 0.1}}, "did you mean 'hidden'"),
        ({"dropouts": {"hidden": 1.0}}, "dropout hidden must be in"),
        ({"width": None}, "width must be a positive integer"),
    ],
)
def test_bad_fields_of_text(changes, match):
    with pytest.raises(jnas.JnasError, match=match):
        recipes.get("darts_rnn", **changes)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", "not a recipe's JSON"),
        ("[" * 100_000, "not a recipe's JSON"),
        ("[]", "must be an object"),
        ('{"format": 2, "name": "x"}', "update jnas to read it"),
        ('{"format": "1"}', 'set "format": 1'),
        ('{"name": "x", "epochs": 1}', "a recipe needs the field 'batch_size'"),
        ('{"name": "x", "speed": 1}', "unknown field of a recipe 'speed'"),
    ],
)
def test_bad_json(text, match):
    with pytest.raises(jnas.JnasError, match=match):
        recipes.from_json(text)


def test_unknown_names():
    with pytest.raises(jnas.JnasError, match="did you mean 'darts'"):
        recipes.get("dart")
    assert next(iter(recipes.names())) == "darts" and "quick" in recipes.names()
