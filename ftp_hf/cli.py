"""The command `ftp-hf`, and the parsers of its subcommands, one function each; `commands.py` has what they do."""

import sys
from argparse import Namespace, _SubParsersAction
from collections.abc import Sequence
from io import TextIOWrapper

from ftp_hf.commands import (
    is_of_python,
    load_rules,
    load_run,
    run_check,
    run_compare,
    run_history,
    run_push,
    run_report,
    run_rollback,
    run_stream,
    run_tasks,
    run_trial,
)
from ftp_hf.common.launched import let_the_first_speak
from ftp_hf.parsing import Parser, ShowVersion, loading, path, positive

__all__ = ["main", "make_parser"]


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run a subcommand, by default with the arguments of the process, and return the exit status: 0 if it did what it says; 1
    after an error, which is one line on stderr (one for each thing that is wrong with a config), and if `check` finds a broken
    rule. Arguments that cannot be used, such as bad rules, end the process with 2. Of the processes of a launcher the first of
    each machine says so.
    """
    words = sys.argv[1:] if arguments is None else arguments
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: a minus or ± must not end what took hours
    options = make_parser(words).parse_args(words)
    try:
        status: int | None = options.run(options)
    # What a person can do something about; anything else is a bug, and shows where it is.
    except (ImportError, OSError, ValueError) as error:
        if is_of_python(error):
            raise
        let_the_first_speak()
        for problem in (str(error), *getattr(error, "__notes__", ())):
            print(f"ftp-hf {options.command}: {' '.join(problem.split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"ftp-hf {options.command}: interrupted", file=sys.stderr)
        return 130
    return status or 0


def make_parser(words: Sequence[str]) -> Parser:
    """
    The parser of the command and of all its subcommands. `words` are what it will parse, in which an error looks for misspelt
    words.
    """
    parser = Parser(prog="ftp-hf", description="Compare methods of fine-tuning, and look after what they made.")
    parser.add_argument("--version", action=ShowVersion, nargs=0, help="show program's version number and exit")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (
        _add_compare,
        _add_stream,
        _add_tasks,
        _add_report,
        _add_trial,
        _add_check,
        _add_push,
        _add_rollback,
        _add_history,
        _add_completion,
    ):
        add(commands)
    parser.commands = commands.choices
    for each in (parser, *commands.choices.values()):
        each.words = words
    return parser


def _add_compare(commands: "_SubParsersAction[Parser]") -> None:
    parser = commands.add_parser(
        "compare",
        help="train and evaluate several methods in the same way",
        description="Train the methods of a config on one model and data set, choose their settings on ID validation, "
        "evaluate them in and out of distribution, and write a report. What is finished is not repeated. "
        "Progress goes to stderr, the verdict, the place of the report and of the recommended run to stdout.",
    )
    _add_config(parser, "compare")
    parser.add_argument(
        "--estimate",
        action="store_true",
        help="as --dry-run, and say how long that would take and how much memory, from a few steps of each method",
    )
    parser.add_argument("--init", metavar="TASK", help="write CONFIG, a commented config for this task, and stop")
    _add_jobs(parser)
    elsewhere = parser.add_mutually_exclusive_group()
    elsewhere.add_argument(
        "--ray", metavar="ADDRESS", help="train on a Ray cluster (local, auto, HOST:PORT) whose machines share DIR"
    )
    elsewhere.add_argument(
        "--share",
        action="store_true",
        help="train beside others that do the same in DIR, on any machine, and leave the report to one without",
    )
    elsewhere.add_argument(
        "--sbatch",
        type=positive,
        metavar="N",
        help="print a script that submits this as N such jobs of SLURM, and stop",
    )
    parser.set_defaults(run=run_compare)


def _add_stream(commands: "_SubParsersAction[Parser]") -> None:
    parser = commands.add_parser(
        "stream",
        help="train stage after stage, and see what is forgotten",
        description="Train the methods of a config on the stages of a stream, one after the other, in several orders; evaluate "
        "all stages after each of them, and write a report. What is finished is not repeated. Progress goes to stderr, the "
        "place of the report to stdout.",
    )
    _add_config(parser, "stream")
    _add_jobs(parser)
    parser.set_defaults(run=run_stream)


def _add_jobs(parser: Parser) -> None:
    parser.add_argument("--jobs", type=positive, metavar="N", help="train N runs at once, each on its own GPU")


def _add_config(parser: Parser, command: str) -> None:
    parser.add_argument(
        "config", type=path, metavar="CONFIG", help=f"YAML file; see examples/{command}{'s' * (command == 'stream')}/"
    )
    parser.add_argument(
        "--output_dir", type=path, metavar="DIR", help=f"by default runs/{command}/ and the config's name"
    )
    parser.add_argument("--model", metavar="MODEL", help="takes the place of the config's model")
    parser.add_argument("--methods", metavar="A,B", help=f"{command} these, with the config's settings for them")
    parser.add_argument("--dry-run", action="store_true", help="check everything, say what would be trained, and stop")


def _add_tasks(commands: "_SubParsersAction[Parser]") -> None:
    parser = commands.add_parser(
        "tasks",
        help="list what models can be compared on",
        description="List the tasks of the package with their metrics, the first of which settings are chosen by. A config may "
        "also name a task of your own, as MODULE:CLASS; see docs/tasks.md.",
    )
    parser.set_defaults(run=run_tasks)


def _add_report(commands: "_SubParsersAction[Parser]") -> None:
    parser = commands.add_parser(
        "report",
        help="write the report of a comparison or a stream again",
        description="Write report.html, report.md and the charts of a comparison, or of a stream, from its results.json alone.",
    )
    parser.add_argument("folder", type=path, metavar="DIR", help="its output_dir")
    parser.set_defaults(run=run_report)


def _add_trial(commands: "_SubParsersAction[Parser]") -> None:
    parser = commands.add_parser(
        "trial",
        help="start a trial, or fill in its page for the decision",
        description="A trial that a decision can rest on. `init` makes a folder with a config, a file of rules, a checklist of "
        "what to collect, and a page for the decision; `report` fills the page in from the comparison in DIR/comparison.",
    )
    parser.add_argument("action", choices=["init", "report"], help="start, or fill in")
    parser.add_argument("folder", type=path, metavar="DIR", help="of the trial")
    parser.add_argument("--task", metavar="TASK", help="of init: what the model does; see ftp-hf tasks")
    parser.add_argument("--language", choices=["en", "ja"], default="en", help="of init: of the pages (en)")
    parser.set_defaults(run=run_trial)


def _add_check(commands: "_SubParsersAction[Parser]") -> None:
    parser = commands.add_parser(
        "check",
        help="check a finished run against rules",
        description="Check what a finished run measured, as its results.json has it, against rules. Nothing is measured "
        "again: new weights of the model have to be evaluated first. Exits with 1 if a rule is broken or cannot be "
        "checked, and with 2 if the rules or the results cannot be read.",
    )
    parser.add_argument("run_dir", metavar="RUN_DIR", type=loading(load_run), help="the run's output_dir")
    _add_rules(parser, required=True)
    parser.set_defaults(run=run_check)


def _add_push(commands: "_SubParsersAction[Parser]") -> None:
    parser = commands.add_parser(
        "push",
        help="push a finished run to the Hub, as its next version",
        description="Push a finished run to the Hub: one commit that names its figures, tagged v1, v2, …",
    )
    parser.add_argument("run_dir", type=path, metavar="RUN_DIR", help="the run's output_dir")
    _add_repository(parser)
    parser.add_argument(
        "--private",
        action="store_true",
        default=None,
        help="create it as a private repository; refuses one that exists and is public",
    )
    parser.add_argument(
        "--revision", metavar="BRANCH", help="the branch to push to (main), created if it does not exist"
    )
    _add_rules(parser, required=False)
    parser.set_defaults(run=run_push)


def _add_rollback(commands: "_SubParsersAction[Parser]") -> None:
    parser = commands.add_parser(
        "rollback",
        help="restore an earlier version",
        description="Restore the files of an earlier version in a new commit, tagged as the next version.",
    )
    _add_repository(parser)
    parser.add_argument("--to", required=True, metavar="VERSION", help="v1, or any other tag, branch or commit")
    parser.add_argument("--revision", metavar="BRANCH", help="the branch to restore it in (main)")
    parser.set_defaults(run=run_rollback)


def _add_history(commands: "_SubParsersAction[Parser]") -> None:
    parser = commands.add_parser(
        "history",
        help="list the versions and their figures",
        description="List the versions of a repository and their figures; where models were trained stage after stage, also "
        "what each version can do of all stages and retained sets.",
    )
    _add_repository(parser)
    parser.set_defaults(run=run_history)


def _add_completion(commands: "_SubParsersAction[Parser]") -> None:
    parser = commands.add_parser(
        "completion",
        help="print what completes this command in a shell",
        description="Print a script with which a shell completes the command, its options and files; docs/command.md says "
        "where each shell looks for it.",
    )
    parser.add_argument("shell", choices=("bash", "zsh", "fish"))
    parser.set_defaults(run=_completion)


def _add_repository(parser: Parser) -> None:
    parser.add_argument("repo_id", metavar="REPO_ID", help="user/name on the Hub")


def _add_rules(parser: Parser, *, required: bool) -> None:
    parser.add_argument(
        "--rules",
        required=required,
        metavar="FILE",
        type=loading(load_rules),
        help="a YAML file with rules that results.json has to meet: a list 'rules' such as '- ood/sketch >= 0.60'",
    )


def _completion(options: Namespace) -> None:
    import shtab

    parser = make_parser(())
    for command in (parser, *parser.commands.values()):
        for action in command._actions:
            if action.metavar in ("CONFIG", "FILE"):
                action.complete = shtab.FILE  # type: ignore[attr-defined] # which shtab looks for
            elif action.metavar in ("DIR", "RUN_DIR"):
                action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    print(shtab.complete(parser, options.shell))
