"""Speech recognition: a pre-trained recogniser that writes what it hears, such as Whisper, and its word errors."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    AutoConfig,
    AutoModelForSpeechSeq2Seq,
    AutoProcessor,
    EvalPrediction,
    PreTrainedModel,
    Seq2SeqTrainingArguments,
)
from transformers.models.whisper.english_normalizer import BasicTextNormalizer

from ftp_hf.common.documented import with_help
from ftp_hf.common.figures import metric_named
from ftp_hf.common.labels import IGNORED_LABEL

from .row_checks import RowError, check_column
from .sounds import Others, SoundOptions, Sounds, SoundTask
from .task import loss_of_labels
from .whisper_windows import SpeechTrainer, freeze_positions

__all__ = ["SpeechOptions", "SpeechTask", "word_errors"]


@with_help
@dataclass
class SpeechOptions(SoundOptions):
    """
    Args:
        audio_column, max_seconds: as in [`SoundOptions`].
        text_column (`str`, *optional*, defaults to `"text"`): the column of transcripts.
        language (`str`, *optional*): the language that is spoken, such as `"german"`, for a recogniser of many languages. By
            default it finds out by itself.
    """

    text_column: str = "text"
    language: str | None = None


class SpeechTask(SoundTask[SpeechOptions]):
    """
    The words that are said. All data sets, the retained ones too, have a column of sounds and one of texts, and each is
    heard in windows of its own length.

    Answers are generated greedily and compared with the texts in lower case, without punctuation, symbols and what stands in
    brackets (`BasicTextNormalizer`, of Whisper's authors), but with the marks that belong to letters, such as the vowel signs of
    Hindi and Thai.

    Args:
        model (`str`): Hub name or local folder of the pre-trained model, of `AutoModelForSpeechSeq2Seq`.
        options ([`SpeechOptions`], *optional*): how sounds and texts are read.

    Raises:
        ValueError: `max_seconds` is given for a model without windows.
    """

    name = "automatic-speech-recognition"
    metrics = tuple(metric_named(name) for name in ("wer", "exact_match", "cer"))
    options_class = SpeechOptions
    trainer_class = SpeechTrainer
    arguments_class = Seq2SeqTrainingArguments

    def __init__(self, model: str, options: SpeechOptions | None = None, **about: Any) -> None:
        super().__init__(model, options, **about)
        language = self.options.language
        self._spoken = {} if language is None else {"language": language, "task": "transcribe"}
        self.processor = AutoProcessor.from_pretrained(model, **self._spoken)  # type: ignore[no-untyped-call]
        self.sounds = Sounds(self.processor.feature_extractor, self.options)
        config = AutoConfig.from_pretrained(model)
        self._start, self._longest = config.decoder_start_token_id, getattr(config, "max_target_positions", None)

    def arguments(self) -> dict[str, Any]:
        """What is measured is generated; the loss is that of [`loss_of_labels`]."""
        generated = {"predict_with_generate": True, "generation_num_beams": 1}
        return {**super().arguments(), **generated, "include_for_metrics": ["loss"]}

    def load_model(self, **options: Any) -> PreTrainedModel:
        """The pre-trained recogniser; `options` go to `from_pretrained`."""
        model: PreTrainedModel = AutoModelForSpeechSeq2Seq.from_pretrained(self.model, **options)
        freeze_positions(model)
        for name, value in self._spoken.items():
            setattr(model.generation_config, name, value)
        return model

    def check(self, name: str, dataset: Dataset) -> None:
        """
        Raises:
            ValueError: the data set lacks a column; a row is no sound, says nothing, or is longer than what
                the model can hear or write.
        """
        self.sounds.check(name, dataset)
        column = self.options.text_column
        check_column(name, dataset, column, "text_column")
        for row, text in enumerate(dataset[column]):
            if not isinstance(text, str) or not _normalized(text):
                raise RowError(row, f"{name} has no words in {column!r}, but {text!r}: leave it out")
            if self._longest is not None and (length := len(self._tokens([text])[0])) > self._longest:
                raise RowError(
                    row, f"{name} has {length} tokens in {column!r}, but the model writes {self._longest} at most"
                )

    def readable(self, dataset: Dataset) -> tuple[Dataset, Others]:
        """The texts as tokens. They are made here: a data set is known by what makes its rows, which takes seconds of a tokenizer."""
        tokens = self._tokens(list(dataset[self.options.text_column]))
        return dataset.select_columns([self.options.audio_column]).add_column("labels", tokens), _labels_of

    def collator(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """A batch of prepared rows; labels are padded with what no loss counts."""
        labels = [torch.tensor(row["labels"]) for row in rows]
        return {**self.sounds.pad(rows), "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORED_LABEL)}

    def compute_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        """As [`word_errors`] and [`loss_of_labels`], of generated tokens (rows, length) and labels (rows, length)."""
        tokenizer = self.processor.tokenizer
        texts, answers = (
            tokenizer.batch_decode(
                np.where(tokens == IGNORED_LABEL, tokenizer.pad_token_id, tokens), skip_special_tokens=True
            )
            for tokens in (prediction.label_ids, prediction.predictions)
        )
        # Up to their end: after it the Trainer pads with tokens.
        lengths = (prediction.label_ids == tokenizer.eos_token_id).argmax(axis=1) + 1
        return {**word_errors(texts, answers), **loss_of_labels(prediction, lengths)}

    def _tokens(self, texts: list[str]) -> list[list[int]]:
        """Without the token that the model puts before them itself, and with the one that they end with."""
        end = self.processor.tokenizer.eos_token_id
        return [
            [*tokens[tokens[:1] == [self._start] :], *([end] if tokens[-1:] != [end] else [])]
            for tokens in self.processor.tokenizer(texts).input_ids
        ]


def word_errors(texts: Sequence[str], answers: Sequence[str]) -> dict[str, float]:
    """
    How far answers are from the texts that were said, both normalised as [`SpeechTask`] says.

    Returns:
        `dict[str, float]`: `"wer"` and `"cer"`, the words (letters) that are missing, wrong or added, as shares of those of
            all texts, which may be above 1; and `"exact_match"`, the share of the texts that were understood entirely.

    Raises:
        ImportError: jiwer is missing.
    """
    try:
        import jiwer  # noqa: PLC0415 - only recognisers need it
    except ImportError as error:
        raise ImportError('word errors are counted with jiwer: pip install "ftp-hf[speech]"') from error
    said, understood = ([_normalized(text) for text in several] for several in (texts, answers))
    return {
        "wer": float(jiwer.wer(said, understood)),
        "exact_match": float(np.mean([text == answer for text, answer in zip(said, understood, strict=True)])),
        "cer": float(jiwer.cer(said, understood)),
    }


def _labels_of(batch: Mapping[str, Any]) -> dict[str, Any]:
    return {"labels": batch["labels"]}


def _without_symbols(s: str) -> str:
    kept = list[str]()
    for character in unicodedata.normalize("NFKC", s):
        kind = unicodedata.category(character)[0]
        is_of_letter = kind == "M" and kept and unicodedata.category(kept[-1])[0] in "LMC"  # or of what joins letters
        kept.append(character if is_of_letter or kind not in "MSP" else " ")
    return "".join(kept)


_NORMALIZER = BasicTextNormalizer()
_NORMALIZER.clean = _without_symbols  # its own cuts the words of Hindi, Tamil and Thai at their vowel signs


def _normalized(text: str) -> str:
    return str(_NORMALIZER(text)).strip()
