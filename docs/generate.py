"""
Write what the pages take from elsewhere: from the package the keys of a config and its schema, the command's options and the
public names; from the files of what was measured, tables (`measured.py`).

    python docs/generate.py
"""

import argparse
import importlib
import inspect
import json
import re
import types
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Union, get_args, get_origin

from choosing import beside_validation, choosing
from measured import (
    adapters,
    demo,
    each_method,
    every_study,
    gpu_steps,
    gpu_training,
    methods,
    sharding,
    training,
)
from streamed import after_stages, by_units, small_rate, streams
from wrong_rates import every_method, four, lengths, rates

from ftp_hf.cli import make_parser
from ftp_hf.common.figures import SPACE
from ftp_hf.compare.run.keys import Key, comparison_keys, corruption_keys, keys_of
from ftp_hf.compare.run.method_kinds import Trained
from ftp_hf.compare.run.methods import METHODS
from ftp_hf.compare.run.schema import config_schema
from ftp_hf.compare.run.training import DECIDED
from ftp_hf.corruptions import AUDIO_CORRUPTIONS, DENSE_IMAGE_CORRUPTIONS, IMAGE_CORRUPTIONS, TEXT_CORRUPTIONS
from ftp_hf.tasks import TASKS, task_class

ROOT = Path(__file__).parents[1]

PACKAGES = {
    "ftp_hf": "what most scripts need",
    "ftp_hf.optim": "the optimizers",
    "ftp_hf.trainer": "the Trainers",
    "ftp_hf.adapters": "adapters of PEFT",
    "ftp_hf.pretrained": "where a model came from",
    "ftp_hf.projection": "the equations",
    "ftp_hf.tasks": "tasks",
    "ftp_hf.corruptions": "natural corruptions",
    "ftp_hf.baselines": "the methods that FTP is compared with",
    "ftp_hf.compare": "comparisons",
    "ftp_hf.distance": "distance in weights",
    "ftp_hf.function_distance": "distance in answers",
    "ftp_hf.sensitivity": "sensitivity",
    "ftp_hf.runs": "facts of a run, and rules",
    "ftp_hf.cards": "model cards",
    "ftp_hf.checkpoints": "folders of checkpoints",
    "ftp_hf.hub": "versions on the Hub",
}
"""Whose public names have a page, and what each is about."""

_TRAINING = """\
Any field of the task's training arguments (`TrainingArguments`, `Seq2SeqTrainingArguments` for speech recognition, TRL's \
`SFTConfig` for language models). A run keeps the weights of the epoch that is best on the ID validation data; with \
`load_best_model_at_end: false` those of its last epoch. The comparison itself decides, alike for all methods,"""
_UNSAID = {"name": "the file's name", "metric": "the task's first"}
_FORM = re.compile(r"(?<!`)(\[NAME=\]\S+\])(?!`)")  # of a data set, which is no link


def config_keys() -> str:
    """The keys of all comparisons, of corruptions, of each task and of each method."""
    parts = ["## All tasks", _keys(comparison_keys())]
    parts += ["## Under `corruptions`", _keys(corruption_keys())]
    parts.append("## Of a task")
    by_keys: dict[str, list[str]] = {}
    for name in TASKS:
        by_keys.setdefault(_keys(keys_of(task_class(name).options_class)), []).append(f"`{name}`")
    parts += [f"### {', '.join(names)}\n\n{table}" for table, names in by_keys.items()]
    parts += ["## Under `methods`", _methods()]
    parts += [
        "## Under `training`",
        f"{_TRAINING} {', '.join(f'`{name}`' for name in sorted(DECIDED))}.",
    ]
    return "\n\n".join(parts)


def _keys(keys: Iterable[Key]) -> str:
    rows = [f"| `{key.name}` | {_kind(key.hint)} | {_default(key)} | {_cell(key.help)} |" for key in keys]
    return "\n".join(["| key | value | default | meaning |", "| --- | --- | --- | --- |", *rows])


def _kind(hint: Any) -> str:
    kinds = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    words = {str: "text", bool: "`true` or `false`", int: "whole number", float: "number"}
    lists = {str: "texts", int: "whole numbers", float: "numbers"}
    return " or ".join(
        words.get(kind) or (f"list of {lists[get_args(kind)[0]]}" if get_origin(kind) is list else "mapping")
        for kind in kinds
        if kind is not type(None)
    )


def _default(key: Key) -> str:
    if key.is_required:
        return "must be given"
    if key.name in _UNSAID:
        return _UNSAID[key.name]
    if key.default is None or key.default in ([], {}):
        return "none"
    return f"`{json.dumps(key.default)}`"


def _methods() -> str:
    rows = []
    for name, method in METHODS.items():
        own = {"learning_rate": "those of the config"} if isinstance(method, Trained) else {}
        swept = {setting: ", ".join(f"{value:g}" for value in values) for setting, values in method.sweep.items()}
        settings = "; ".join(f"`{setting}`: {values}" for setting, values in {**own, **swept}.items())
        rows.append(f"| `{name}` | {settings} | {f'`{method.base}`' if method.base else ''} |")
    return "\n".join(["| method | its settings, and what is tried | needs |", "| --- | --- | --- |", *rows])


def corruption_kinds() -> str:
    """What can be corrupted, and by which kinds."""
    rows = []
    for of, kinds in {"images": IMAGE_CORRUPTIONS, "texts": TEXT_CORRUPTIONS, "sounds": AUDIO_CORRUPTIONS}.items():
        moved = set(kinds) - set(DENSE_IMAGE_CORRUPTIONS) if of == "images" else ()
        rows.append(f"| {of} | {', '.join(f'*`{kind}`*' if kind in moved else f'`{kind}`' for kind in kinds)} |")
    return "\n".join(["| of | kinds |", "| --- | --- |", *rows])


