"""A pre-trained model and data for a comparison that takes seconds."""

import numpy as np
import torch
import yaml
from datasets import ClassLabel, Dataset, Features, Image, Value
from PIL import Image as Pictures
from transformers import ViTImageProcessor, ViTModel

from tests.support.models import save_bert, tiny_vit_config

LABELS = ["dark", "light"]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "film", "song", "is", "good", "fine", "bad", "poor"]


def make_images(folder):
    """A ViT, and images that are darker or lighter than grey."""
    torch.manual_seed(0)
    ViTModel(tiny_vit_config(), add_pooling_layer=False).save_pretrained(folder / "model")
    ViTImageProcessor(size={"height": 8, "width": 8}).save_pretrained(folder / "model")
    features = Features({"image": Image(), "label": ClassLabel(names=LABELS)})
    for name, rows, shift in [("train", 32, 0), ("validation", 16, 0), ("test", 24, 0), ("pale", 24, 40)]:
        generator = np.random.default_rng(len(name))
        labels = [row % 2 for row in range(rows)]
        images = [
            Pictures.fromarray(np.uint8(np.clip(generator.normal(90 + 70 * label + shift, 50, (8, 8, 3)), 0, 255)))
            for label in labels
        ]
        Dataset.from_dict({"image": images, "label": labels}, features).to_parquet(folder / f"{name}.parquet")
    return folder


def make_texts(folder):
    """A BERT with its tokenizer, and sentences that praise or blame."""
    save_bert(folder / "model", words=WORDS)
    features = Features({"text": Value("string"), "label": ClassLabel(names=["negative", "positive"])})
    for name, subject, rows in [
        ("train", "film", 32),
        ("validation", "film", 16),
        ("test", "film", 24),
        ("songs", "song", 24),
    ]:
        generator = np.random.default_rng(len(name))
        labels = [row % 2 for row in range(rows)]
        words = [generator.choice(["good", "fine"] if label else ["bad", "poor"]) for label in labels]
        texts = [f"the {subject} is {word}" for word in words]
        Dataset.from_dict({"text": texts, "label": labels}, features).to_parquet(folder / f"{name}.parquet")
    return folder


def image_config(folder, **changes):
    """A config as it is read from YAML, for the data of [`make_images`]."""
    return {
        "task": "image-classification",
        "model": str(folder / "model"),
        "train": str(folder / "train.parquet"),
        "validation": str(folder / "validation.parquet"),
        "test": str(folder / "test.parquet"),
        "ood": [str(folder / "pale.parquet")],
        "learning_rate": [1e-3, 1e-2],
        "seeds": [0, 1],
        "methods": ["plain", "ftp"],
        "training": {"num_train_epochs": 2, "per_device_train_batch_size": 8, "use_cpu": True},
        **changes,
    }


def write_config(folder, content, name="trial"):
    """The file of a config; keys whose value is `None` are left out."""
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
    return file
