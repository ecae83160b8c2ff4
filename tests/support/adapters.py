"""Models with adapters of PEFT, and what they come to when merged."""

import copy

from transformers import BertConfig

__all__ = ["TINY_BERT", "merged"]

TINY_BERT = BertConfig(
    vocab_size=30,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
    max_position_embeddings=16,
)


def merged(model):
    """Name → weight, of the model that `merge_and_unload` makes of it."""
    return {name: weight.detach() for name, weight in copy.deepcopy(model).merge_and_unload().named_parameters()}