def command_options() -> str:
    """The subcommands with their arguments."""
    parser = make_parser(())
    parts = []
    for name, command in parser.commands.items():
        rows = [
            f"| {_invocation(action)} | {_cell((action.help or '').replace('%%', '%'))} |"
            for action in command._actions
            if not isinstance(action, argparse._HelpAction)
        ]
        table = ["", "| argument | meaning |", "| --- | --- |", *rows] if rows else []
        parts.append("\n".join([f"## ftp-hf {name}", "", command.description or "", *table]))
    return "\n\n".join(parts)


def _invocation(action: argparse.Action) -> str:
    words = _cell(action.metavar or ("|".join(action.choices) if action.choices else ""))
    if not action.option_strings:
        return f"`{words}`"
    return f"`{' '.join([action.option_strings[-1], words]).strip()}`{', required' if action.required else ''}"


def reference(package: str, about: str) -> str:
    """The page of a package: its public names with the first sentence of each, and what mkdocstrings makes of them."""
    module = importlib.import_module(package)
    lines = [f"# {package}: {about}", "", _summary(inspect.getdoc(module) or ""), ""]
    lines += ["| name | what it is |", "| --- | --- |"]
    lines += [f"| `{name}` | {_cell(_about(module, name))} |" for name in module.__all__]
    for name in module.__all__ if package != "ftp_hf" else ():
        lines += ["", f"::: {_place(module, name)}"]
    return "\n".join(lines) + "\n"


def _place(module: types.ModuleType, name: str) -> str:
    """Where a name is defined, which is where its docstring is found without importing it."""
    found = getattr(module, name)
    where = getattr(found, "__module__", "")
    if inspect.isclass(found) or inspect.isfunction(found):
        return f"{where}.{name}"
    source = Path(inspect.getfile(module)).with_suffix(".py").read_text(encoding="utf-8")
    origin = re.search(rf"from \.(\w+) import [^\n]*\b{name}\b", source)
    return f"{module.__name__}.{origin.group(1)}.{name}" if origin else f"{module.__name__}.{name}"


def _about(module: types.ModuleType, name: str) -> str:
    found = getattr(module, name)
    if not (inspect.isclass(found) or inspect.isfunction(found)):
        return "a constant"
    return _summary(inspect.getdoc(found) or "")


def _summary(docstring: str) -> str:
    if docstring.startswith("Args:"):
        return "Options, a dataclass."
    paragraph = " ".join(docstring.partition("\n\n")[0].split())
    # What a colon announces, an example or a list, is not in a table.
    return re.sub(r":$", ".", re.sub(r"\[`~?([^`]+)`\](?!\()", r"`\1`", paragraph))


def _cell(text: str) -> str:
    text = _FORM.sub(r"`\1`", " ".join(text.split()))
    return text.replace("|", "\\|")


def between(page: str, name: str, content: str) -> str:
    """A page with new content between the marks of that name."""
    begin, end = f"<!-- generated: {name} -->", f"<!-- end of {name} -->"
    before, found, rest = page.partition(begin)
    _, ended, after = rest.partition(end)
    if not (found and ended):
        raise ValueError(f"the page has no {begin} … {end}")
    return f"{before}{begin}\n\n{content}\n\n{end}{after}"


MARKED: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "README.md": {"four models": lambda: f"{four()}\n\n{after_stages()}"},
    "docs/results.md": {
        "every study": every_study,
        "rates": rates,
        "every method, Whisper": partial(every_method, "spoken_digits_methods", ("ood", "retained/read_speech")),
        "every method, MiniLM": partial(every_method, "sts_embeddings_methods"),
        "every method, school problems": partial(every_method, "smollm2_gsm8k_methods", ("id", "retained/web")),
        "every method, digits": partial(every_method, "digits_rates_lengths"),
        "lengths": lengths,
        "choosing": choosing,
        "beside ID validation": beside_validation,
        "methods": methods,
        "adapters": adapters,
        "demo": demo,
    },
    "docs/methods.md": {
        "each method": each_method,
        "every method, SmolLM2": partial(every_method, "smollm2_gsm8k", ("id", "retained/web")),
    },
    "docs/streams.md": {"streams": streams, "by units": by_units, "small rate": small_rate},
    "docs/performance.md": {"training": training, "steps on a GPU": gpu_steps, "training on a GPU": gpu_training},
    "docs/distributed.md": {"sharding": sharding},
    "docs/config.md": {"keys": config_keys},
    "docs/corruptions.md": {"kinds": corruption_kinds},
    "docs/command.md": {"options": command_options},
}
SCHEMA = "docs/compare.schema.json"


def pages() -> dict[str, str]:
    """Path in the repository → what the file has to be."""
    written = {}
    for path, parts in MARKED.items():
        written[path] = (ROOT / path).read_text(encoding="utf-8")
        for name, content in parts.items():
            written[path] = between(written[path], name, content())
    written[SCHEMA] = json.dumps(config_schema(), indent=1, ensure_ascii=False) + "\n"
    for package, about in PACKAGES.items():
        written[f"docs/reference/{package}.md"] = reference(package, about)
    return {path: text.replace(SPACE, " ") for path, text in written.items()}


def main() -> None:
    for path, text in pages().items():
        file = ROOT / path
        file.parent.mkdir(exist_ok=True)
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")
            print(path)


if __name__ == "__main__":
    main()
