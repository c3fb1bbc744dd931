"""Datasets, their splits, and batches made on the device."""

from jnas.data.base import Augment, Dataset, Split
from jnas.data.feeds import Feed, batches, feed
from jnas.data.sources import load, names
from jnas.data.splits import from_arrays

__all__ = [
    "Augment",
    "Dataset",
    "Feed",
    "Split",
    "batches",
    "feed",
    "from_arrays",
    "load",
    "names",
]
