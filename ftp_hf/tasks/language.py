"""Supervised fine-tuning of causal language models with TRL's `SFTTrainer`, with loss on the answers alone."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from datasets import Dataset
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, EvalPrediction, PreTrainedModel, Trainer

from ftp_hf.common.figures import metric_named
from ftp_hf.corruptions import TEXT_CORRUPTIONS

from .classifier import check_model_folder
from .generation import exact_match
from .likelihood import (
    DataCollatorForLanguageModeling,
    LikelihoodTrainer,
    SFTConfig,
    choice_accuracy,
    loss_per_token,
    next_token_logits,
)
from .task import Task

__all__ = ["LanguageOptions", "LanguageTask"]

_CHOICES, _INSTRUCTION, _OUTPUT, _TEXT = "choices", "instruction", "output", "text"
_IGNORED = -100


@dataclass
class LanguageOptions:
    r"""
    Args:
        prompt_column, answer_column (`str`, *optional*, default to `"question"` and `"answer"`): the columns of what is
            given and of what is to be said.
        template (`str`, *optional*, defaults to `"Question: {prompt}\nAnswer: {answer}"`): what a row looks like to the
            model; it ends with `{answer}`.
        remove_from_answers (`str`, *optional*): a regular expression; what it matches is removed from answers, such as
            `<<.*?>>`, the calculator marks of GSM8K.
        max_tokens (`int`, *optional*, defaults to 512): longer rows are cut at their end, in tokens; the question of a
            multiple choice at its start.
        generated_answers (`int`, *optional*, defaults to 0): for `exact_match`, generate the answers of so many rows of
            each test set.
        max_new_tokens (`int`, *optional*, defaults to 256): of a generated answer.
    """

    prompt_column: str = field(default="question", metadata={"help": "The column of what is given."})
    answer_column: str = field(default="answer", metadata={"help": "The column of what is to be said."})
    template: str = field(
        default="Question: {prompt}\nAnswer: {answer}",
        metadata={"help": "What a row looks like to the model; it ends with {answer}."},
    )
    remove_from_answers: str | None = field(
        default=None, metadata={"help": "A regular expression; what it matches is removed from answers."}
    )
    max_tokens: int = field(default=512, metadata={"help": "Longer rows are cut, in tokens."})
    generated_answers: int = field(
        default=0,
        metadata={"help": "For exact_match, generate the answers of so many rows of each test set."},
    )
    max_new_tokens: int = field(default=256, metadata={"help": "Of a generated answer."})


class LanguageTask(Task[LanguageOptions]):
    """
    Answers to prompts. What else a model is tested on is told by the columns of a data set:

    - `choices` (texts) and the answer column (the index of the right one): multiple choice, `acc_norm` and `acc` as
      lm-evaluation-harness computes them, of the template's prompt without examples;
    - the prompt and the answer column: the loss of the answers;
    - `instruction`, `input` (may be empty or missing) and `output`: likewise, instruction and input being the prompt;
    - `text`: the loss of all tokens but the first.

    Args:
        model (`str`): Hub name or local folder of the pre-trained model.
        options ([`LanguageOptions`], *optional*): how rows are read.

    Raises:
        FileNotFoundError: `model` is a path without a model.
        ValueError: the template does not end with `{answer}`, or has no `{prompt}`.
    """

    name = "text-generation"
    metrics = (metric_named("loss"),)
    options_class = LanguageOptions
    corruptions = TEXT_CORRUPTIONS
    trainer_class: ClassVar[type[Trainer]] = LikelihoodTrainer
    arguments_class = SFTConfig

    def __init__(self, model: str, options: LanguageOptions | None = None, **about: Any) -> None:
        super().__init__(model, options, **about)
        check_model_folder(model)
        template = self.options.template
        if not template.endswith("{answer}") or "{prompt}" not in template:
            raise ValueError(f"template must have {{prompt}} and end with {{answer}}, got {template!r}")
        self.processor = AutoTokenizer.from_pretrained(model)
        if self.processor.pad_token is None:
            self.processor.pad_token = self.processor.eos_token
        self.collator = DataCollatorForLanguageModeling(self.processor.pad_token_id)

    def load_model(self, **options: Any) -> PreTrainedModel:
        """The pre-trained model; `options` go to `from_pretrained`."""
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(self.model, **options)
        return model

    def arguments(self) -> dict[str, Any]:
        """Rows come as tokens, with their labels: TRL shall neither prepare nor cut them."""
        return {"dataset_kwargs": {"skip_prepare_dataset": True}, "max_length": None}

    def check(self, name: str, dataset: Dataset) -> None:
        """
        Raises:
            ValueError: a data set has the columns of none of the forms that there are.
        """
        columns, own = set(dataset.column_names), (self.options.prompt_column, self.options.answer_column)
        if not ({*own} <= columns or {_INSTRUCTION, _OUTPUT} <= columns or _TEXT in columns):
            raise ValueError(
                f"{name} has the columns {dataset.column_names}; expected {' and '.join(own)} (see prompt_column and "
                f"answer_column), with {_CHOICES} or without, {_INSTRUCTION} and {_OUTPUT}, or {_TEXT}"
            )

    def prepare(
        self, dataset: Dataset, *, augment: bool = False, corrupt: Callable[[str], str] | None = None
    ) -> Dataset:
        """
        The data set as tokens (`input_ids`) and what counts of them (`labels`, −100 elsewhere), longest rows first.

        Args:
            dataset (`Dataset`): with the columns of one of the forms, but for multiple choice.
            augment (`bool`, *optional*, defaults to `False`): rows have no augmentation; for training, their order stays.
            corrupt (callable from `str` to `str`, *optional*): changes each prompt first, or text.

        Raises:
            ValueError: its rows are multiple choice, of which most answers are wrong.
        """
        if _CHOICES in dataset.column_names:
            raise ValueError(
                f"multiple choice ({_CHOICES}) tests what is retained; there is no loss to train or choose by"
            )
        return self._encoded(dataset, corrupt, ordered=augment)

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
        if _CHOICES in dataset.column_names:
            rows = self._encoded(dataset, corrupt)
            likelihoods = np.empty(len(rows))
            likelihoods[np.asarray(rows["place"])] = trainer.predict(rows).predictions
            accuracy = choice_accuracy(likelihoods.tolist(), dataset[_CHOICES], dataset[self.options.answer_column])
            return {f"eval_{name}": value for name, value in accuracy.items()}
        metrics = trainer.evaluate(self.prepare(dataset, corrupt=corrupt))
        if (count := self.options.generated_answers) and self.options.answer_column in dataset.column_names:
            pairs = [next(self._pairs(row, corrupt)) for row in dataset.select(range(min(count, len(dataset))))]
            metrics["eval_exact_match"] = exact_match(trainer, self.processor, pairs, self.options.max_new_tokens)
        return metrics

    def batches(self, dataset: Dataset, size: int) -> list[Mapping[str, Tensor]]:
        """As those of any task; of a multiple choice with each of its choices."""
        rows = list(self._encoded(dataset))
        return [self.collator(rows[start : start + size]) for start in range(0, len(rows), size)]

    def logits(self, model: nn.Module, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """As [`next_token_logits`]: a token's label is answered at the token before."""
        return next_token_logits(model, batch)

    def _pairs(self, row: Mapping[str, Any], corrupt: Callable[[str], str] | None) -> Iterator[tuple[str, str]]:
        """The prompt and the answer of a row; of a multiple choice, each that there is to choose."""
        prompt_column, answer_column = self.options.prompt_column, self.options.answer_column
        changed = corrupt or (lambda text: text)
        if prompt_column in row and answer_column in row:
            prompt, answers = row[prompt_column], row.get(_CHOICES) or [row[answer_column]]
        elif _INSTRUCTION in row:
            prompt = "\n".join(filter(None, (row[_INSTRUCTION], row.get("input"))))
            answers = [row[_OUTPUT]]
        else:
            yield "", changed(row[_TEXT])
            return
        given = self.options.template.removesuffix("{answer}").replace("{prompt}", changed(prompt))
        for answer in answers:
            yield (
                given,
                re.sub(self.options.remove_from_answers, "", answer) if self.options.remove_from_answers else answer,
            )

    def _encoded(
        self, dataset: Dataset, corrupt: Callable[[str], str] | None = None, *, ordered: bool = False
    ) -> Dataset:
        """Tokens, what counts of them, and the place of the row; of multiple choice a row for each choice."""
        choices, longest = _CHOICES in dataset.column_names, self.options.max_tokens
        pairs = [pair for row in dataset for pair in self._pairs(row, corrupt)]
        # As lm-evaluation-harness has it: the spaces before an answer are part of its first token.
        wholes = self._tokens([prompt + answer for prompt, answer in pairs])
        prompts = self._tokens([prompt.rstrip(" ") for prompt, _ in pairs])
        rows: list[dict[str, Any]] = []
        for place, (whole, given, (prompt, _)) in enumerate(zip(wholes, prompts, pairs, strict=True)):
            # An answer has an end that is to be learnt; texts are parts of something, and choices are compared without.
            tokens = [*whole, self.processor.eos_token_id] if prompt and not choices else whole
            labels = [_IGNORED] * len(given) + tokens[len(given) :]
            cut = slice(-longest, None) if choices else slice(longest)
            rows.append({"input_ids": tokens[cut], "labels": labels[cut], "place": place})
        if not ordered:
            rows.sort(key=lambda row: -len(row["input_ids"]))
        return Dataset.from_list(rows)

    def _tokens(self, texts: list[str]) -> list[list[int]]:
        tokens: list[list[int]] = self.processor(texts)["input_ids"]
        return tokens
