"""Which labels do not count."""

__all__ = ["IGNORED_LABEL"]

IGNORED_LABEL = -100
"""The label of what no loss counts, as `torch.nn.functional.cross_entropy` has it by default, and with it transformers."""
