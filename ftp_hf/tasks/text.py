"""Text classification: a pre-trained encoder with a head for the labels, and tokens for it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from datasets import Dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, PreTrainedModel

from ftp_hf.common.documented import with_help
from ftp_hf.corruptions import TEXT_CORRUPTIONS

from .classifier import ClassificationTask, load_classifier
from .positions import places_of, within_places
from .row_checks import check_texts

__all__ = ["TextOptions", "TextTask"]


@with_help
@dataclass
class TextOptions:
    """
    Args:
        text_columns (`list[str]`, *optional*, defaults to `["text"]`): what the column of texts may be called; each
            data set must have one of them.
        max_length (`int`, *optional*, defaults to 128): longer texts are cut, in tokens; no more than the model has places
            for.
    """

    text_columns: list[str] = field(default_factory=lambda: ["text"])
    max_length: int = 128


class TextTask(ClassificationTask[TextOptions]):
    """
    Classes of texts.

    Args:
        model (`str`): Hub name or local folder of the pre-trained model.
        options ([`TextOptions`], *optional*): how texts are read.
        labels (sequence of `str`): the names of the classes, by index.
        label_column (`str`, *optional*, defaults to `"label"`): the column of class indices.

    Raises:
        ValueError: `max_length` is more than the model has places for.
    """

    name = "text-classification"
    options_class = TextOptions
    input_columns: ClassVar[tuple[str, ...]] = ("text_columns",)
    corruptions = TEXT_CORRUPTIONS

    def __init__(self, model: str, options: TextOptions | None = None, **about: Any) -> None:
        super().__init__(model, options, **about)
        self.processor = AutoTokenizer.from_pretrained(model)
        self.options = within_places(self.options, "max_length", model, places_of(model))
        if self.processor.pad_token is None:
            self.processor.pad_token = self.processor.eos_token
        self.collator = DataCollatorWithPadding(self.processor)

    def load_model(self, **options: Any) -> PreTrainedModel:
        """The pre-trained model with a head for the labels; `options` go to `from_pretrained`."""
        model = load_classifier(AutoModelForSequenceClassification, self.model, self.head_options(), **options)
        config: Any = model.config.get_text_config()
        # By which decoders find the last token of a text.
        if config.pad_token_id is None:
            config.pad_token_id = self.processor.pad_token_id
        return model

    def check(self, name: str, dataset: Dataset) -> None:
        """
        Raises:
            ValueError: the data set has none of the columns of texts, or several; a row has no text; the label column
                holds lists.
        """
        for column in self.columns(dataset, name):
            check_texts(name, dataset, column)
        super().check(name, dataset)

    def prepare(
        self, dataset: Dataset, *, augment: bool = False, corrupt: Callable[[str], str] | None = None
    ) -> Dataset:
        """As of [`Task`]: tokens and labels; texts have no augmentation."""
        del augment
        columns = self.columns(dataset, "a data set")

        def encode(batch: dict[str, Any]) -> dict[str, Any]:
            texts = [batch[column] for column in columns]
            if corrupt is not None:
                texts = [[corrupt(text) for text in column] for column in texts]
            encoding = self.processor(*texts, truncation=True, max_length=self.options.max_length)
            return {**encoding, "label": self.targets(batch[self.label_column])}

        # Alone, because `map` gives what it makes the type that another column of that name had.
        read = dataset.select_columns([*columns, self.label_column])
        return read.map(encode, batched=True, remove_columns=read.column_names, desc="Tokenizing")

    def columns(self, dataset: Dataset, name: str) -> list[str]:
        """
        The columns that the tokenizer reads.

        Args:
            dataset (`Dataset`): as it was loaded.
            name (`str`): of it, for the error.

        Raises:
            ValueError: it has none of them, or several.
        """
        found = [column for column in self.options.text_columns if column in dataset.column_names]
        if len(found) != 1:
            raise ValueError(
                f"expected one text column of {self.options.text_columns} in {name} with the columns "
                f"{dataset.column_names}: name it in text_columns"
            )
        return found
