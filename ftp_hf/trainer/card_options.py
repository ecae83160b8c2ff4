"""What `create_model_card` is given about a run."""

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from ftp_hf.common.privacy import public_name
from ftp_hf.runs.facts import BaseModel
from ftp_hf.runs.summary import RunSummary

__all__ = ["CardOptions"]


@dataclass(frozen=True)
class CardOptions:
    """
    The arguments of `Trainer.create_model_card`, and `dataset_name`, by which TRL's classes know the training data.

    Args:
        language (`str`, *optional*): of the text that the model is for.
        license (`str`, *optional*): of the model; it is not guessed.
        tags (`str` or list of `str`, *optional*): more tags for the Hub.
        model_name (`str`, *optional*): by default the name on the Hub, or that of `output_dir`.
        finetuned_from (`str`, *optional*): the base model, if not the one that the model was loaded from.
        tasks (`str` or list of `str`, *optional*): the task, if not the one of the model's class.
        dataset_tags (`str` or list of `str`, *optional*): the training data's name on the Hub; of a list the first.
        dataset (`str` or list of `str`, *optional*): its name in the card.
        dataset_args (`str` or list of `str`, *optional*): its config.
        dataset_name (`str`, *optional*): its name on the Hub, or a local path, of which the last part is kept.
    """

    language: str | None = None
    license: str | None = None
    tags: str | Collection[str] | None = None
    model_name: str | None = None
    finetuned_from: str | None = None
    tasks: str | list[str] | None = None
    dataset_tags: str | list[str] | None = None
    dataset: str | list[str] | None = None
    dataset_args: str | list[str] | None = None
    dataset_name: str | None = None

    def updated(self, method: Callable[..., Any], given: Sequence[Any], named: Mapping[str, Any]) -> "CardOptions":
        """
        These, updated with the arguments of a call of `create_model_card`: `given` in the order of `method`, and `named`. What
        a card has no place for is left out.

        Raises:
            TypeError: neither that method nor a card takes an argument of that name.
        """
        signature = inspect.signature(method)
        ours = {option.name for option in fields(self)}
        theirs = {name: value for name, value in named.items() if name in signature.parameters or name not in ours}
        arguments = {**named, **signature.bind_partial(*given, **theirs).arguments}
        return replace(self, **{name: value for name, value in arguments.items() if name in ours and value is not None})

    def put_into(self, summary: RunSummary) -> None:
        """Put them into a summary."""
        summary.language, summary.license = self.language, self.license
        summary.tags = [self.tags] if isinstance(self.tags, str) else list(self.tags or [])
        summary.task = _first(self.tasks) or summary.task
        if self.finetuned_from is not None:
            summary.base_model = summary.base_model or BaseModel(self.finetuned_from)
            summary.base_model.name, summary.base_model.on_hub = public_name(self.finetuned_from)
        for training in (data for data in summary.data if data.kind == "train"):
            training.name = _first(self.dataset) or training.name
            training.config = _first(self.dataset_args) or training.config
            if self.dataset_name is not None:
                training.source, training.on_hub = public_name(self.dataset_name)
            if source := _first(self.dataset_tags):
                training.source, training.on_hub = source, True


def _first(given: str | list[str] | None) -> str | None:
    if isinstance(given, list):
        return given[0] if given else None
    return given
