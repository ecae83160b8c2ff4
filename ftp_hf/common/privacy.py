"""What may leave the machine: names instead of local paths, and no secrets."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["SECRET", "public_command", "public_name", "public_value"]

# Not `eos_token` or `max_new_tokens`.
SECRET = re.compile(r"^-*token$|(hub|hf|auth|access|api)[-_]token$|(password|secret|api[-_]?key)$", re.IGNORECASE)
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
        return {str(key): "…" if SECRET.search(str(key)) else public_value(item) for key, item in value.items()}
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
        secret = flag.startswith("-") and bool(SECRET.search(flag))
        shown.append("…" if hide else f"{flag}=…" if secret and value else public_value(argument))
        hide = secret and not value
    return " ".join(argument if argument.endswith("…") else shlex.quote(argument) for argument in shown)
