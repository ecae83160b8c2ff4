"""Which labels do not count."""

__all__ = ["IGNORED_LABEL"]

IGNORED_LABEL = -100
"""The label that losses ignore: the default `ignore_index` of `cross_entropy`, and of transformers."""
