"""What a row says to a language model: a prompt and its answer, found by the columns, as tokens of which some count."""

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset

from ftp_hf.common.documented import with_help
from ftp_hf.common.labels import IGNORED_LABEL

from .label_space import is_listed
from .row_checks import RowError, check_column, check_texts

__all__ = [
    "CHOICES",
    "LanguageOptions",
    "check_cells",
    "check_choices",
    "check_columns",
    "check_prompts",
    "check_tokens",
    "encoded",
    "pairs_of",
]

logger = logging.getLogger(__name__)

CHOICES = "choices"
"""The column of what there is to choose from."""

_INSTRUCTION, _INPUT, _OUTPUT, _TEXT = "instruction", "input", "output", "text"


@with_help
@dataclass
class LanguageOptions:
    r"""
    Args:
        prompt_column (`str`, *optional*, defaults to `"question"`): the column of prompts.
        answer_column (`str`, *optional*, defaults to `"answer"`): the column of answers.
        template (`str`, *optional*, defaults to `"Question: {prompt}\nAnswer: {answer}"`): what a row looks like to the
            model; it ends with `{answer}`.
        remove_from_answers (`str`, *optional*): a regular expression; what it matches is removed from answers, such as
            `<<.*?>>`, the calculator marks of GSM8K.
        max_tokens (`int`, *optional*, defaults to 512): longer rows are cut at their end, in tokens; the question of a
            multiple choice at its start.
        generated_answers (`int`, *optional*, defaults to 0): for `exact_match`, generate the answers of so many rows of
            each test set.
        max_new_tokens (`int`, *optional*, defaults to 256): the longest that a generated answer may be, in tokens.
    """

    prompt_column: str = "question"
    answer_column: str = "answer"
    template: str = "Question: {prompt}\nAnswer: {answer}"
    remove_from_answers: str | None = None
    max_tokens: int = 512
    generated_answers: int = 0
    max_new_tokens: int = 256


def check_columns(name: str, columns: Sequence[str], options: LanguageOptions) -> None:
    """
    Raise `ValueError` for a data set of none of the forms that [`LanguageTask`] lists, with the columns that it has and those
    that are expected.
    """
    own = (options.prompt_column, options.answer_column)
    if not ({*own} <= {*columns} or {_INSTRUCTION, _OUTPUT} <= {*columns} or _TEXT in columns):
        raise ValueError(
            f"{name} has the columns {columns}; expected {' and '.join(own)} (see prompt_column and answer_column), with "
            f"{CHOICES} or without, {_INSTRUCTION} and {_OUTPUT}, or {_TEXT}"
        )


def check_cells(name: str, dataset: Dataset, options: LanguageOptions) -> None:
    """Raise `ValueError` for a row without one of the texts that are read of it, except for the answers of multiple choice."""
    columns = {*dataset.column_names}
    if {options.prompt_column, options.answer_column} <= columns:
        read = [options.prompt_column] if CHOICES in columns else [options.prompt_column, options.answer_column]
    else:
        read = [_INSTRUCTION, _OUTPUT] if _INSTRUCTION in columns else [_TEXT]
    for column in read:
        check_texts(name, dataset, column)


def check_choices(name: str, dataset: Dataset, options: LanguageOptions) -> None:
    """
    Raise for multiple choice whose right choices are unknown: every question would count as answered wrong, before the
    training as after it.

    Raises:
        ValueError: it lacks the prompts or the answers; a row has nothing to choose from, or an answer that is not the
            position of one of its choices.
    """
    for key in ("prompt_column", "answer_column"):
        check_column(name, dataset, getattr(options, key), key)
    if not is_listed(dataset, CHOICES):
        raise ValueError(f"the column {CHOICES!r} of {name} must hold lists of texts, not {dataset.features[CHOICES]}")
    rows, column = dataset.with_format(None), options.answer_column
    for row, (choices, answer) in enumerate(zip(rows[CHOICES], rows[column], strict=True)):
        # One without characters has no likelihood for each of them.
        if not choices or not all(isinstance(choice, str) and choice for choice in choices):
            raise RowError(row, f"{name} has {choices!r} in {CHOICES!r}: it must be texts, none of them empty")
        if not isinstance(answer, int) or isinstance(answer, bool) or not 0 <= answer < len(choices):
            raise RowError(
                row,
                f"{name} has {answer!r} in {column!r}: it must be the position of the right one of its "
                f"{len(choices)} choices, a whole number counted from 0",
            )


