"""A stream of texts that takes seconds: three stages, each with two classes of its own."""

from datasets import ClassLabel, Dataset, Features, Value

from ftp_hf.compare.stream.plan import Chain
from tests.support.models import save_bert
from tests.support.task_comparisons import save_sets

__all__ = ["STAGES", "chain", "make_stream", "stream_config"]

STAGES = ["films", "songs", "meals"]
_WORDS = {"films": ("good", "bad"), "songs": ("fine", "poor"), "meals": ("hot", "cold")}
_LABELS = [f"{stage}_{word}" for stage in STAGES for word in _WORDS[stage]]


def make_stream(folder):
    """A BERT with its tokenizer, and sentences of all stages in one file each for training, validation and tests."""
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "the",
        "is",
        *STAGES,
        *(w for two in _WORDS.values() for w in two),
    ]
    save_bert(folder / "model", words=words, num_hidden_layers=1, initializer_range=0.3)
    features = Features({"text": Value("string"), "label": ClassLabel(names=_LABELS), "domain": Value("string")})
    for name, rows in [("train", 16), ("validation", 8), ("test", 8), ("old", 8)]:
        of = [(stage, row % 2) for stage in STAGES for row in range(rows)]
        data = Dataset.from_dict(
            {
                "text": [f"the {stage} is {_WORDS[stage][number]}" for stage, number in of],
                "label": [_LABELS.index(f"{stage}_{_WORDS[stage][number]}") for stage, number in of],
                "domain": [stage for stage, _ in of],
            },
            features,
        )
        save_sets(folder, **{name: data})
    return folder


def stream_config(folder, **changes):
    """A config as it is read from YAML."""
    return {
        "task": "text-classification",
        "model": str(folder / "model"),
        "stages": STAGES,
        **{name: f"{folder / name}.parquet?domain={{stage}}" for name in ("train", "validation", "test")},
        "learning_rate": 3e-3,
        "seeds": [0],
        "methods": {"plain": {}, "ftp": {}},
        "training": {"num_train_epochs": 2, "per_device_train_batch_size": 4, "use_cpu": True, "weight_decay": 0.0},
        **changes,
    }


def chain(config, method, order, seed, rolled_back=()):
    """The runs of a method in an order of the stages."""
    return Chain(method, tuple(order), seed).runs(config, rolled_back)
