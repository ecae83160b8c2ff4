"""The command `ftp-hf`: one function per subcommand, each with the parser of its arguments."""

import sys
from argparse import ArgumentParser, Namespace, _SubParsersAction
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub.utils.tqdm import disable_progress_bars
from rich.console import Console
from rich.table import Table

from . import __version__
from .hub import Version, history, push_run, rollback

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run a subcommand.

    Args:
        arguments (`Sequence[str]`, *optional*): defaults to those of the process.

    Returns:
        `int`: the exit status. 0 if it did what it says; 1 after an error, which is one line on stderr.
    """
    options = _make_parser().parse_args(arguments)
    if not sys.stderr.isatty():
        disable_progress_bars()
    try:
        options.run(options)
    # What a person can do something about; anything else is a bug, and shows where it is.
    except (OSError, ValueError) as error:
        print(f"ftp-hf {options.command}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"ftp-hf {options.command}: interrupted", file=sys.stderr)
        return 130
    return 0


def _make_parser() -> ArgumentParser:
    parser = ArgumentParser(prog="ftp-hf", description="What to do with a run once it has finished.")
    parser.add_argument("--version", action="version", version=f"ftp-hf {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (_add_compare, _add_push, _add_rollback, _add_history):
        add(commands)
    return parser


def _add_compare(commands: "_SubParsersAction[ArgumentParser]") -> None:
    parser = commands.add_parser(
        "compare",
        help="train and evaluate several methods alike",
        description="Train the methods of a config on one model and data set, choose their settings on ID validation, "
        "evaluate them in and out of distribution, and write a report. What is finished is not repeated.",
    )
    parser.add_argument("config", type=Path, metavar="CONFIG", help="YAML file; see examples/compare/")
    parser.add_argument("--output_dir", type=Path, metavar="DIR", help="by default runs/compare/ and the config's name")
    parser.add_argument("--model", metavar="MODEL", help="takes the place of the config's model")
    parser.set_defaults(run=_compare)


def _add_push(commands: "_SubParsersAction[ArgumentParser]") -> None:
    parser = commands.add_parser(
        "push",
        help="push a finished run to the Hub, as its next version",
        description="Push a finished run to the Hub: one commit that names its figures, tagged v1, v2, …",
    )
    parser.add_argument("run_dir", metavar="RUN_DIR", help="the run's output_dir")
    _add_repository(parser)
    parser.add_argument(
        "--private",
        action="store_true",
        default=None,
        help="create it as a private repository; refuses one that exists and is public",
    )
    parser.add_argument("--revision", metavar="BRANCH", help="the branch to push to (main), created if need be")
    parser.set_defaults(run=_push)


def _add_rollback(commands: "_SubParsersAction[ArgumentParser]") -> None:
    parser = commands.add_parser(
        "rollback",
        help="restore an earlier version",
        description="Restore the files of an earlier version in a new commit, tagged as the next version.",
    )
    _add_repository(parser)
    parser.add_argument("--to", required=True, metavar="VERSION", help="v1, or any other tag, branch or commit")
    parser.add_argument("--revision", metavar="BRANCH", help="the branch to restore it in (main)")
    parser.set_defaults(run=_rollback)


def _add_history(commands: "_SubParsersAction[ArgumentParser]") -> None:
    parser = commands.add_parser(
        "history",
        help="list the versions and their figures",
        description="List the versions of a repository and their figures.",
    )
    _add_repository(parser)
    parser.set_defaults(run=_history)


def _add_repository(parser: ArgumentParser) -> None:
    parser.add_argument("repo_id", metavar="REPO_ID", help="user/name on the Hub")


def _compare(options: Namespace) -> None:
    # Needs the packages of the extra `compare`.
    from .compare import ComparisonConfig, compare  # noqa: PLC0415

    config = ComparisonConfig.load(options.config, options.model)
    compare(config, options.output_dir or Path("runs", "compare", config.name))


def _push(options: Namespace) -> None:
    _say(push_run(options.run_dir, options.repo_id, private=options.private, revision=options.revision))


def _rollback(options: Namespace) -> None:
    _say(rollback(options.repo_id, options.to, revision=options.revision))


def _history(options: Namespace) -> None:
    table = Table(title=options.repo_id)
    for column in ("version", "date", "commit"):
        table.add_column(column, no_wrap=True)
    table.add_column("figures", overflow="fold")
    for version in history(options.repo_id):
        date = "" if version.date is None else f"{version.date:%Y-%m-%d %H:%M}"
        table.add_row(version.tag, date, version.commit[:8], version.title)
    Console().print(table)


def _say(version: Version) -> None:
    print(f"{version.repo_id} {version.tag} ({version.commit[:8]}): {version.title}")
