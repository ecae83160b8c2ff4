"""Models of a few thousand weights, with what prepares their input."""

import numpy as np
import torch
from datasets import Dataset
from PIL import Image
from transformers import BertForSequenceClassification, BertTokenizerFast, ViTForImageClassification, ViTImageProcessor

from tests.support.models import save_bert, tiny_vit_config

LABELS = {"num_labels": 2, "id2label": {0: "bad", 1: "good"}, "label2id": {"bad": 0, "good": 1}}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "fine", "poor", "film", "song"]


def text():
    return "a fine film a poor song"


def image():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def make_text_base(folder):
    """A pre-trained encoder and its tokenizer, on disk."""
    return save_bert(folder, words=WORDS)


def text_model(base):
    """Model, tokenizer and training data of a text classifier."""
    torch.manual_seed(0)
    tokens = torch.randint(5, len(WORDS), (16, 6), generator=torch.Generator().manual_seed(0))
    data = {"input_ids": tokens.tolist(), "labels": (tokens[:, 1] > 7).long().tolist()}
    model = BertForSequenceClassification.from_pretrained(base, **LABELS)
    return model, BertTokenizerFast.from_pretrained(base), Dataset.from_dict(data)


def vision_model():
    """Model, processor and training data of an image classifier."""
    torch.manual_seed(0)
    pixels = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    data = {"pixel_values": pixels.tolist(), "labels": [0, 1] * 8}
    model = ViTForImageClassification(tiny_vit_config(**LABELS))
    return model, ViTImageProcessor(size={"height": 8, "width": 8}), Dataset.from_dict(data).with_format("torch")
