"""Similarity of sentences: an embedding model of sentence-transformers, fine-tuned on pairs with scores."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from datasets import Dataset
from scipy.stats import pearsonr, spearmanr
from torch import Tensor, nn
from transformers import EvalPrediction, Trainer, TrainingArguments

from ftp_hf.common.documented import with_help
from ftp_hf.common.figures import metric_named
from ftp_hf.corruptions import TEXT_CORRUPTIONS

from .positions import places_in, within_places
from .row_checks import check_numbers, check_texts
from .task import Task

try:
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
except ImportError as error:
    raise ImportError(
        'the task "sentence-similarity" trains with sentence-transformers: pip install "ftp-hf[embeddings]"'
    ) from error

__all__ = ["SimilarityOptions", "SimilarityTask", "SimilarityTrainer"]

_FIRST, _SECOND, _SCORE = "sentence1", "sentence2", "score"


@with_help
@dataclass
class SimilarityOptions:
    """
    Args:
        sentence_columns (`list[str]`, *optional*, defaults to `["sentence1", "sentence2"]`): the two columns of sentences.
        score_column (`str`, *optional*, defaults to `"score"`): the column of how similar they are, on any scale.
        max_length (`int`, *optional*, defaults to 128): longer sentences are cut, in tokens.
    """

    sentence_columns: list[str] = field(default_factory=lambda: [_FIRST, _SECOND])
    score_column: str = _SCORE
    max_length: int = 128


class SimilarityTrainer(SentenceTransformerTrainer):  # type: ignore[misc] # of no known type
    """`SentenceTransformerTrainer`, whose predictions are the cosines of pairs of embeddings, with their scores."""

    def __init__(
        self, *args: Any, compute_metrics: Callable[[EvalPrediction], dict[str, float]] | None = None, **options: Any
    ) -> None:
        super().__init__(*args, **options)
        # Not handed on: it would be warned of, because sentence-transformers predicts nothing that could be measured.
        self.compute_metrics = compute_metrics

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[None, Tensor, Tensor]:
        """As that of `Trainer`: no loss, cosines (rows,) and scores (rows,)."""
        del prediction_loss_only, ignore_keys
        features, scores = self.collect_features(self._prepare_inputs(inputs))
        with torch.no_grad(), self.compute_loss_context_manager():
            first, second = (model(dict(feature))["sentence_embedding"].float() for feature in features)
        return None, nn.functional.cosine_similarity(first, second), scores

    def _load_from_checkpoint(self, checkpoint_path: str) -> None:
        # That of sentence-transformers knows no adapter, and a best model that it cannot load is the last one.
        if (Path(checkpoint_path) / "adapter_config.json").is_file():
            Trainer._load_from_checkpoint(self, checkpoint_path)
        else:
            super()._load_from_checkpoint(checkpoint_path)


class SimilarityTask(Task[SimilarityOptions]):
    """
    How similar two sentences are. Models are trained with `CoSENTLoss`, which asks for the right order of the pairs of a
    batch: scores may have any scale. OOD and retained sets have the same columns.

    Args:
        model (`str`): Hub name or local folder of the pre-trained model, of sentence-transformers or of transformers.
        options ([`SimilarityOptions`], *optional*): how pairs are read.

    Raises:
        ValueError: `max_length` is more than the model has places for.
    """

    name = "sentence-similarity"
    metrics = (metric_named("spearman"), metric_named("pearson"))
    options_class = SimilarityOptions
    input_columns = ("sentence_columns",)
    has_logits = False
    corruptions = TEXT_CORRUPTIONS
    trainer_class: ClassVar[type[Trainer]] = SimilarityTrainer
    arguments_class: ClassVar[type[TrainingArguments]] = SentenceTransformerTrainingArguments

    def __init__(self, model: str, options: SimilarityOptions | None = None, **about: Any) -> None:
        super().__init__(model, options, **about)
        self._encoder = self.load_model().cpu()
        encoder = self._encoder.transformers_model  # none where words have vectors of their own alone
        self.options = within_places(self.options, "max_length", model, encoder and places_in(encoder))
        self._encoder.max_seq_length = self.options.max_length
        self.processor, self.collator = self._encoder.tokenizer, self._features

    def load_model(self, **options: Any) -> SentenceTransformer:
        """The pre-trained model; `options` go to the `from_pretrained` of its encoder."""
        model = SentenceTransformer(self.model, model_kwargs=options)
        model.max_seq_length = self.options.max_length
        # Of the library's own card, which ours replaces: it would embed some of the data each time that a Trainer is made.
        model.model_card_data.generate_widget_examples = False
        model.model_card_data.widget = [{"text": "A man plays a guitar."}]
        return model

    def check(self, name: str, dataset: Dataset) -> None:
        """
        Raises:
            ValueError: the data set lacks a column of sentences, or that of scores; it has a single row; a row has no
                sentence, or no finite score.
        """
        expected = [*self.options.sentence_columns, self.options.score_column]
        if len(expected) != 3 or not {*expected} <= {*dataset.column_names}:
            raise ValueError(
                f"expected two columns of sentences and one of scores, {expected}, in {name} with the columns "
                f"{dataset.column_names}: name them in sentence_columns and score_column"
            )
        if len(dataset) < 2:
            raise ValueError(
                f"{name} has a single row, and a correlation takes two: add rows, or leave the data set out"
            )
        for column in self.options.sentence_columns:
            check_texts(name, dataset, column)
        check_numbers(name, dataset, self.options.score_column)

    def prepare(
        self, dataset: Dataset, *, augment: bool = False, corrupt: Callable[[str], str] | None = None
    ) -> Dataset:
        """As of [`Task`]: `sentence1`, `sentence2` and `score`; sentences have no augmentation."""
        del augment
        first, second = ([*map(corrupt or str, dataset[column])] for column in self.options.sentence_columns)
        scores = [*map(float, dataset[self.options.score_column])]
        return Dataset.from_dict({_FIRST: first, _SECOND: second, _SCORE: scores})

    def compute_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        """
        The correlation of cosines and scores: of their ranks, and of themselves. Both are 0 where all of either are equal, and NaN
        where a cosine is not finite.
        """
        cosines, scores = prediction.predictions, prediction.label_ids
        if not np.isfinite(cosines).all():  # which pearsonr refuses before scipy 1.14
            return {"spearman": np.nan, "pearson": np.nan}
        if np.ptp(cosines) == 0 or np.ptp(scores) == 0:
            return {"spearman": 0.0, "pearson": 0.0}
        return {
            "spearman": float(spearmanr(cosines, scores).statistic),
            "pearson": float(pearsonr(cosines, scores).statistic),
        }

    def measured_on(self, dataset: Dataset) -> list[str]:
        """The metrics alone, on any data set."""
        del dataset
        return [metric.name for metric in self.metrics]

    def trainer_options(self, model: nn.Module) -> dict[str, Any]:  # noqa: ARG002
        """The metrics; by default the Trainer collates with what the model has for it, and has `CoSENTLoss`."""
        return {"compute_metrics": self.compute_metrics}

    def hidden(self, model: nn.Module, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """As of [`Task`]: embeddings (sentences, width), all of which count (sentences,)."""
        embeddings: Tensor = model(dict(batch))["sentence_embedding"]
        return embeddings, torch.ones(len(embeddings), dtype=torch.bool, device=embeddings.device)

    def _features(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        """The tokens of all sentences of some rows."""
        features = self._encoder.preprocess([row[column] for row in rows for column in (_FIRST, _SECOND)])
        return {name: value for name, value in features.items() if isinstance(value, Tensor)}
