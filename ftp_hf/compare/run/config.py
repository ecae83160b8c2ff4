"""The config of a comparison: a YAML file whose keys are checked before anything is trained."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ftp_hf.common.figures import declare_metrics
from ftp_hf.common.problems import Problems
from ftp_hf.corruptions import SEVERITIES
from ftp_hf.tasks import DataOptions, Task, task_class
from ftp_hf.tasks.find import task_name
from ftp_hf.tasks.specs import DatasetSpec

from .method_kinds import OF_TRAINING, Continued, Trained
from .methods import METHODS, PROBE
from .overlap import check_names_apart
from .rules import read_rules, rules_in_file
from .training import check_training
from .values import (
    check_keys,
    check_positive,
    is_list_of,
    known_methods,
    prefixed,
    read_content,
    read_numbers,
    wrong_types,
)

__all__ = ["ComparisonConfig", "CorruptionOptions", "left_out"]

_REQUIRED = {"model", "train", "test", "methods", "learning_rate", "seeds"}


@dataclass
class CorruptionOptions:
    """
    Corrupted copies of the ID test data.

    Args:
        kinds (`list[str]`): names in `ftp_hf.corruptions`, for images, texts or sounds; `all` in a config means all of them.
        severities (`list[int]`, *optional*, defaults to `[1, 2, 3, 4, 5]`): how strong each kind is, from 1 to 5.
        max_samples (`int`, *optional*): how many rows of the test data are corrupted, the same for each kind; by default all.
        seed (`int`, *optional*, defaults to 0): the seed of a corruption's random choices.
    """

    kinds: list[str]
    severities: list[int] = field(default_factory=lambda: list(SEVERITIES))
    max_samples: int | None = None
    seed: int = 0


@dataclass(kw_only=True)
class ComparisonConfig(DataOptions):
    """
    A comparison, as asked for. It has the options of [`DataOptions`] too. In YAML the options of the task stand beside the
    others.

    Args:
        name (`str`): what the comparison is called; by default the name of the file.
        task (`str`): what the model does: one of `ftp_hf.tasks.TASKS`, such as `"text-classification"`, or `MODULE:CLASS` of
            a [`Task`] of your own.
        model (`str`): Hub name or local folder of the pre-trained model.
        methods (`dict[str, dict[str, list[float]]]`): method → setting → values to try, all combinations of them. In YAML
            also a list of names, and single values.
        learning_rate (`list[float]`): the values to try with each method that does not name its own.
        num_train_epochs (`list[float]`, *optional*): lengths of the training to try with each learning rate, in epochs; by
            default the one under `training`.
        seeds (`list[int]`): the first is the one that settings are chosen with; all of them run the chosen one.
        reading: an instance of the task's `options_class`: how data are read.
        metric (`str`, *optional*): one of the task's, to choose and to compare by. By default its first.
        corruptions ([`CorruptionOptions`], *optional*): corrupted copies of the ID test data.
        every_setting (`bool`, *optional*, defaults to `False`): train each setting with all seeds and evaluate it on all
            data, not the chosen one alone: the report then says what a wrong one costs. Settings are chosen by ID
            validation all the same.
        rules (`list[str]`, *optional*): what a model has to meet to be put to use, such as `ood_mean >= 0.8`, in the form
            of [`parse_rules`]; in YAML also the name of a file of rules, seen from the config's folder. The report says of each method how many of its runs do. No setting is chosen by it, and no
            run is recommended whose method has one that does not.
        freeze_statistics (`bool`, *optional*, defaults to `False`): whether batch norms keep their pre-trained statistics in
            all methods that train.
        probe_first (`bool`, *optional*, defaults to `False`): whether all methods that train start with the head that the
            run of `linear-probe` with the same seed left, as `lp-ft` does.
        lora (`dict`, *optional*): arguments of `peft.LoraConfig` for the methods with adapters; OSF takes the layers alone.
        training (`dict`, *optional*): arguments of `TrainingArguments`, the same for all methods.
    """

    name: str
    task: str
    model: str
    methods: dict[str, dict[str, list[float]]]
    learning_rate: list[float]
    seeds: list[int]
    reading: Any
    metric: str = ""
    num_train_epochs: list[float] = field(default_factory=list)
    corruptions: CorruptionOptions | None = None
    every_setting: bool = False
    rules: list[str] = field(default_factory=list)
    freeze_statistics: bool = False
    probe_first: bool = False
    lora: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def load(
        cls,
        file: Path,
        model: str | None = None,
        task: type[Task[Any]] | None = None,
        methods: Sequence[str] | None = None,
    ) -> "ComparisonConfig":
        """
        Read and check a config.

        Args:
            file (`Path`): the YAML file.
            model (`str`, *optional*): takes the place of its `model`.
            task (`type`, *optional*): takes the place of its `task`; a class of a module, in which it is found again.
            methods (sequence of `str`, *optional*): take the place of its `methods`, with the settings that it has for them.

        Raises:
            FileNotFoundError: it does not exist, or is a folder.
            ValueError: it is not YAML, or a key is unknown, missing or has a value that is not allowed; names the file, the
                key and what is allowed. What else is wrong are notes of the error.
        """
        content = read_content(file, model, methods)
        if task is not None:
            content["task"] = task_name(task)
        with prefixed(f"{file}: "):
            if isinstance(rules := content.get("rules"), str):
                content["rules"] = rules_in_file(file.parent, rules)
            return cls.build(content, file.stem)

    @classmethod
    def build(cls, content: dict[str, Any], name: str) -> "ComparisonConfig":
        """
        Check what a YAML file has.

        Args:
            content (`dict`): keys and values.
            name (`str`): of the comparison, unless there is one among them.

        Raises:
            ValueError: as [`load`], without the name of the file.
        """
        content = {key: value for key, value in content.items() if value is not None}
        task = task_class(content.get("task"))
        reading = task.options_class
        own = {option.name for option in dataclasses.fields(cls)} - {"reading"} - left_out(task)
        of_task = {option.name for option in dataclasses.fields(reading)}
        problems = Problems()
        with problems.gathered():
            check_keys("", content, {*own, *of_task})
        if missing := sorted(_REQUIRED - content.keys()):
            problems.append(f"{', '.join(missing)} must be given")
        wrong = {**wrong_types("", cls, content), **wrong_types("", reading, content)}
        problems += wrong.values()
        if ("validation" in content) == ("validation_fraction" in content):
            problems.append(
                "give either validation or validation_fraction: settings are chosen on ID validation data, never on test data"
            )
        # What is wrong there has been said; the rest is looked at all the same.
        values = {"name": name, **{key: value for key, value in content.items() if key not in wrong}}
        values["reading"] = reading(**{key: values.pop(key) for key in of_task if key in values})
        problems += _read(values, task.corruptions)
        sizes = ("image_size", "image_width", "image_height", "max_length", "max_tokens", "max_new_tokens")
        for key in ("max_eval_samples", "max_train_samples", *sizes):
            if key not in wrong:
                with problems.gathered():
                    check_positive(key, content.get(key))
        names = [metric.name for metric in task.metrics]
        if values.setdefault("metric", names[0]) not in names:
            problems.append(f"metric must be one of {', '.join(names)}, got {values['metric']!r}")
        if values.get("probe_first"):
            problems += _of_probing(values.get("methods"))
        with problems.gathered():
            check_names_apart(values)
        with problems.gathered():
            check_training(values.get("training", {}), task.arguments_class)
        if values.get("num_train_epochs") and (
            twice := {"num_train_epochs", "max_steps"} & values.get("training", {}).keys()
        ):
            problems.append(f"training: {', '.join(sorted(twice))} cannot be set there beside num_train_epochs")
        if values.get("rules") and not wrong.keys() & {"ood", "retained"}:
            with problems.gathered():
                read_rules(values["rules"], _sets(values))
        problems.raise_all()
        declare_metrics(task.metrics)
        return cls(**values)

    @property
    def task_class(self) -> type[Task[Any]]:
        """What `task` names."""
        return task_class(self.task)

    @property
    def sweep_seed(self) -> int:
        """The seed that settings are chosen with."""
        return self.seeds[0]


def _read(values: dict[str, Any], corruptions: tuple[str, ...]) -> Problems:
    """Replace the values of YAML by those that a comparison works with, and return what is wrong with them."""
    problems = Problems()
    of_training: dict[str, list[float]] = {"learning_rate": []}
    for key in filter(values.__contains__, OF_TRAINING):
        of_training[key] = []  # also where it is wrong: methods may have their own
        with problems.gathered():
            of_training[key] = values[key] = read_numbers(key, values[key])
    with problems.gathered():
        if "seeds" in values:
            values["seeds"] = _seeds(values["seeds"])
    with problems.gathered():
        if "methods" in values:
            values["methods"] = _methods(values["methods"], of_training)
    with problems.gathered():
        values["corruptions"] = _corruptions(values.get("corruptions"), corruptions)
    return problems


def _seeds(value: Any) -> list[int]:
    seeds = value if is_list_of(int, value) else []
    if not seeds or len(set(seeds)) < len(seeds) or not all(0 <= seed < 2**32 for seed in seeds):
        raise ValueError(
            f"seeds must be a list of different integers from 0 to {2**32 - 1}, such as [0, 1, 2, 3, 4], got {value!r}"
        )
    return list(seeds)


def _methods(value: Any, of_training: Mapping[str, list[float]]) -> dict[str, dict[str, list[float]]]:
    problems, methods = Problems(), {}
    for name, settings in known_methods(value, METHODS, problems):
        with problems.gathered():
            methods[name] = _sweep(name, settings, of_training)
        base = METHODS[name].base
        if base and base not in value:
            problems.append(f"method {name!r} builds on {base!r}: add it to methods")
    problems.raise_all()
    return methods


def _sweep(name: str, settings: Mapping[str, Any], of_training: Mapping[str, list[float]]) -> dict[str, list[float]]:
    method, problems, given = METHODS[name], Problems(), {}
    own = {**of_training, **method.sweep} if isinstance(method, Trained) else method.sweep
    with problems.gathered():
        if isinstance(method, Trained) and (alone := {*OF_TRAINING} & settings.keys() - own.keys()):
            raise ValueError(
                f"methods: {name}: {', '.join(sorted(alone))} must be given for all methods, beside learning_rate"
            )
        check_keys(f"of methods: {name}: ", settings, own)
    for key, value in settings.items():
        with problems.gathered():
            given[key] = read_numbers(f"methods: {name}: {key}", value)
    problems.raise_all()
    if isinstance(method, Continued):
        with prefixed(f"methods: {name}: "):
            method.check({key: _single(key, given.get(key, values)) for key, values in own.items()})
    return {key: list(given.get(key, values)) for key, values in own.items()}


def _of_probing(methods: Any) -> list[str]:
    if not isinstance(methods, dict | list):
        return []  # which was said
    problems = []
    if PROBE not in methods:
        problems.append(f"probe_first: the methods start with the head of {PROBE!r}: add it to methods")
    if "lp-ft" in methods:
        problems.append("probe_first: 'lp-ft' would be 'plain', which is probed first too: leave it out of methods")
    return problems


def _single(key: str, values: Sequence[float]) -> float:
    if len(values) > 1:
        raise ValueError(f"{key} must be a single number, got {list(values)!r}")
    return values[0]


def _corruptions(value: Any, allowed: tuple[str, ...]) -> CorruptionOptions | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ValueError(f"corruptions must be a mapping, such as {{kinds: all}}, got {value!r}")
    check_keys("of corruptions: ", value, [option.name for option in dataclasses.fields(CorruptionOptions)])
    Problems(wrong_types("corruptions: ", CorruptionOptions, {**value, "kinds": None}).values()).raise_all()
    kinds = list(allowed) if value.get("kinds", "all") == "all" else value["kinds"]
    if not is_list_of(str, kinds) or not kinds or not set(kinds) <= set(allowed):
        raise ValueError(f"corruptions: kinds must be 'all' or a list of {', '.join(allowed)}, got {kinds!r}")
    options = CorruptionOptions(**{**value, "kinds": kinds})
    if (
        not is_list_of(int, options.severities)
        or not options.severities
        or not set(options.severities) <= set(SEVERITIES)
    ):
        raise ValueError(f"corruptions: severities must be a list of {SEVERITIES}, got {options.severities!r}")
    check_positive("corruptions: max_samples", options.max_samples)
    return options


def _sets(content: Mapping[str, Any]) -> list[str]:
    """The sets that runs are evaluated on, as rules call them."""
    several = [
        f"{kind}/{DatasetSpec.parse(text).name}" for kind in ("ood", "retained") for text in content.get(kind, [])
    ]
    return ["validation", "id/test", *several]


def left_out(task: type[Task[Any]]) -> set[str]:
    """The keys that a task has no use for: those about labels, where it has none."""
    return set() if task.has_labels else {"label_column", "label_aliases"}
