"""
What adapters of PEFT do to the weights of a model, and which of it can be projected. PEFT is looked at only where it was
imported already. `docs/adapters.md` is the table of all methods.
"""

from .options import adapter_options
from .products import restore_base_weights

__all__ = ["adapter_options", "restore_base_weights"]
