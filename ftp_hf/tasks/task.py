"""What a task is: all that a comparison, an example or a card has to know of what a model is trained to do."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import EvalPrediction, Trainer, TrainingArguments

from ftp_hf.common.figures import Metric, check_possible
from ftp_hf.common.labels import IGNORED_LABEL

from .model_folder import check_model_folder

__all__ = ["NoOptions", "Task", "logits_alone", "longest_first", "loss_of_labels", "says_of_itself"]

Options = TypeVar("Options")


@dataclass
class NoOptions:
    """Of a task that has none."""


class Task(Generic[Options]):
    """
    A task: what loads the model and the processor, how a batch is made, which Trainer trains it, and what is measured.

    A subclass says in its attributes what it is, and overrides what is different for it. It needs a processor and a
    collator, [`load_model`] and [`prepare`]; docs/tasks.md writes one in 60 lines.

    Args:
        model (`str`): Hub name or local folder of the pre-trained model.
        options (*optional*): an instance of `options_class`: how data are read. By default one with its defaults.
        labels (sequence of `str`, *optional*): the names of the classes, by index, of a task that has such.
        label_column (`str`, *optional*, defaults to `"label"`): the column of class indices, or of lists of them, likewise.

    Attributes:
        name (`str`): as the Hub's pipelines call it, such as `"automatic-speech-recognition"`.
        metrics (tuple of [`Metric`]): what [`compute_metrics`] and [`measure`] return; the first is the one that settings
            are chosen by unless a config names another.
        options_class (`type`): a dataclass whose fields are keys of a config and flags of an example.
        input_columns (tuple of `str`): those of its options that name the columns which models read, by which rows of the training
            data are found again in other sets. Without them, none are looked for.
        has_labels (`bool`): whether each row has a class index, or a list of them, and all data sets one label space.
        has_logits (`bool`): whether models answer with logits, in which the function distance is measured; if not, it is
            measured in what [`hidden`] returns.
        file_columns (tuple of `str`): the options that name columns of files, such as `"image_column"`: a comparison does not go on
            when files have changed that a table names by their paths.
        corruptions (tuple of `str`): the kinds of [`ftp_hf.corruptions`] that its data can be corrupted by.
        trainer_class, arguments_class (`type`): what trains it, and takes its arguments. The methods are mixed into it.
        processor, collator: of the model, which is saved with the processor.

    Raises:
        FileNotFoundError: `model` is a path without a model.
    """

    name: ClassVar[str]
    metrics: ClassVar[tuple[Metric, ...]]
    options_class: ClassVar[type[Any]] = NoOptions
    input_columns: ClassVar[tuple[str, ...]] = ()
    has_labels: ClassVar[bool] = False
    has_logits: ClassVar[bool] = True
    file_columns: ClassVar[tuple[str, ...]] = ()
    corruptions: ClassVar[tuple[str, ...]] = ()
    trainer_class: ClassVar[type[Trainer]] = Trainer
    arguments_class: ClassVar[type[TrainingArguments]] = TrainingArguments

    processor: Any = None
    collator: Any = None

    def __init__(
        self,
        model: str,
        options: Options | None = None,
        *,
        labels: Sequence[str] = (),
        label_column: str = "label",
    ) -> None:
        check_model_folder(model)
        self.model, self.labels, self.label_column = model, list(labels), label_column
        self.options: Options = self.options_class() if options is None else options

    @property
    def augments(self) -> bool:
        """
        Whether a row that is prepared for training may differ each time it is read. If not, a comparison prepares it once. A
        class that overrides [`prepare`] has to override this too: what it inherits describes another method.
        """
        return True

    def load_model(self, **options: Any) -> nn.Module:
        """
        The pre-trained model, as training starts from it.

        Args:
            **options: for `from_pretrained`, such as `dtype`.
        """
        raise NotImplementedError

    def check(self, name: str, dataset: Dataset) -> None:
        """
        Raise `ValueError` for a data set that cannot be read, before anything is trained.

        Args:
            name (`str`): of the data set, for the error.
            dataset (`Dataset`): as it was loaded.
        """

    def check_training(self, name: str, dataset: Dataset) -> None:
        """
        As [`check`], for training data, which must contain all that is to be learnt, such as every class.

        Args:
            name (`str`): of the data set, for the error.
            dataset (`Dataset`): as it was loaded.
        """
        self.check(name, dataset)

    def prepare(
        self, dataset: Dataset, *, augment: bool = False, corrupt: Callable[[Any], Any] | None = None
    ) -> Dataset:
        """
        A data set as the Trainer takes it.

        Args:
            dataset (`Dataset`): as it was loaded.
            augment (`bool`, *optional*, defaults to `False`): for training.
            corrupt (callable, *optional*): changes each text, image or sound first; of a task that has `corruptions`.
        """
        raise NotImplementedError

    def compute_metrics(self, prediction: Any) -> Mapping[str, Any]:
        """
        The figures of a prediction, for `Trainer(compute_metrics=…)`; the loss is measured without it.

        Args:
            prediction (`EvalPrediction`): of all rows.
        """
        del prediction
        return {}

    def by_class(self, prediction: Any) -> Mapping[str, Mapping[str, float]]:
        """
        Figures per class of a prediction, such as their recall. Not used of a task that overrides [`compute_metrics`] alone, whose
        answers may mean something else.

        Args:
            prediction (`EvalPrediction`): of all rows, as [`compute_metrics`] takes it.

        Returns:
            mapping: what is measured, a share such as `"recall"` → class → value, of the classes that occur.
        """
        del prediction
        return {}

    def arguments(self) -> dict[str, Any]:
        """
        Arguments of `arguments_class` that the task decides, such as `predict_with_generate`. By default losses are means over
        the rows of each process: `average_tokens_across_devices` multiplies them, and their gradients, by the number of
        processes unless the model divides by the tokens of all of them, as language models do (transformers up to 5.23).
        """
        own = {"remove_unused_columns": False} if self.file_columns else {}  # made of columns that no model takes
        return {"average_tokens_across_devices": False, **own}

    def trainer_options(self, model: nn.Module) -> dict[str, Any]:  # noqa: ARG002
        """
        Arguments of `trainer_class` beside the model, its arguments and its data.

        Args:
            model (`nn.Module`): that it trains, for what is made of it, such as a loss.
        """
        return {
            "data_collator": self.collator,
            "processing_class": self.processor,
            "compute_metrics": self.compute_metrics,
        }

    def measure(
        self, trainer: Trainer, dataset: Dataset, *, corrupt: Callable[[Any], Any] | None = None
    ) -> Mapping[str, Any]:
        """
        The figures of a model on a data set, texts of similar length together. A task that tests retained data in another way
        than new ones overrides it.

        Args:
            trainer (`Trainer`): of `trainer_class`, with the model.
            dataset (`Dataset`): as it was loaded.
            corrupt (callable, *optional*): as for [`prepare`].

        Returns:
            mapping from `str`: as of `Trainer.evaluate`, with the prefix `eval_`.
        """
        return trainer.evaluate(longest_first(self.prepare(dataset, corrupt=corrupt)))

    def check_measured(self, measured: Mapping[str, Any], where: str) -> None:
        """
        Raise `ValueError` for figures that its `metrics` cannot have, as [`check_possible`] says.

        Args:
            measured (mapping from `str`): as [`measure`] returns them.
            where (`str`): the run and the data, for the error.
        """
        found = {metric.name: measured.get(f"eval_{metric.name}") for metric in self.metrics}
        check_possible({name: float(value) for name, value in found.items() if isinstance(value, Real)}, where)

    def measured_on(self, dataset: Dataset) -> Sequence[str]:
        """
        What [`measure`] returns on a data set, so that a rule about anything else is refused before training: `metrics`, and
        the loss. A class that measures some data sets in another way overrides it as well.

        Args:
            dataset (`Dataset`): as it was loaded.
        """
        del dataset
        return [*(metric.name for metric in self.metrics if metric.name != "loss"), "loss"]

    def batches(self, dataset: Dataset, size: int) -> list[Mapping[str, Tensor]]:
        """
        A data set as inputs of the model; where there is more than one row to a batch, texts of similar length together, the
        longest first.

        Args:
            dataset (`Dataset`): as it was loaded.
            size (`int`): rows of a batch.
        """
        prepared = self.prepare(dataset)
        if size > 1:
            prepared = longest_first(prepared)
        rows = [prepared[row] for row in range(len(prepared))]
        return [self.collator(rows[start : start + size]) for start in range(0, len(rows), size)]

    def logits(self, model: nn.Module, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """
        What a model answers, for [`function_distance`], where it can be compared with what another one answers.

        Args:
            model (`nn.Module`): in evaluation mode.
            batch (mapping from `str` to `Tensor`): one of [`batches`].

        Returns:
            `tuple[Tensor, Tensor]`: logits (…, classes), and which of them count (…).
        """
        logits = model(**batch).logits
        return logits, _counted(logits[..., 0], batch.get("labels"))

    def hidden(self, model: nn.Module, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """
        The last hidden states of a model, for [`function_distance`], where answers cannot be compared because the head is new.

        Args:
            model (`nn.Module`): in evaluation mode.
            batch (mapping from `str` to `Tensor`): one of [`batches`].

        Returns:
            `tuple[Tensor, Tensor]`: states (rows, …, width), and which of them count (rows, …).
        """
        inputs = {name: value for name, value in batch.items() if name not in ("labels", "label")}
        outputs = model(**inputs, output_hidden_states=True)
        states = outputs.hidden_states if outputs.get("hidden_states") is not None else outputs.decoder_hidden_states
        mask = batch.get("attention_mask")
        counted = torch.ones(states[-1].shape[:-1], dtype=torch.bool, device=states[-1].device)
        return states[-1], mask.bool() if mask is not None and mask.shape == counted.shape else counted


def logits_alone(outputs: Tensor | tuple[Any, ...], labels: Tensor | None = None) -> Tensor:
    """
    The logits of what a model answers without the loss, for `Trainer(preprocess_logits_for_metrics=logits_alone)`: an
    encoder-decoder has hidden states after them, as has any model whose config says `output_hidden_states`. Labels are not
    used.
    """
    del labels
    return outputs if isinstance(outputs, Tensor) else outputs[0]


def loss_of_labels(prediction: EvalPrediction, counted: NDArray[np.int64]) -> dict[str, float]:
    """
    The loss of all labels that count, each with the same weight, whatever batches their rows were in, of a model whose loss is
    the mean over the labels of a batch. For `compute_metrics` of a Trainer with `include_for_metrics=["loss"]`, whose own loss
    weighs batches by their rows. Rows that fill up the last batch of several processes are in the mean of that batch.
    `prediction` has the loss of its batch for each row (rows,), `counted` how many labels of each row count (rows,).

    Returns:
        `dict[str, float]`: `"loss"`, NaN if no label counts; empty where losses are not given.
    """
    if prediction.losses is None:
        return {}
    counts = counted > 0  # a batch without labels that count has no loss
    # Seq2SeqTrainer's own loop fills up the last batch.
    losses = np.asarray(prediction.losses[: len(counted)], dtype=np.float64)
    return {"loss": float(np.average(losses[counts], weights=counted[counts])) if counts.any() else np.nan}


def longest_first(prepared: Dataset) -> Dataset:
    """Texts of similar length together, so that little is padded in a batch; any other data as they are."""
    if "input_ids" not in prepared.column_names:
        return prepared
    lengths = [len(tokens) for tokens in prepared["input_ids"]]
    return prepared.select(sorted(range(len(lengths)), key=lambda row: -lengths[row]))


def says_of_itself(kind: type[Task[Any]], name: str, of: str) -> bool:
    """
    Whether the class that last overrode the method `of` (or a subclass of it) also defines `name`, which describes it;
    otherwise the inherited `name` may no longer be true.
    """
    definer = next(each for each in kind.__mro__ if {name, of} & vars(each).keys())
    return definer is not Task and name in vars(definer)


def _counted(of_one_class: Tensor, labels: Tensor | None) -> Tensor:
    if labels is not None and labels.shape == of_one_class.shape and not labels.is_floating_point():
        return labels != IGNORED_LABEL
    return torch.ones_like(of_one_class, dtype=torch.bool)
