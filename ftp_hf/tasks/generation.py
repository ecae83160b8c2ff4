"""Answers that a language model generates, and how many of them are right."""

import re
from collections.abc import Sequence
from decimal import Context, Decimal
from typing import Any

import torch
from transformers import Trainer

__all__ = ["exact_match", "final_answer"]

_MARK = "####"
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)")
_BATCH = 16


def final_answer(text: str) -> str:
    """
    What is compared of an answer: the number that follows "####" in those of GSM8K, without the commas of thousands and the
    zeros at its end, so that 18.00 is 18; of one without that mark, all of it.
    """
    _, mark, final = text.partition(_MARK)
    if not mark:
        return text.strip()
    said = (final.strip().splitlines() or [""])[0].strip().lstrip("$").rstrip("$.").replace(",", "")
    if not _NUMBER.fullmatch(said):
        return said
    number = Decimal(said).normalize(Context(prec=len(said)))
    return f"{number or Decimal(0):f}"  # as there is a zero with a minus


@torch.no_grad()
def exact_match(trainer: Trainer, tokenizer: Any, pairs: Sequence[tuple[str, str]], max_new_tokens: int) -> float:
    """
    The share of prompts whose generated answer ends as the right one of its pair. The model decodes greedily, at most
    `max_new_tokens` of an answer.
    """
    model: Any = trainer.model
    model.eval()
    right = 0
    for start in range(0, len(pairs), _BATCH):
        batch = pairs[start : start + _BATCH]
        prompts = [prompt.rstrip(" ") for prompt, _ in batch]
        inputs = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left").to(model.device)
        with trainer.compute_loss_context_manager():
            tokens = model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                do_sample=False,
                max_new_tokens=max_new_tokens,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        answers = tokenizer.batch_decode(tokens[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        # Of what follows "####" only where the right answer has that: a model that never says it is wrong.
        right += sum(
            final_answer(said) == final_answer(answer) for said, (_, answer) in zip(answers, batch, strict=True)
        )
    return right / len(pairs)
