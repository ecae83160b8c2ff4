"""
Methods of fine-tuning side by side: trained alike, chosen on ID validation, evaluated in and out of distribution.

`run/` trains and leaves evidence, `evidence/` draws conclusions, `report/` writes pages: each needs only what comes after
it, so that a report is written, and its names here are imported, without torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
