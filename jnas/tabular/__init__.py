"""Benchmark tables as device arrays."""

from jnas.tabular.base import Column, Table, by_code

__all__ = ["Column", "Table", "by_code"]
