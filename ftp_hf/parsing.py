"""Arguments of a command: errors for those that are misspelt and for files that cannot be read, beyond those of argparse."""

import importlib.metadata
from argparse import Action, ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from ftp_hf.common.launched import let_the_first_speak
from ftp_hf.common.problems import did_you_mean

__all__ = ["Parser", "ShowVersion", "loading", "path", "positive"]

Loaded = TypeVar("Loaded")


class Parser(ArgumentParser):
    """Adds to an error what a misspelt command or option may have meant; argparse does so from Python 3.14 on, for commands."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.words: Sequence[str] = ()
        self.commands: Mapping[str, ArgumentParser] = {}
        self.suggest_on_error = False  # on by default from Python 3.15 on: once is enough

    def error(self, message: str) -> NoReturn:
        """As argparse, by the first process of each machine alone."""
        let_the_first_speak()
        super().error(f"{message}{self._suggestion()}")

    def _suggestion(self) -> str:
        command = self.words[0] if self.words else ""
        if self.commands and command not in self.commands and not command.startswith("-"):
            return did_you_mean(command, self.commands)
        parser = self.commands.get(command, self)
        return "".join(
            did_you_mean(name, parser._option_string_actions)
            for name in (word.partition("=")[0] for word in self.words)
            if name.startswith("--") and not any(option.startswith(name) for option in parser._option_string_actions)
        )


class ShowVersion(Action):
    """Looks it up when it is asked for: a checkout that is not installed has none."""

    def __call__(self, parser: ArgumentParser, *_: Any) -> NoReturn:
        """Print it, and stop."""
        print(f"ftp-hf {importlib.metadata.version('ftp-hf')}")
        parser.exit()


def positive(text: str) -> int:
    """A positive whole number, as the type of an argument."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise ArgumentTypeError(f"must be a positive whole number, got {text!r}")
    return number


def path(text: str) -> Path:
    """A file or folder, as the type of an argument. `Path("")`, of a variable of a shell that is not set, is the working directory."""
    if not text:
        raise ArgumentTypeError("names no file or folder: write . for the working directory")
    return Path(text)


def loading(load: Callable[[Path], Loaded]) -> Callable[[str], Loaded]:
    """
    What reads a file that is an argument with `load`, whose `OSError` or `ValueError` argparse then reports as it does of any
    other argument.
    """

    def checked(text: str) -> Loaded:
        file = path(text)
        try:
            return load(file)
        except (OSError, ValueError) as error:
            raise ArgumentTypeError(" ".join(str(error).split())) from error

    return checked
