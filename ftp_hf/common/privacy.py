"""What may leave the machine: names instead of local paths, and no secrets."""

import copy
import json
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = [
    "forget_folders",
    "public_arguments",
    "public_command",
    "public_name",
    "public_value",
    "saving_public_arguments",
]

# Not `eos_token` or `max_new_tokens`.
_SECRET = re.compile(r"^-*token$|(hub|hf|auth|access|api)[-_]token$|(password|secret|api[-_]?key)$", re.IGNORECASE)
_TOKEN = re.compile(r"\bhf_\w{8,}\b")
# A path from the root, the home folder, a drive, or up from here, but not the rest of a URL or of a tag.
_START = r"(?:~[\w.-]*|[A-Za-z]:|\.\.)?"
_PATH = re.compile(rf"(?<![\w.:/~<-]){_START}(?:[/\\][^/\\\s'\",;=?#]+)+[/\\]?")
_NOTHING_BUT_A_PATH = re.compile(rf"{_START}(?:[/\\][^/\\=?#]+)+[/\\]?")


def public_name(name_or_path: str) -> tuple[str, bool]:
    """
    What a model or a data set may be called in public.

    Args:
        name_or_path (`str`): a name on the Hub, or a local path.

    Returns:
        `tuple[str, bool]`: the name on the Hub, or the last part of the path; and whether it is on the Hub.
    """
    path = Path(name_or_path)
    local = path.exists() or path.is_absolute() or name_or_path.startswith((".", "~")) or len(path.parts) > 2
    return (path.resolve().name if path.exists() else path.name, False) if local else (name_or_path, True)


def public_value(value: Any) -> Any:
    """
    A setting as it may be shown: local paths are reduced to their last part, tokens are taken out.

    Args:
        value: what JSON can hold; anything else is shown as its type's name.
    """
    if isinstance(value, str):
        value = _TOKEN.sub("…", value)
        return (
            _last_part(value)
            if _NOTHING_BUT_A_PATH.fullmatch(value)
            else _PATH.sub(lambda found: _last_part(found[0]), value)
        )
    if isinstance(value, dict):
        return {str(key): "…" if _SECRET.search(str(key)) else public_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [public_value(item) for item in value]
    return value if isinstance(value, (bool, int, float, type(None))) else type(value).__name__


def _last_part(path: str) -> str:
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]


def public_command(arguments: Sequence[str]) -> str:
    """
    A command line as it may be shown.

    Args:
        arguments (sequence of `str`): such as `sys.argv`.
    """
    shown = []
    hide = False
    for argument in arguments:
        flag, _, value = argument.partition("=")
        secret = flag.startswith("-") and bool(_SECRET.search(flag))
        shown.append("…" if hide else f"{flag}=…" if secret and value else public_value(argument))
        hide = secret and not value
    return " ".join(argument if argument.endswith("…") else shlex.quote(argument) for argument in shown)


def public_arguments(args: Any) -> Any:
    """
    Training arguments as they may be published: without the Hub's token, and without folders above the last.

    Args:
        args (`TrainingArguments`): left as they are.
    """
    public = copy.copy(args)
    for name, value in vars(args).items():
        if _SECRET.search(name):
            setattr(public, name, None)
        elif type(value) in (str, list, dict):
            # Not `public_value` for anything else: enums and plugins have to load back as what they are.
            vars(public)[name] = public_value(value)
    return public


def forget_folders(state: Path) -> None:
    """
    Leave only the name of the best checkpoint in a saved `TrainerState`, which is pushed with its checkpoint.

    Args:
        state (`Path`): a `trainer_state.json`; where this process did not write one, nothing happens.
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


@contextmanager
def saving_public_arguments(trainer: Any) -> Iterator[None]:
    """
    Within it, the trainer's arguments are saved as [`public_arguments`], and are themselves for everything else.

    `Trainer` pickles `args`, with the Hub's token, into the `training_args.bin` that it pushes, and pushes it in the
    same breath (transformers 5.4 to 5.23): there is no moment to replace the file.

    Args:
        trainer (`Trainer`): whose `args` are saved.
    """
    args = trainer.args
    trainer.args = _SavedAsPublic(args)
    try:
        yield
    finally:
        trainer.args = args
