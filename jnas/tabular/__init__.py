"""Benchmark tables as device arrays."""
