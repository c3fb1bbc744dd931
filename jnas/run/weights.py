"""Export of a trained network to one file, and its way back without any other.

For use outside of jnas: the arrays are those of the Flax modules, named by their paths
(``weights/...``, ``model_state/...``). `jnas.interop` writes the names and layouts of
the papers' PyTorch code.
"""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnas import data as datasets
from jnas import networks
from jnas.errors import JnasError
from jnas.networks import Dropouts, Network
from jnas.run import metrics, weights_files
from jnas.run.workdir import one_line
from jnas.spaces import Genotype
from jnas.supernet import Variables

__all__ = ["Exported", "describe_data", "load_weights", "save_weights"]

_FLOAT = jnp.float32
_SIDES = {"cifar": 32, "imagenet": 224}


class Exported(NamedTuple):
    """What an exported file holds.

    Attributes:
      network: rebuilt from the description.
      variables: its weights and running statistics.
      metadata: the description: "genotype" (JSON), "network" (how it was built),
        "data" (name, mean, std, class names, ...; None if it was not told), "jnas" (the
        version that wrote it), and what else was given.
    """

    network: Network
    variables: Variables
    metadata: dict[str, Any]


def describe_data(data: Any) -> dict[str, Any]:
    """What later users of a network must know of its data.

    Args:
      data: the dataset.

    Returns:
      Its name, fingerprint and kind; of images the shape, normalisation and class
      names, of a text the vocabulary.

    Example:
      >>> describe_data(datasets.load("digits"))["image_shape"]
      [8, 8, 1]
    """
    about = {"name": data.name, "fingerprint": data.fingerprint()}
    if isinstance(data, datasets.TextDataset):
        return {
            **about,
            "kind": "text",
            "level": data.level,
            "vocabulary": list(data.vocabulary),
        }
    return {
        **about,
        "kind": "images",
        "image_shape": list(data.image_shape),
        "mean": list(data.mean),
        "std": list(data.std),
        "class_names": None if data.class_names is None else list(data.class_names),
    }


def save_weights(
    path: str | os.PathLike[str],
    network: Network,
    state: Any,
    *,
    data: Any = None,
    extra: dict[str, Any] | None = None,
) -> None:
    """Writes a trained network, with all that is needed to use it.

    An existing file is replaced, in one move. What only a training needs (the
    optimizer's state, the carried state of a language model) is left out.

    Args:
      path: ``x.npz``, ``x.safetensors`` (needs that library), or a folder without
        suffix for Orbax.
      network: of `jnas.networks.build`, `recurrent` or `vanilla_rnn`.
      state: a `TrainState`, or the network's `Variables`.
      data: what it was trained on, for the normalisation and class names; or None.
      extra: more to keep with it, of JSON's types.

    Raises:
      JnasError: the network can't be rebuilt from a description, the arrays are not
        its own, or the path can't be written.

    Example:
      >>> import jnas, tempfile
      >>> net = jnas.networks.build("DARTS_V2", channels=2, cells=3)
      >>> variables = net.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     save_weights(folder + "/net.npz", net, variables)
      ...     load_weights(folder + "/net.npz").network.config["cells"]
      3
    """
    path = Path(path)
    about = {
        "genotype": json.loads(network.genotype.to_json()),
        "network": metrics.as_json(network.config, "the network's config"),
        "data": None if data is None else describe_data(data),
        "inputs": _inputs(network, state, data),
    }
    more = metrics.as_json(extra or {}, "extra")
    clash = sorted({*about, "kind", "format", "jnas", "checksum"} & {*more})
    if clash:
        raise JnasError(f"extra must not be named {clash[0]!r}: rename it")
    try:
        _, template = _rebuilt(about)
    except _UnknownError as error:
        raise JnasError(
            f"this network can't be rebuilt from a file ({error}): save_weights takes "
            "those of jnas.networks.build, recurrent and vanilla_rnn"
        ) from error
    arrays = {
        name: np.asarray(leaf)
        for name, leaf in _named(Variables(state.weights, state.model_state)).items()
    }
    wrong = _differing(template, arrays)
    if wrong:
        raise JnasError(f"the state is not of this network: {wrong}")
    weights_files.write(path, arrays, {**about, **more})


