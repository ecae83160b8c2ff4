"""A tiny causal language model and a tiny encoder of sentences, with data for comparisons that take seconds."""

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from tests.support.models import save_bert, tiny_llama_config

__all__ = ["answers_config", "make_answers", "make_pairs", "pairs_config", "save_llama"]

NUMBERS = ["one", "two", "three", "four", "five", "six"]
SPECIAL = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>"}
WORDS = [*SPECIAL.values(), "Question", "Answer", ":", "#", "and", "is", "red", "blue", *NUMBERS]


def save_llama(folder, words=WORDS):
    """A pre-trained causal language model in `folder`, with a tokenizer of words."""
    torch.manual_seed(0)
    tokens = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, SPECIAL["unk_token"]))
    tokens.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokens, **SPECIAL).save_pretrained(folder)
    config = tiny_llama_config(
        vocab_size=len(words), max_position_embeddings=64, pad_token_id=0, bos_token_id=None, eos_token_id=1
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def make_answers(folder):
    """A language model, questions with answers, and what it should retain: texts, instructions and choices."""
    save_llama(folder / "model")
    for name, start, rows in [("train", 0, 24), ("validation", 1, 12), ("test", 2, 12), ("other", 3, 12)]:
        pairs = [(NUMBERS[(start + row) % 6], NUMBERS[(start + 2 * row) % 6]) for row in range(rows)]
        questions = [f"{first} and {second}" for first, second in pairs]
        answers = [f"red is {first} {second}" if name == "other" else f"{second} {first}" for first, second in pairs]
        Dataset.from_dict({"question": questions, "answer": answers}).to_parquet(folder / f"{name}.parquet")
    texts = [f"{first} is red and {second} is blue" for first in NUMBERS for second in NUMBERS[:2]]
    Dataset.from_dict({"text": texts}).to_parquet(folder / "plain.parquet")
    given = {"instruction": NUMBERS, "input": ["", "red"] * 3, "output": [f"blue is {word}" for word in NUMBERS]}
    Dataset.from_dict(given).to_parquet(folder / "instructions.parquet")
    choices = {"question": NUMBERS, "choices": [["red", "blue and blue"]] * 6, "answer": [0, 1] * 3}
    Dataset.from_dict(choices).to_parquet(folder / "choices.parquet")
    return folder


def answers_config(folder, **changes):
    """A config as it is read from YAML, for the data of [`make_answers`]."""
    return {
        "task": "text-generation",
        "model": str(folder / "model"),
        **{kind: str(folder / f"{kind}.parquet") for kind in ("train", "validation", "test")},
        "ood": [str(folder / "other.parquet")],
        "retained": [str(folder / f"{name}.parquet") for name in ("plain", "instructions", "choices")],
        "max_tokens": 32,
        "learning_rate": [1e-3, 1e-2],
        "seeds": [0],
        "methods": {"plain": {}, "ftp": {"learning_rate": [1e-2]}, "wise-ft": {"alpha": [0.5]}},
        "training": {"num_train_epochs": 2, "per_device_train_batch_size": 12, "use_cpu": True, "bf16": False},
        **changes,
    }


def make_pairs(folder):
    """An encoder of sentences, and pairs of them that have more or fewer words in common."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "and", "is", "red", "blue", *NUMBERS]
    save_bert(folder / "model", words=words)
    for name, start, rows in [("train", 0, 24), ("validation", 1, 12), ("test", 2, 12), ("other", 3, 12)]:
        first = [f"{NUMBERS[(start + row) % 6]} is red" for row in range(rows)]
        second = [f"{NUMBERS[(start + row * row) % 6]} is {'red' if row % 3 else 'blue'}" for row in range(rows)]
        scores = [
            float(5 * (a == b) or 2 * (b.endswith("red"))) + row / 50
            for row, (a, b) in enumerate(zip(first, second, strict=True))
        ]
        pairs = {"sentence1": first, "sentence2": second, "score": scores}
        Dataset.from_dict(pairs).to_parquet(folder / f"{name}.parquet")
    return folder


def pairs_config(folder, **changes):
    """A config as it is read from YAML, for the data of [`make_pairs`]."""
    return {
        "task": "sentence-similarity",
        "model": str(folder / "model"),
        **{kind: str(folder / f"{kind}.parquet") for kind in ("train", "validation", "test")},
        "retained": [str(folder / "other.parquet")],
        "max_length": 12,
        "learning_rate": [1e-3, 1e-2],
        "seeds": [0],
        "methods": {"plain": {}, "ftp": {"learning_rate": [1e-2]}, "l2-sp": {"learning_rate": [1e-2], "alpha": [0.1]}},
        "training": {"num_train_epochs": 2, "per_device_train_batch_size": 12, "use_cpu": True},
        **changes,
    }
