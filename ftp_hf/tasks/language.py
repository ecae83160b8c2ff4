"""Supervised fine-tuning of causal language models with TRL's `SFTTrainer`, with loss on the answers alone."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
from datasets import Dataset
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, EvalPrediction, PreTrainedModel, Trainer

from ftp_hf.common.figures import metric_named
from ftp_hf.corruptions import TEXT_CORRUPTIONS

from .generation import exact_match
from .likelihood import (
    DataCollatorForLanguageModeling,
    LikelihoodArguments,
    LikelihoodTrainer,
    choice_accuracy,
    loss_per_token,
    next_token_logits,
)
from .positions import places_of, within_places
from .prompts import (
    CHOICES,
    LanguageOptions,
    check_cells,
    check_choices,
    check_columns,
    check_prompts,
    check_tokens,
    encoded,
    pairs_of,
)
from .task import Task

__all__ = ["LanguageOptions", "LanguageTask"]

_TOKENS = 2048
"""Of a batch whose logits are kept: 400 MB of them, at 50,000 words."""


class LanguageTask(Task[LanguageOptions]):
    """
    Answers to prompts. What else a model is tested on is told by the columns of a data set:

    - `choices` (texts) and the answer column (the index of the right one, from 0): multiple choice, `acc_norm` and `acc` as
      lm-evaluation-harness computes them, of the template's prompt without examples;
    - the prompt and the answer column: the loss of the answers;
    - `instruction`, `input` (may be empty or missing) and `output`: likewise, instruction and input being the prompt;
    - `text`: the loss of all tokens but the first; rows without tokens, such as blank lines, are left out.

    Args:
        model (`str`): Hub name or local folder of the pre-trained model.
        options ([`LanguageOptions`], *optional*): how rows are read.

    Raises:
        ValueError: the template does not end with `{answer}`, or has no `{prompt}`; `max_tokens` is more than the model has
            places for.
    """

    name = "text-generation"
    metrics = (metric_named("loss"),)
    options_class = LanguageOptions
    input_columns = ("prompt_column",)
    corruptions = TEXT_CORRUPTIONS
    trainer_class: ClassVar[type[Trainer]] = LikelihoodTrainer
    arguments_class = LikelihoodArguments

    def __init__(self, model: str, options: LanguageOptions | None = None, **about: Any) -> None:
        super().__init__(model, options, **about)
        template = self.options.template
        if not template.endswith("{answer}") or "{prompt}" not in template:
            raise ValueError(f"template must have {{prompt}} and end with {{answer}}, got {template!r}")
        self.processor = AutoTokenizer.from_pretrained(model)
        self._places = places_of(model)
        self.options = within_places(self.options, "max_tokens", model, self._places)
        if self.processor.pad_token is None:
            self.processor.pad_token = self.processor.eos_token
        self.collator = DataCollatorForLanguageModeling(self.processor.pad_token_id)

    def load_model(self, **options: Any) -> PreTrainedModel:
        """The pre-trained model; `options` go to `from_pretrained`."""
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(self.model, **options)
        return model

    def arguments(self) -> dict[str, Any]:
        """Rows are tokens with labels already: TRL must neither prepare nor cut them."""
        return {"dataset_kwargs": {"skip_prepare_dataset": True}, "max_length": None}

    def check(self, name: str, dataset: Dataset) -> None:
        """
        Raises:
            ValueError: a data set has the columns of none of the forms that there are, a row lacks a text, multiple
                choice has an answer that is not the position of a choice, `max_tokens` leaves nothing that counts, or the
                model has no places for an answer that may be generated.
        """
        self.check_training(name, dataset)
        if self._places is not None and "exact_match" in self.measured_on(dataset):
            check_prompts(name, dataset, self.processor, self.options, self._places)

    def check_training(self, name: str, dataset: Dataset) -> None:
        """As [`check`], of data from which nothing is generated."""
        check_columns(name, dataset.column_names, self.options)
        if CHOICES in dataset.column_names:
            check_choices(name, dataset, self.options)
        check_cells(name, dataset, self.options)
        if CHOICES not in dataset.column_names:
            check_tokens(name, dataset, self.processor, self.options)

    def prepare(
        self, dataset: Dataset, *, augment: bool = False, corrupt: Callable[[str], str] | None = None
    ) -> Dataset:
        """
        As of [`Task`]: tokens (`input_ids`) and what counts of them (`labels`, −100 elsewhere), longest rows first, but for
        training in their order. Of a prompt and its answer, the prompt alone is corrupted.

        Raises:
            ValueError: its rows are multiple choice, of which most answers are wrong.
        """
        if CHOICES in dataset.column_names:
            raise ValueError(
                f"multiple choice ({CHOICES}) tests what is retained; there is no loss to train or choose by"
            )
        rows = self._encoded(dataset, corrupt)
        return rows.sort("place") if augment else rows

    def compute_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        """As [`loss_per_token`]."""
        return loss_per_token(prediction)

    def measure(
        self, trainer: Trainer, dataset: Dataset, *, corrupt: Callable[[str], str] | None = None
    ) -> Mapping[str, Any]:
        """
        What a data set's form says: `eval_acc_norm` and `eval_acc`, or `eval_loss` (and `eval_exact_match`, with
        `generated_answers`, of what follows "####" where answers have that).
        """
        if CHOICES in dataset.column_names:
            rows = self._encoded(dataset, corrupt)
            likelihoods = np.empty(len(rows))
            likelihoods[np.asarray(rows["place"])] = trainer.predict(rows).predictions
            accuracy = choice_accuracy(likelihoods.tolist(), dataset[CHOICES], dataset[self.options.answer_column])
            return {f"eval_{name}": value for name, value in accuracy.items()}
        metrics = trainer.evaluate(self.prepare(dataset, corrupt=corrupt))
        if (count := self.options.generated_answers) and self.options.answer_column in dataset.column_names:
            rows = dataset.select(range(min(count, len(dataset))))
            pairs = [pair for row in rows for pair in pairs_of(row, self.options, corrupt)]
            metrics["eval_exact_match"] = exact_match(trainer, self.processor, pairs, self.options.max_new_tokens)
        return metrics

    def measured_on(self, dataset: Dataset) -> list[str]:
        """As [`measure`] says."""
        if CHOICES in dataset.column_names:
            return ["acc_norm", "acc"]
        has_answers = self.options.generated_answers and self.options.answer_column in dataset.column_names
        return ["loss", "exact_match"] if has_answers else ["loss"]

    def batches(self, dataset: Dataset, size: int) -> list[Mapping[str, Tensor]]:
        """As those of any task, but of no more tokens than their logits have room; of multiple choice each choice is a row."""
        rows = list(self._encoded(dataset))
        size = min(size, max(1, _TOKENS // len(rows[0]["input_ids"])))
        return [self.collator(rows[start : start + size]) for start in range(0, len(rows), size)]

    def logits(self, model: nn.Module, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """As [`next_token_logits`]: a token's label is answered at the token before."""
        return next_token_logits(model, batch)

    def _encoded(self, dataset: Dataset, corrupt: Callable[[str], str] | None = None) -> Dataset:
        return encoded(dataset, self.processor, self.options, corrupt)