def load_weights(path: str | os.PathLike[str]) -> Exported:
    """Reads what `save_weights` wrote and rebuilds the network.

    Nothing in the file is executed, and every byte is checked.

    Args:
      path: of the file or folder.

    Returns:
      The network, its variables and the description.

    Raises:
      JnasError: there is no such file, it is damaged, of another program or of a newer
        version.

    Example:
      >>> load_weights("no/such.npz")
      Traceback (most recent call last):
        ...
      jnas.errors.JnasError: there is no file or folder no/such.npz
    """
    path = Path(path)
    arrays, about = weights_files.read(path)
    try:
        network, template = _rebuilt(about)
    except _UnknownError as error:
        raise JnasError(
            f"{path} describes no network that this jnas can build ({error})"
        ) from error
    wrong = _differing(template, arrays)
    if wrong:
        raise JnasError(f"{path} does not hold the arrays of its network: {wrong}")
    # A carried state is not in the file: it starts from zero.
    leaves = {
        name: jnp.asarray(arrays[name]) if name in arrays else jnp.zeros_like(leaf)
        for name, leaf in _named(template, carried=True).items()
    }
    variables = jax.tree.unflatten(jax.tree.structure(template), leaves.values())
    return Exported(network, variables, about)


class _UnknownError(JnasError):
    """A description of which no network can be built."""


def _inputs(network: Network, state: Any, data: Any) -> list[int] | None:
    """Height, width and channels of an image; None of a text."""
    if "vocab_size" in network.config:
        return None
    if data is not None:
        return list(data.image_shape)
    side = _SIDES[network.config.get("stem", "cifar")]
    skeleton = state.weights["skeleton"]
    stem = skeleton.get("stem_conv") or skeleton["stem0_conv_a"]
    return [side, side, stem["kernel"].shape[2]]


def _rebuilt(about: dict[str, Any]) -> tuple[Network, Variables]:
    """The network of a description, and the shapes of its variables."""
    try:
        config = dict(about["network"])
        genotype = Genotype.from_json(json.dumps(about["genotype"]))
        config.pop("genotype", None)
        if about["inputs"] is not None:
            network = networks.build(genotype, **config)
            height, width, channels = about["inputs"]
            inputs: Any = jax.ShapeDtypeStruct((1, height, width, channels), _FLOAT)
        else:
            network = _language_model(genotype, **config)
            inputs = {"tokens": jax.ShapeDtypeStruct((1, 1), jnp.int32)}
        template = jax.eval_shape(network.init, jax.random.key(0), inputs)
    except (ArithmeticError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise _UnknownError(one_line(error)) from error
    return network, template


def _language_model(genotype, *, model, nodes, dropouts, **config) -> Network:
    config["dropouts"] = Dropouts(**dropouts)
    if model == "recurrent":
        return networks.recurrent(genotype, **config)
    if model == "vanilla":
        return networks.vanilla_rnn(**config)
    raise JnasError(f"its cell is of the kind {model!r}")


def _named(variables: Variables, *, carried: bool = False) -> dict[str, Any]:
    """The leaves by name; without those that are carried from batch to batch."""
    entries = jax.tree_util.tree_flatten_with_path(variables)[0]
    keystr = jax.tree_util.keystr
    named = {keystr(path, simple=True, separator="/"): leaf for path, leaf in entries}
    return {n: x for n, x in named.items() if carried or n != "model_state/carry"}


def _differing(template: Variables, arrays: dict[str, np.ndarray]) -> str | None:
    """Says how arrays differ from those that a network has, or returns None."""

    def kind(leaf):
        return None if leaf is None else f"{leaf.dtype.name}{list(leaf.shape)}"

    wanted = _named(template)
    for name in {**wanted, **arrays}:
        got, expected = kind(arrays.get(name)), kind(wanted.get(name))
        if got != expected:
            return f"{name} is {got or 'missing'}, expected {expected or 'none'}"
    return None
