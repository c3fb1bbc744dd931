"""Robustification plug-ins: the contract and its composition."""

from jnas.regularizers.base import Action, Regularizer, chain, identity

__all__ = ["Action", "Regularizer", "chain", "identity"]
