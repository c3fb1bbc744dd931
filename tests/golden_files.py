"""The reference numbers in tests/golden; its README says what they are."""

import functools
import pathlib

import numpy as np

FOLDER = pathlib.Path(__file__).parent / "golden"


@functools.cache
def load(name: str) -> dict[str, np.ndarray]:
    """All arrays of one golden file; its parts ``<name>.<part>.npz`` are joined."""
    arrays = {}
    paths = sorted([*FOLDER.glob(f"{name}.npz"), *FOLDER.glob(f"{name}.*.npz")])
    assert paths, f"no golden file {name}"
    for path in paths:
        with np.load(path, allow_pickle=False) as part:
            assert not set(part.files) & set(arrays), path
            arrays.update({key: part[key] for key in part.files})
    for array in arrays.values():
        array.flags.writeable = False  # the dict is shared between tests
    return arrays


def collect(arrays: dict[str, np.ndarray], *prefixes: str) -> dict[str, np.ndarray]:
    """The entries below the prefixes, by the rest of their names."""
    return {
        key.removeprefix(prefix): value
        for prefix in prefixes
        for key, value in arrays.items()
        if key.startswith(prefix)
    }


def split(flat: np.ndarray, names, sizes) -> dict[str, np.ndarray]:
    """A concatenation of ravelled arrays, by name."""
    parts = np.split(flat, np.cumsum(sizes)[:-1])
    return dict(zip(map(str, names), parts, strict=True))
