"""From the official releases of benchmarks to the compact files.

Nothing in an official file is run: pickles are interpreted as data, records and their
messages are taken apart by hand.
"""

from jnas.tabular.converting.convert import convert

__all__ = ["convert"]
