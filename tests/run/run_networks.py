"""Tiny networks, data and texts that train in a second, for tests of retraining."""

import numpy as np

import jnas
from jnas.spaces import Cell, Edge, Genotype

# One convolution of 1x1 and skips: it learns, and compiles in no time.
CELL = jnas.spaces.nasbench201().decode([2, 0, 1, 0, 0, 1])
RNN = Genotype("darts_rnn", (("recurrent", Cell((Edge("tanh", 0, 1),), (1,))),))
# The same everywhere, so that the tests share the compiled programs.
SMALL = {"epochs": 4, "channels": 2, "batch_size": 16, "learning_rate": 0.2}
SMALL["progress"] = False


def images(classes=3, per_class=20, channels=1, names=None, seed=0):
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(classes), per_class).astype(np.int64)
    image = rng.integers(0, 60, (len(label), 8, 8, channels)).astype(np.uint8)
    for i, k in enumerate(label):  # a bright row tells the class
        image[i, 2 * k + 1] += 180
    return jnas.data.from_arrays(image, label, name="rows", class_names=names)


def text(tmp_path, more=""):
    (tmp_path / "poem.txt").write_text("to be, or not to be:\nthat is\n" * 30 + more)
    return jnas.data.load(tmp_path / "poem.txt")
