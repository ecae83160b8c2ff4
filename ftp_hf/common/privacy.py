"""
What is private: secrets, and paths of this machine. Here is what they look like, for those who leave them out of what is
shown (cards, results, saved arguments), and for those who refuse to send a file that holds one.
"""

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = [
    "find_local_path",
    "holds_token",
    "is_local_path",
    "is_secret",
    "public_command",
    "public_name",
    "public_value",
    "secrets_of_environment",
]

# Options of a command, attributes, keys. Not `eos_token` or `max_new_tokens`.
_SECRET_OPTION = re.compile(
    r"^-*token$|(hub|hf|auth|access|api)[-_]token$|(password|secret|api[-_]?key)$", re.IGNORECASE
)
_SECRET_VARIABLE = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|ACCESS_?KEY", re.IGNORECASE)
_SHORTEST_SECRET = 12
# What is shown loses whatever might be a token; a file is refused for what is one, not for a word such as `hf_device_map`.
_MAYBE_TOKEN = re.compile(r"\bhf_\w{8,}\b")
_TOKEN = re.compile(rb"\bhf_[A-Za-z0-9]{30,}\b")

# A path from the root, the home folder, a drive, a server, or up from here, but not the rest of a URL or of a tag.
_START = r"(?:~[\w.-]*|[A-Za-z]:|\.\.|\\(?=\\))?"
_PATH = re.compile(rf"(?<![\w.:/~<-]){_START}(?:[/\\][^/\\\s'\",;=?#]+)+[/\\]?")
_NOTHING_BUT_A_PATH = re.compile(rf"{_START}(?:[/\\][^/\\=?#]+)+[/\\]?")
# What looks like one: a word (`/think`, which reveals nothing), an aside (`/think and/or not`), a regular expression (`\s+`), none of
# whose parts is a word.
_NO_PATH = re.compile(
    r"/[^/]*/?|/[^/\s]*\s[^/]*(?:/[^/]*)?|\\[^\\]*\\?|\\(?!\\)(?!(?:.*\\)?[^\W\d_]{4,}(?:\\|$)).*", re.DOTALL
)
_LOCAL = re.compile(r"[/.~\\]|.:[/\\]")
# With spaces in it, because it counts only if it is there.
_ABSOLUTE_PATH = re.compile(r"(?<![\w.:/~$})-])/(?:[\w.@+ -]*[\w.@+-]/)+[\w.@+-]+")
# The same everywhere, so that they reveal nothing.
_SYSTEM = ("/bin/", "/dev/", "/etc/", "/lib/", "/proc/", "/sys/", "/usr/")


def is_secret(option: str) -> bool:
    """Whether what an option of this name holds is a secret: `--hub_token`, `api_key`, but not `eos_token`."""
    return bool(_SECRET_OPTION.search(option))


def secrets_of_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The values that must not leave this machine, by the name of their variable (`HF_TOKEN`, `WANDB_API_KEY`, …)."""
    return {
        name: value
        for name, value in environment.items()
        if _SECRET_VARIABLE.search(name) and len(value) >= _SHORTEST_SECRET
    }


def holds_token(content: Any) -> bool:
    """Whether there is a token of the Hub in the bytes (`bytes`, or an `mmap` of a file)."""
    return bool(_TOKEN.search(content))


def is_local_path(value: object) -> bool:
    """Whether a string looks like a path (from the root, a drive, the home folder, or here) and not like a Hub name."""
    return isinstance(value, str) and bool(_LOCAL.match(value))


def find_local_path(text: str) -> str | None:
    """The first absolute path in the text that is there on this machine; a URL's path or a word with slashes is not."""
    found = _ABSOLUTE_PATH.findall(text)
    return next((path for path in found if not path.startswith(_SYSTEM) and _exists(path)), None)


def public_name(name_or_path: str) -> tuple[str, bool]:
    """
    What a model or a data set may be called in public: the name on the Hub, or the last part of a local path; and whether it is
    on the Hub.
    """
    path = Path(name_or_path)
    if path.exists():
        return path.resolve().name, False
    if is_local_path(name_or_path) or len(path.parts) > 2:
        return _last_part(name_or_path), False
    return name_or_path, True


def public_value(value: Any) -> Any:
    """
    A setting as it may be shown: local paths are reduced to their last part, tokens are taken out, and what JSON cannot hold is
    shown as its type's name.
    """
    if isinstance(value, str):
        value = _MAYBE_TOKEN.sub("…", value)
        if _NOTHING_BUT_A_PATH.fullmatch(value) and not _NO_PATH.fullmatch(value):
            return _last_part(value)
        return _PATH.sub(lambda found: found[0] if _NO_PATH.fullmatch(found[0]) else _last_part(found[0]), value)
    if isinstance(value, dict):
        return {str(key): "…" if is_secret(str(key)) else public_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [public_value(item) for item in value]
    return value if isinstance(value, (bool, int, float, type(None))) else type(value).__name__


def public_command(arguments: Sequence[str]) -> str:
    """A command line, such as `sys.argv`, as it may be shown."""
    shown = []
    hide = False
    for argument in arguments:
        flag, _, value = argument.partition("=")
        secret = flag.startswith("-") and is_secret(flag)
        shown.append("…" if hide else f"{flag}=…" if secret and value else public_value(argument))
        hide = secret and not value
    return " ".join(argument if argument.endswith("…") else shlex.quote(argument) for argument in shown)


def _last_part(path: str) -> str:
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except OSError:  # too long, or not allowed to look
        return False
