"""Token classification: a pre-trained text encoder that gives each word of a sentence a tag."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import (
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    EvalPrediction,
    PreTrainedModel,
)

from ftp_hf.common.documented import with_help
from ftp_hf.common.figures import metric_named
from ftp_hf.common.labels import IGNORED_LABEL

from .classifier import classifier_options, load_classifier
from .entities import entity_scores, type_scores
from .label_space import is_listed
from .positions import places_of, within_places
from .row_checks import RowError, check_column, check_filled
from .task import Task, logits_alone, loss_of_labels

__all__ = ["TaggingOptions", "TaggingTask"]

_CORRUPTIONS = (
    "character_deletion",
    "character_repetition",
    "character_swap",
    "keyboard_typos",
    "punctuation_removal",
    "random_casing",
)
"""Those that neither join nor split words, nor leave some out: each has its tag."""

_GAP = "\n"
"""Between words while they are corrupted: no such corruption touches it."""


@with_help
@dataclass
class TaggingOptions:
    """
    Args:
        word_column (`str`, *optional*, defaults to `"tokens"`): the column of sentences, each a list of words.
        max_length (`int`, *optional*, defaults to 128): longer sentences are cut, in tokens; the words that are cut off are
            neither trained on nor counted.
    """

    word_column: str = "tokens"
    max_length: int = 128


class TaggingTask(Task[TaggingOptions]):
    """
    A tag for each word, such as `B-PER`: that of its first token. `f1`, `precision` and `recall` are of whole entities, as
    [`~ftp_hf.tasks.entities.entity_scores`] counts them, `token_accuracy` of words.

    Args:
        model (`str`): Hub name or local folder of the pre-trained model.
        options ([`TaggingOptions`], *optional*): how sentences are read.
        labels (sequence of `str`): the tags, by index.
        label_column (`str`, *optional*, defaults to `"label"`): the column of lists of tags: their names, or indices
            of [`~datasets.ClassLabel`], which has the names.

    Raises:
        ValueError: its tokenizer cannot tell which word a token is of; `max_length` is more than it has places for.
    """

    name = "token-classification"
    metrics = tuple(map(metric_named, ("f1", "precision", "recall", "token_accuracy")))
    options_class = TaggingOptions
    input_columns = ("word_column",)
    has_labels = True
    corruptions = _CORRUPTIONS

    def __init__(self, model: str, options: TaggingOptions | None = None, **about: Any) -> None:
        super().__init__(model, options, **about)
        self.processor = AutoTokenizer.from_pretrained(model)
        if not self.processor.is_fast:
            raise ValueError(f"the tokenizer of {model} is none of the fast ones, which alone know the words of tokens")
        self.options = within_places(self.options, "max_length", model, places_of(model))
        self.collator = DataCollatorForTokenClassification(self.processor)

    def load_model(self, **options: Any) -> PreTrainedModel:
        """The pre-trained model with a head for the tags; `options` go to `from_pretrained`."""
        return load_classifier(AutoModelForTokenClassification, self.model, classifier_options(self.labels), **options)

    def check(self, name: str, dataset: Dataset) -> None:
        """
        Raises:
            ValueError: the data set lacks a column, one holds no lists, a word or a tag is missing, a sentence has not as
                many tags as words, or tags have no names.
        """
        for key, column in (("word_column", self.options.word_column), ("label_column", self.label_column)):
            check_column(name, dataset, column, key)
            if not is_listed(dataset, column):
                raise ValueError(f"the column {column!r} of {name} must hold lists, not {dataset.features[column]}")
            check_filled(name, dataset, column)
        if self.labels and all(tag.isdecimal() for tag in self.labels):
            raise ValueError(
                f"the tags of {name} are numbers, which do not say what is an entity and what is outside of all: write "
                f"their names in {self.label_column!r}, such as 'B-PER' and 'O', or give them names with ClassLabel"
            )
        rows = zip(dataset[self.options.word_column], dataset[self.label_column], strict=True)
        for index, (words, tags) in enumerate(rows):
            if len(words) != len(tags):
                raise RowError(index, f"{name} has {len(words)} words, but {len(tags)} tags")

    def arguments(self) -> dict[str, Any]:
        """As of [`Task`]; the loss is that of [`loss_of_labels`]."""
        return {**super().arguments(), "include_for_metrics": ["loss"]}

    def prepare(
        self, dataset: Dataset, *, augment: bool = False, corrupt: Callable[[str], str] | None = None
    ) -> Dataset:
        """
        As of [`Task`]: tokens, and labels of which all but those of first tokens are ignored; sentences have no augmentation,
        and are corrupted a word a line.
        """
        del augment

        def encode(batch: dict[str, Any]) -> dict[str, Any]:
            sentences = batch[self.options.word_column]
            if corrupt is not None:
                sentences = [_corrupted(words, corrupt) for words in sentences]
            encoding = self.processor(
                [_spaced(words) for words in sentences],
                is_split_into_words=True,
                truncation=True,
                max_length=self.options.max_length,
            )
            tags = batch[self.label_column]
            return {**encoding, "labels": [_labels(encoding.word_ids(row), tags[row]) for row in range(len(tags))]}

        return dataset.map(encode, batched=True, remove_columns=dataset.column_names, desc="Tokenizing")

    def trainer_options(self, model: nn.Module) -> dict[str, Any]:
        """As of [`Task`]; the Trainer keeps the tags that are answered, not the logits of all of them."""
        return {**super().trainer_options(model), "preprocess_logits_for_metrics": _answers}

    def compute_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        """
        As [`entity_scores`], `"token_accuracy"`, and as [`loss_of_labels`], of words. Predictions are tags (rows, tokens), or
        logits (rows, tokens, tags), and labels (rows, tokens).
        """
        answers, labels = _answered(prediction)
        counted = labels != IGNORED_LABEL
        accuracy = float((answers == labels)[counted].mean()) if counted.any() else 0.0
        loss = loss_of_labels(prediction, counted.sum(axis=1))
        return {**entity_scores(*self._named(answers, labels)), "token_accuracy": accuracy, **loss}

    def by_class(self, prediction: EvalPrediction) -> Mapping[str, Mapping[str, float]]:
        """The F1 of each type of entity that occurs."""
        return {"f1": type_scores(*self._named(*_answered(prediction)))}

    def _named(self, answers: NDArray[np.int64], labels: NDArray[np.int64]) -> list[list[list[str]]]:
        """The tags of the words of each sentence, answered and right ones."""
        counted = labels != IGNORED_LABEL
        return [
            [[self.labels[tag] for tag in tags[of_word]] for tags, of_word in zip(rows, counted, strict=True)]
            for rows in (answers, labels)
        ]


def _answered(prediction: EvalPrediction) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    given, labels = np.asarray(prediction.predictions), np.asarray(prediction.label_ids)
    return given.argmax(axis=-1) if given.ndim > labels.ndim else given, labels


def _answers(outputs: Tensor | tuple[Any, ...], labels: Tensor) -> Tensor:
    return logits_alone(outputs, labels).argmax(dim=-1)


def _spaced(words: list[str]) -> list[str]:
    """With the spaces of a text: byte-level tokenizers know by them where words begin, and others pass over them."""
    return [*words[:1], *(f" {word}" for word in words[1:])]


def _labels(words: list[int | None], tags: list[int]) -> list[int]:
    """Of each token: the tag of its word at the first of it, elsewhere and at special tokens `-100`."""
    return [
        IGNORED_LABEL if word is None or word in words[max(0, index - 1) : index] else tags[word]
        for index, word in enumerate(words)
    ]


def _corrupted(words: list[str], corrupt: Callable[[str], str]) -> list[str]:
    """The sentence as a whole: how much of it is damaged is a share of its letters. What is left empty stays as it was."""
    lines = [word.replace(_GAP, " ") for word in words]
    changed = corrupt(_GAP.join(lines)).split(_GAP) if words else []
    return [after if after.strip() else before for after, before in zip(changed, words, strict=True)]
