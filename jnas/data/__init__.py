"""Datasets, their splits, and batches made on the device."""

from jnas.data.base import Augment, Dataset, Split
from jnas.data.feeds import Feed, batches, feed
from jnas.data.rows import DataSource, StreamSplit
from jnas.data.sourced import from_sources
from jnas.data.sources import load, names
from jnas.data.splits import from_arrays
from jnas.data.streamed import StreamDataset
from jnas.data.streams import Fed, Stream, stream
from jnas.data.text import TextDataset, load_text
from jnas.data.text_feeds import TextFeed, text_batches, text_feed

__all__ = [
    "Augment",
    "DataSource",
    "Dataset",
    "Fed",
    "Feed",
    "Split",
    "Stream",
    "StreamDataset",
    "StreamSplit",
    "TextDataset",
    "TextFeed",
    "batches",
    "feed",
    "from_arrays",
    "from_sources",
    "load",
    "load_text",
    "names",
    "stream",
    "text_batches",
    "text_feed",
]
