"""Training arguments and states as they may be published."""

import copy
import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from ftp_hf.common.privacy import is_secret, public_value
from ftp_hf.common.replaced import replaced

__all__ = ["forget_folders", "public_arguments", "saving_public_arguments"]


def public_arguments(args: Any) -> Any:
    """A copy of training arguments that may be published: without the Hub's token, and with only the last part of folders."""
    public = copy.copy(args)
    for name, value in vars(args).items():
        if is_secret(name):
            setattr(public, name, None)
        elif type(value) in (str, list, dict):
            # Not `public_value` for anything else: enums and plugins have to load back as what they are.
            vars(public)[name] = public_value(value)
    return public


def forget_folders(state: Path) -> None:
    """
    Leave only the name of the best checkpoint in a `trainer_state.json`, which is pushed with its checkpoint. Where this
    process did not write the file, nothing happens.
    """
    if not state.is_file():
        return
    content = json.loads(state.read_text(encoding="utf-8"))
    best = content.get("best_model_checkpoint")
    content["best_model_checkpoint"] = public_value(best)
    state.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


class _SavedAsPublic:
    """Training arguments that pickle as their public copy."""

    def __init__(self, args: Any) -> None:
        vars(self)["_args"] = args

    def __getattr__(self, name: str) -> Any:
        return getattr(self._args, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._args, name, value)

    # So that pickle writes the copy as what it is.
    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return type(self._args)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return public_arguments(self._args).__reduce_ex__(protocol)


def saving_public_arguments(trainer: Any) -> AbstractContextManager[None]:
    """
    Within it, the trainer's arguments are saved as [`public_arguments`], and are themselves for everything else.

    `Trainer` pickles `args`, with the Hub's token, into the `training_args.bin` that it pushes, and pushes it in the same call
    (transformers 5.18 to 5.23): there is no moment to replace the file.
    """
    return replaced(trainer, args=_SavedAsPublic(trainer.args))
