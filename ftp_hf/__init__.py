"""
Fast Trainable Projection for Hugging Face: fine-tune pre-trained models without losing their robustness.

The names are listed in `__init__.pyi`, and each is imported when it is first asked for (PEP 562): the optimizers need no
transformers, and the command line no torch.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
