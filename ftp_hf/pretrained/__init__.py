"""
What is known of the pre-trained model: its weights as anchors, the names it saves them under, and which parameters of
the model at hand it does not hold. Nothing here projects or trains.

The names are imported when they are asked for, because the optimizers need `anchors` and no transformers.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
