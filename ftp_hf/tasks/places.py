"""How many tokens a model has places for: those behind the last have no position."""

from dataclasses import fields, replace
from typing import Any, TypeVar

from transformers import AutoConfig

__all__ = ["within_places"]

Options = TypeVar("Options")


def within_places(options: Options, key: str, model: str, tokenizer: Any) -> Options:
    """
    Options with no more tokens than the model has places for. Only their default is lowered to it.

    Args:
        options (dataclass): how texts are read.
        key (`str`): the option that says after how many tokens they are cut.
        model (`str`): Hub name or local folder of the model.
        tokenizer (`PreTrainedTokenizerBase`): of it.

    Raises:
        ValueError: more tokens are asked for.
    """
    asked, places = getattr(options, key), _places(model, tokenizer)
    if places is None or asked <= places:
        return options
    if asked != next(option.default for option in fields(options) if option.name == key):  # type: ignore[arg-type]
        raise ValueError(f"{model} has places for {places} tokens, fewer than {key}, {asked}: lower {key}")
    return replace(options, **{key: places})  # type: ignore[type-var]


def _places(model: str, tokenizer: Any) -> int | None:
    """Nothing of a model that computes positions, as many as there are."""
    try:
        config = AutoConfig.from_pretrained(model)
    except (OSError, ValueError):  # of an adapter, or of modules in folders of their own
        return None
    places: int | None = getattr(config, "max_position_embeddings", None)
    is_computed = getattr(config, "rope_parameters", None) or not getattr(config, "position_biased_input", True)
    if places is None or places < 0 or is_computed:
        return None
    # RoBERTa and its kin have two that are of no token.
    longest: int = tokenizer.model_max_length
    return longest if places - 2 <= longest < places else places
