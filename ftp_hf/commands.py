"""
What the subcommands of `ftp-hf` do, with the arguments that `cli.py` has parsed.

Each imports what it needs when it runs, so that help, the version and a misspelt word are answered at once.
"""

import functools
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftp_hf.common.files import check_folder
from ftp_hf.common.launched import say
from ftp_hf.compare.run.forked import begin_imports

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from ftp_hf.compare.run.config import ComparisonConfig
    from ftp_hf.hub.versions import Version
    from ftp_hf.runs.rules import Rule
    from ftp_hf.runs.summary import RunSummary

__all__ = [
    "is_of_python",
    "load_rules",
    "load_run",
    "run_check",
    "run_compare",
    "run_history",
    "run_push",
    "run_report",
    "run_rollback",
    "run_stream",
    "run_tasks",
    "run_trial",
]


def run_compare(options: Namespace) -> None:
    """Compare methods, or say what that would take."""
    _begin_imports(options)
    try:
        from ftp_hf.compare.run.comparison import compare, rehearse, take_part
        from ftp_hf.compare.run.config import ComparisonConfig
        from ftp_hf.compare.run.first_config import first_config
    except ModuleNotFoundError as error:
        raise _needs_more(error) from error
    if options.init is not None:
        text = first_config(options.init)
        check_folder("the folder of CONFIG", options.config.parent)
        options.config.parent.mkdir(parents=True, exist_ok=True)
        try:
            with options.config.open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError as error:
            raise ValueError(f"{options.config} exists: name another file, or delete it") from error
        say(options.config)
        return
    if options.estimate:
        options.dry_run, rehearse = True, functools.partial(rehearse, measure=True)
    run: Callable[..., Any]
    if options.share:
        run = functools.partial(take_part, jobs=1 if options.jobs is None else options.jobs)
    elif options.sbatch is not None:
        run = functools.partial(_print_sbatch, options)
    else:
        run = functools.partial(compare, jobs=options.jobs, ray=options.ray)
    _run_config(options, ComparisonConfig, run, rehearse)


def _print_sbatch(options: Namespace, config: "ComparisonConfig", folder: Path) -> None:
    from ftp_hf.compare.run.slurm import sbatch_script

    words: dict[str, Any] = {"--output_dir": folder}
    words |= {f"--{name}": getattr(options, name) for name in ("model", "methods", "jobs")}
    given = [str(word) for option in words.items() if option[1] is not None for word in option]
    command = [sys.executable, "-m", "ftp_hf", "compare", str(options.config), *given]
    say(sbatch_script(command, config.name, options.sbatch).rstrip("\n"))


def run_stream(options: Namespace) -> None:
    """Train stage after stage, or say what that would take."""
    _begin_imports(options)
    try:
        from ftp_hf.compare.stream.config import StreamConfig
        from ftp_hf.compare.stream.stream import rehearse_stream, stream
    except ModuleNotFoundError as error:
        raise _needs_more(error) from error
    _run_config(options, StreamConfig, functools.partial(stream, jobs=options.jobs), rehearse_stream)


def _begin_imports(options: Namespace) -> None:
    """Start the imports of the processes that are going to be asked for, beside those of this one."""
    others = ("dry_run", "estimate", "init", "ray", "sbatch")
    if (options.jobs or 1) > 1 and not any(getattr(options, other, None) for other in others):
        begin_imports("ftp_hf.compare.run.pool")


def _needs_more(error: ModuleNotFoundError) -> ValueError:
    return ValueError(f'{error}, which comparisons need: pip install "ftp-hf[compare]"')


def _run_config(options: Namespace, kind: Any, run: Callable[..., Any], rehearse: Callable[..., Any]) -> None:
    """What the config of a comparison or a stream asks for."""
    from ftp_hf.hub.retries import silence_retries

    _quietly()
    silence_retries()
    methods = None if options.methods is None else [name.strip() for name in options.methods.split(",")]
    config = kind.load(options.config, options.model, methods=methods)
    folder = options.output_dir or Path("runs", options.command, config.name)
    check_folder("--output_dir", folder)
    try:
        if options.dry_run:
            rehearse(config)
        else:
            run(config, folder)
    except (ImportError, OSError, ValueError) as error:
        if is_of_python(error):
            raise
        located = ValueError(f"{options.config}: {error}")
        located.__notes__ = [f"{options.config}: {problem}" for problem in getattr(error, "__notes__", ())]
        raise located from error


def is_of_python(error: Exception) -> bool:
    """Whether an error is an import that Python failed in, which names its module, and not one of ours that says what to install."""
    return isinstance(error, ImportError) and error.name is not None


def _say_tables(console: "Console", *tables: "Table") -> None:
    with console.capture() as text:
        console.print(*tables)
    say(text.get().rstrip("\n"))


