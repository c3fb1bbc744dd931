"""Bad input to the functions: a JnasError of one line that says what to do."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

import jnas
from jnas.errors import JnasError

IMAGES = np.arange(60 * 64, dtype=np.uint8).reshape(60, 8, 8)
LABELS = np.arange(60) % 3
DATA = jnas.data.from_arrays(IMAGES, LABELS)


def arrays(images=IMAGES, labels=LABELS, **options):
    return lambda: jnas.data.from_arrays(images, labels, **options)


def feed(**options):
    options = {"batch_size": 4, "mean": DATA.mean, "std": DATA.std, **options}
    options.setdefault("augment", DATA.augment)
    return lambda: jnas.data.feed(DATA.train, DATA.validation, **options)


def nasbench(**options):
    options = {"channels": 2, "cells_per_stage": 1, "num_classes": 3, **options}
    return jnas.presets.darts(jnas.spaces.nasbench201(), **options)


def search(data=DATA, preset=None, **options):
    options = {"epochs": 1, "batch_size": 8, "progress": False, **options}
    method = {"epochs": 1, "steps_per_epoch": 3, **(preset or {})}
    return lambda: jnas.run.search(nasbench(**method), data, **options)


def nan_images():
    images = IMAGES.astype(np.float32)
    images[7, 1, 2] = np.nan
    return images


class Rows:
    """A source of the user's own with one bad row."""

    def __init__(self, **bad):
        self.bad = bad

    def __len__(self):
        return 30

    def __getitem__(self, i):
        row = {"image": IMAGES[i], "label": int(LABELS[i])}
        return {**row, **self.bad} if i == 17 else row


def rows(**bad):
    def read():
        pytest.importorskip("grain")
        data = jnas.data.from_sources(Rows(**bad), num_classes=3)
        return data.load()

    return read


def late_nan():
    """A search whose data overflow float32 in the third step."""
    method = tiny.tiny_search()
    poison = jax.tree_util.Partial(
        lambda key, step: (
            {**tiny.batch(0), "image": tiny.batch(0)["image"] / (step != 2)},
            tiny.batch(1),
        )
    )
    example = tiny.batch(0)["image"]
    jnas.run.loop(
        method.step,
        lambda key: method.init(key, example),
        poison,
        epochs=1,
        steps_per_epoch=4,
        progress=False,
    )


CASES = {
    "images of another type": (arrays(IMAGES / 255), "np.round(images * 255)"),
    "NaN in images": (arrays(nan_images()), "replace what is not finite first"),
    "images without rank": (arrays(IMAGES.reshape(60, 64)), "[N, H, W]"),
    "channels first": (
        arrays(np.zeros((60, 3, 8, 8), np.uint8)),
        "images.transpose(0, 2, 3, 1)",
    ),
    "labels of another type": (arrays(labels=LABELS + 0.5), "must be integers 0..K-1"),
    "one-hot labels": (arrays(labels=np.eye(3, dtype=int)[LABELS]), "argmax"),
    "fewer labels": (arrays(labels=LABELS[:-1]), "60 images and 59 labels"),
    "label out of range": (arrays(num_classes=2), "must lie in 0..1, got 2"),
    "empty class": (arrays(labels=LABELS * 2), "none of class 1, 3"),
    "no examples": (arrays(IMAGES[:0], LABELS[:0]), "at least one example"),
    "batch larger than the set": (
        feed(batch_size=99),
        "at most the size of the train split",
    ),
    "mean for other channels": (feed(mean=(0.5,) * 3), "one number per channel (1)"),
    "std zero": (feed(std=(0.0,)), "std > 0"),
    "crop larger than the image": (
        feed(augment=jnas.data.Augment(crop=8)),
        "crop must be smaller than the image",
    ),
    "key of the old kind": (
        lambda: feed()()(jax.random.key_data(jax.random.key(0)), 0),
        "jax.random.key",
    ),
    "row of another shape": (rows(image=IMAGES[0, :4]), "17"),
    "row with NaN": (rows(image=np.full((8, 8), np.nan, np.float32)), "17"),
    "row with a bad label": (rows(label=3), "17"),
    "row without image": (rows(image=None), "17"),
    "row that is no JPEG": (rows(image=b"\xff\xd8\xff no"), "17"),
    "unknown space": (lambda: jnas.spaces.get("dart"), "did you mean 'darts'"),
    "unknown preset": (lambda: jnas.presets.get("dats"), "did you mean 'darts'"),
    "other length than planned": (search(epochs=2), "pass epochs=2 to the preset"),
    "other classes": (search(preset={"num_classes": 7}), "num_classes=3"),
    "seed negative": (search(seed=-1), "seed must be a whole number >= 0"),
    "unknown policy": (search(on_nan="ignore"), "unknown on_nan 'ignore'"),
    "odd chunk": (search(chunk=2), "chunk must divide steps_per_epoch (3)"),
    "loss is NaN": (
        late_nan,
        "train_loss must be finite, got nan at epoch 1/1, step 3",
    ),
    "mixture of another shape": (
        lambda: tiny.tiny_supernet().apply(
            *tiny.tiny_supernet().init(jax.random.key(0), None),
            jnas.Mixture(weights={"cell": jnp.ones((2, 3))}),
            tiny.batch(0)["image"],
            train=True,
        ),
        "[2, 3]",
    ),
    "no optimizer": (
        lambda: jnas.search.differentiable(
            tiny.tiny_supernet(), weight_tx="adam", arch_tx=optax.adam(1e-3)
        ),
        "weight_tx",
    ),
    "genotype of another space": (
        lambda: jnas.networks.build("DARTS_V2", channels=4, cells_per_stage=1),
        "cells_per_stage",
    ),
    "genes out of range": (
        lambda: jnas.spaces.nasbench201().decode([5] * 6),
        "5",
    ),
    "recipe with an unknown field": (
        lambda: jnas.networks.recipes.get("darts").replace(epoch=3),
        "did you mean 'epochs'",
    ),
    "weights of nothing": (lambda: jnas.run.load_weights("absent.npz"), "absent.npz"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input(case):
    call, message = CASES[case]
    with pytest.raises(JnasError) as error:
        call()
    text = str(error.value)
    assert message in text and "\n" not in text and len(text) < 500, text


def test_good_input_passes():
    """The same functions accept what the cases were made from."""
    assert feed()().batch_size == 4
    assert len(arrays()().train) == 24
    assert dataclasses.replace(DATA).fingerprint() == DATA.fingerprint()