def check_tokens(name: str, dataset: Dataset, tokenizer: Any, options: LanguageOptions) -> None:
    """
    Raise for a data set of which nothing counts; say in the log how many rows are like that, where some are. Not for multiple
    choice.

    Raises:
        ValueError: `max_tokens` cuts off all answers, or no text has a second token.
    """
    rows = encoded(dataset, tokenizer, options)
    counted = sum(any(label != IGNORED_LABEL for label in row["labels"][1:]) for row in rows)
    if not counted:
        raise ValueError(
            f"no row of {name} has a token that counts within max_tokens, {options.max_tokens}: raise it, or leave the data "
            "set out"
        )
    if counted < len(dataset):
        logger.warning(
            "%d of %d rows of %s have no token that counts within max_tokens, %d: nothing is learnt or measured from them",
            len(dataset) - counted,
            len(dataset),
            name,
            options.max_tokens,
        )


def check_prompts(name: str, dataset: Dataset, tokenizer: Any, options: LanguageOptions, places: int) -> None:
    """
    Raise `ValueError` for a prompt so long that the model, which has `places` tokens, has none left for `max_new_tokens` of an
    answer.
    """
    prompts = [prompt.rstrip(" ") for row in dataset for prompt, _ in pairs_of(row, options)]
    for row, tokens in enumerate(tokenizer(prompts)["input_ids"]):
        if len(tokens) + options.max_new_tokens > places:
            raise RowError(
                row,
                f"{name} has a prompt of {len(tokens)} tokens, and with max_new_tokens, {options.max_new_tokens}, they are more than "
                f"the model has places for, {places}: lower max_new_tokens, or leave the row out",
            )


def pairs_of(
    row: Mapping[str, Any], options: LanguageOptions, corrupt: Callable[[str], str] | None = None
) -> Iterator[tuple[str, str]]:
    """
    The prompt of a row in the template, with its answer; of multiple choice, with each of the choices. A plain text answers an
    empty prompt. `corrupt` changes the prompt first, or the text.
    """
    changed = corrupt or str
    if options.prompt_column in row and options.answer_column in row:
        prompt, answers = row[options.prompt_column], row.get(CHOICES) or [row[options.answer_column]]
    elif _INSTRUCTION in row:
        prompt, answers = "\n".join(filter(None, (row[_INSTRUCTION], row.get(_INPUT)))), [row[_OUTPUT]]
    else:
        yield "", changed(row[_TEXT])
        return
    given = options.template.removesuffix("{answer}").replace("{prompt}", changed(prompt))
    for answer in answers:
        yield given, re.sub(options.remove_from_answers, "", answer) if options.remove_from_answers else answer


def encoded(
    dataset: Dataset, tokenizer: Any, options: LanguageOptions, corrupt: Callable[[str], str] | None = None
) -> Dataset:
    """
    A data set as tokens, longest rows first; of multiple choice a row for each choice. Rows without tokens, such as the blank
    lines of a text, are left out: there is nothing in them that a loss could count. `corrupt` is as for [`pairs_of`].

    Returns:
        `Dataset`: `input_ids`; `labels`, the same where a token counts and −100 elsewhere; `place`, as they were in order.
    """
    is_choice = CHOICES in dataset.column_names
    pairs = [pair for row in dataset for pair in pairs_of(row, options, corrupt)]
    wholes = tokenizer([prompt + answer for prompt, answer in pairs])["input_ids"]
    # As lm-evaluation-harness has it: the spaces before an answer are part of its first token.
    prompts = tokenizer([prompt.rstrip(" ") for prompt, _ in pairs])["input_ids"]
    rows: list[dict[str, Any]] = []
    for place, (whole, given, (prompt, _)) in enumerate(zip(wholes, prompts, pairs, strict=True)):
        # An answer has an end that is to be learnt; texts are parts of something, and choices are compared without.
        tokens = [*whole, tokenizer.eos_token_id] if prompt and not is_choice else whole
        labels = [IGNORED_LABEL] * len(given) + tokens[len(given) :]
        cut = slice(-options.max_tokens, None) if is_choice else slice(options.max_tokens)
        if tokens:
            rows.append({"input_ids": tokens[cut], "labels": labels[cut], "place": place})
    return Dataset.from_list(sorted(rows, key=lambda row: -len(row["input_ids"])))
