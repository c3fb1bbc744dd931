"""Datasets, their splits, and batches made on the device."""

from jnas.data.base import Augment, Dataset, Split
from jnas.data.feeds import Feed, batches, feed
from jnas.data.sources import load, names
from jnas.data.splits import from_arrays
from jnas.data.text import TextDataset, load_text
from jnas.data.text_feeds import TextFeed, text_batches, text_feed

__all__ = [
    "Augment",
    "Dataset",
    "Feed",
    "Split",
    "TextDataset",
    "TextFeed",
    "batches",
    "feed",
    "from_arrays",
    "load",
    "load_text",
    "names",
    "text_batches",
    "text_feed",
]