def run_tasks(options: Namespace) -> None:  # noqa: ARG001 - it has none
    """List the tasks."""
    from rich.console import Console
    from rich.table import Column, Table

    from ftp_hf.tasks import TASKS, task_class

    console = Console()
    less, head = (
        ("↓", "metrics (of ↓ less is better)")
        if console.encoding.startswith("utf")
        else ("(less is better)", "metrics")
    )
    table = Table(Column("task", overflow="fold"), head, "corruptions", "options", box=None)
    for name in TASKS:
        try:
            kind = task_class(name)
        except ImportError as error:
            table.add_row(name, str(error))
            continue
        metrics = ", ".join(f"{metric.name}{f' {less}' * metric.less_is_better}" for metric in kind.metrics)
        keys = ", ".join(kind.options_class.__dataclass_fields__)
        table.add_row(name, metrics, str(len(kind.corruptions) or ""), keys)
    _say_tables(console, table)


def run_report(options: Namespace) -> None:
    """Write a report again."""
    from ftp_hf.compare import ComparisonResults, write_report
    from ftp_hf.compare.evidence.stream_results import StreamResults, is_stream
    from ftp_hf.compare.report.stream import write_stream_report

    folder = options.folder
    results = (StreamResults if is_stream(folder) else ComparisonResults).load(folder)
    check_folder("DIR", folder, "copy its results.json to another folder, and name that")
    if isinstance(results, StreamResults):
        say(*write_stream_report(results, folder))
    else:
        say(*write_report(results, folder))


def run_trial(options: Namespace) -> None:
    """Start a trial, or fill in its page."""
    if options.action == "report":
        from ftp_hf.trial.decision import write_decision

        say(write_decision(options.folder))
        return
    if options.task is None:
        raise ValueError("--task must be given: one of those that `ftp-hf tasks` lists, or MODULE:CLASS of your own")
    from ftp_hf.trial.start import start_trial

    say(*start_trial(options.folder, options.task, options.language))


def load_run(path: Path) -> "RunSummary":
    """The `results.json` of a run."""
    from ftp_hf.runs.summary import RunSummary

    return RunSummary.load(path)


def load_rules(path: Path) -> "list[Rule]":
    """The rules of a file."""
    from ftp_hf.runs.rules import load_rules

    return load_rules(path)


def run_check(options: Namespace) -> int:
    """Check a run against rules; 1 if one is broken."""
    from rich.console import Console
    from rich.table import Table

    from ftp_hf.runs.rules import check_summary

    summary: RunSummary = options.run_dir
    results = check_summary(options.rules, summary)
    step = "" if summary.kept_step is None else f", the weights of step {summary.kept_step}"
    table = Table(title=f"{summary.name}{step}")
    table.add_column("rule", overflow="fold")
    for column in ("figure", "threshold"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for result in results:
        figures = ("" if value is None else f"{value:.4g}" for value in (result.value, result.threshold))
        rule = f"{result.rule} ({result.data})" if result.data else result.rule
        table.add_row(rule, *figures, "met" if result.passed else f"broken{f': {result.why}' if result.why else ''}")
    _say_tables(Console(markup=False), table)
    return 0 if all(result.passed for result in results) else 1


def run_push(options: Namespace) -> None:
    """Push a run as the next version."""
    from ftp_hf.hub.versions import push_run

    _quietly()
    _say(
        push_run(
            options.run_dir, options.repo_id, private=options.private, revision=options.revision, rules=options.rules
        )
    )


def run_rollback(options: Namespace) -> None:
    """Restore an earlier version."""
    from ftp_hf.hub.versions import rollback

    _quietly()
    _say(rollback(options.repo_id, options.to, revision=options.revision))


def run_history(options: Namespace) -> None:
    """List the versions."""
    from huggingface_hub.utils.tqdm import disable_progress_bars
    from rich.console import Console
    from rich.table import Table

    from ftp_hf.hub.table import abilities_table
    from ftp_hf.hub.versions import history

    disable_progress_bars()  # there would be one for each version
    table = Table(title=options.repo_id)
    for column in ("version", "date", "commit"):
        table.add_column(column, no_wrap=True)
    table.add_column("figures", overflow="fold")
    versions = history(options.repo_id)
    for version in versions:
        date = "" if version.date is None else f"{version.date:%Y-%m-%d %H:%M}"
        table.add_row(version.tag, date, version.commit[:8], version.title)
    _say_tables(Console(), table, *filter(None, [abilities_table(versions)]))


def _quietly() -> None:
    """No bars of the Hub's client without a terminal."""
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()


def _say(version: "Version") -> None:
    say(f"{version.repo_id} {version.tag} ({version.commit[:8]}): {version.title}")
