"""Models of a few thousand weights: configs to make them of, and pre-trained ones on disk."""

import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertModel,
    BertTokenizerFast,
    GPT2Config,
    LlamaConfig,
    LlamaForCausalLM,
    MobileNetV2Config,
    MobileNetV2ImageProcessor,
    MobileNetV2Model,
    ViTConfig,
)

__all__ = [
    "SIZES",
    "save_bert",
    "save_language_models",
    "save_mobilenet",
    "tiny_bert_config",
    "tiny_gpt2_config",
    "tiny_llama_config",
    "tiny_mobilenet_config",
    "tiny_vit_config",
]

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def tiny_bert_config(**overrides):
    return BertConfig(**{"vocab_size": 50, "max_position_embeddings": 16, **SIZES, **overrides})


def tiny_vit_config(**overrides):
    return ViTConfig(**{"image_size": 8, "patch_size": 4, **SIZES, **overrides})


def tiny_llama_config(**overrides):
    return LlamaConfig(**{"vocab_size": 37, "max_position_embeddings": 16, **SIZES, **overrides})


def tiny_gpt2_config(**overrides):
    return GPT2Config(**{"vocab_size": 20, "n_positions": 8, "n_embd": 8, "n_layer": 1, "n_head": 2, **overrides})


def tiny_mobilenet_config(**overrides):
    return MobileNetV2Config(
        **{
            "depth_multiplier": 0.05,
            "expand_ratio": 1.0,
            "finegrained_output": False,
            "output_stride": 8,
            "initializer_range": 0.5,
            **overrides,
        }
    )


def save_mobilenet(folder, *, model_class=MobileNetV2Model, **overrides):
    """A pre-trained MobileNetV2, by default without a head, in `folder`, with an image processor."""
    torch.manual_seed(0)
    model_class(tiny_mobilenet_config(**overrides)).save_pretrained(folder)
    MobileNetV2ImageProcessor().save_pretrained(folder)
    return folder


def save_bert(folder, *, seed=0, words=None, **overrides):
    """A pre-trained encoder without a head in `folder`, with a tokenizer that knows these words, if there are any."""
    torch.manual_seed(seed)
    overrides |= {} if words is None else {"vocab_size": len(words)}
    BertModel(tiny_bert_config(**overrides)).save_pretrained(folder)
    if words is not None:
        (folder / "vocab.txt").write_text("\n".join(words) + "\n")
        BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


def save_language_models(folder, words):
    """Pre-trained models of so many words in `folder`: a Llama with `tied` and `untied` embeddings, and a `bert`."""
    torch.manual_seed(0)
    for tied in (False, True):
        config = tiny_llama_config(vocab_size=words, tie_word_embeddings=tied)
        LlamaForCausalLM(config).save_pretrained(folder / ("tied" if tied else "untied"))
    BertForMaskedLM(tiny_bert_config(vocab_size=words)).save_pretrained(folder / "bert")
    return folder
