"""The config of a stream: a YAML file as of a comparison, whose data sets are those of each stage in turn."""

import dataclasses
import itertools
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ftp_hf.common.problems import Problems
from ftp_hf.compare.run.config import ComparisonConfig
from ftp_hf.compare.run.rules import read_rules, rules_in_file
from ftp_hf.compare.run.values import is_list_of, known_methods, prefixed, read_content, read_numbers
from ftp_hf.runs.rules import Rule
from ftp_hf.tasks import Task
from ftp_hf.tasks.specs import DatasetSpec

from .heads import head_per_stage
from .methods import STREAM_METHODS

__all__ = ["ALERT", "ONE_HEAD", "PER_STAGE", "ROLL_BACK", "JoinedStage", "StageConfig", "StreamConfig"]

ONE_HEAD, PER_STAGE = "one", "per-stage"
_PLACE = "{stage}"
ROLL_BACK, ALERT = "roll_back", "alert"
_NOT_OF_STREAMS = ("ood", "corruptions", "every_setting", "probe_first", "num_train_epochs")
_OWN = ("stages", "orders", "heads", "rules", "when_broken")


class JoinedStage(NamedTuple):
    """The data of another stage, trained on together with the first: a run on other data is another run."""

    name: str
    train: str
    validation: str | None


@dataclass(kw_only=True)
class StageConfig(ComparisonConfig):
    """
    A stage: a comparison whose test set is its own, and whose OOD sets are those of the other stages.

    Args:
        stage (`str`): its name.
        heads (`str`, *optional*): as of [`StreamConfig`].
        replayed (`int`, *optional*, defaults to 0): so many rows of each class of the earlier stages are trained too.
        joined (list of [`JoinedStage`], *optional*): the other stages, where all are trained at once.
        anchors (`str`, *optional*): the model whose weights are the anchors; by default that of the stage before.
        merged (`bool`, *optional*, defaults to `False`): the adapter becomes part of the weights.
    """

    stage: str
    heads: str = ONE_HEAD
    replayed: int = 0
    joined: list[JoinedStage] = field(default_factory=list)
    anchors: str | None = None
    merged: bool = False

    @property
    def task_class(self) -> type[Task[Any]]:
        """What `task` names, with a head for each stage if there are such."""
        kind = super().task_class
        return head_per_stage(kind) if self.heads == PER_STAGE else kind


@dataclass
class StreamConfig:
    """
    A stream, as asked for. In YAML it has the keys of a [`ComparisonConfig`] but for `ood`, `corruptions`, `every_setting`,
    `probe_first` and `num_train_epochs`, which is under `training`; each method has one value of each setting; in `train`,
    `validation` and `test`, `{stage}` is the stage; and:

    Args:
        name (`str`): what the stream is called; by default the name of the file.
        stages (`dict[str, StageConfig]`): by name. In YAML a list of names, or a mapping from names to what `{stage}` stands
            for.
        orders (`list[list[str]]`): of the stages. In YAML also how many there are (by default 1): the first is that of the
            stages, and the others are drawn, always the same ones.
        seeds (`list[int]`): each method runs in each order with each.
        methods (`dict[str, dict[str, float]]`): of `STREAM_METHODS`, with their settings.
        heads (`str`): `"one"` for all classes of all stages (domain- and class-incremental streams), or `"per-stage"`: a row
            competes with the classes of its own stage alone, in training and in tests (task-incremental streams).
        rules (list of [`Rule`], *optional*): what the model has to meet after each stage, on the stages before it
            (`earlier_worst >= learnt - 0.05`), on the retained sets and on its own test set (`id/test`). In YAML a list, or the
            name of a file of rules, seen from the config's folder.
        when_broken (`str`, *optional*, defaults to `"roll_back"`): with `"roll_back"`, the model before the stage takes the place
            of one that breaks a rule, and the next stage starts from it; with `"alert"` the model stays, and the report says so.
    """

    name: str
    stages: dict[str, StageConfig]
    orders: list[list[str]]
    seeds: list[int]
    methods: dict[str, dict[str, float]]
    heads: str = ONE_HEAD
    rules: list[Rule] = field(default_factory=list)
    when_broken: str = ROLL_BACK
    content: dict[str, Any] = field(default_factory=dict)
    """As it was asked for."""

    @classmethod
    def load(cls, file: Path, model: str | None = None, methods: Sequence[str] | None = None) -> "StreamConfig":
        """
        Read and check a YAML config. `model` and `methods` take the place of its own; the methods keep the settings that it
        has for them.

        Raises:
            FileNotFoundError: it does not exist.
            ValueError: as [`ComparisonConfig.load`].
        """
        content = read_content(file, model, methods)
        with prefixed(f"{file}: "):
            if isinstance(rules := content.get("rules"), str):
                content["rules"] = rules_in_file(file.parent, rules)
            return cls._build(content, file.stem)

    @classmethod
    def _build(cls, content: dict[str, Any], name: str) -> "StreamConfig":
        if unfit := [key for key in _NOT_OF_STREAMS if key in content]:
            raise ValueError(
                f"{', '.join(unfit)} is not of streams, which have the sets of all stages and `retained`, and one value of "
                "each setting"
            )
        places = _stages(content.get("stages"))
        heads = content.get("heads", ONE_HEAD)
        if heads not in (ONE_HEAD, PER_STAGE):
            raise ValueError(f"heads must be {ONE_HEAD!r} or {PER_STAGE!r}, got {heads!r}")
        rest = {key: value for key, value in content.items() if key not in _OWN}
        stages = {stage: _stage(rest, places, stage, name, heads) for stage in places}
        if heads == PER_STAGE and not next(iter(stages.values())).task_class.has_labels:
            raise ValueError(f"heads: {PER_STAGE} needs a task of classes")
        first = next(iter(stages.values()))
        return cls(
            first.name,
            stages,
            _orders(content.get("orders", 1), list(places)),
            first.seeds,
            _methods(content.get("methods"), _of_stage(rest, places, first.stage), name),
            heads,
            *_rules(content, first, list(places)),
            content,
        )

    @property
    def first(self) -> StageConfig:
        """The first stage, which has what all have in common."""
        return next(iter(self.stages.values()))


def _stages(value: Any) -> dict[str, str]:
    named = {name: name for name in value} if is_list_of(str, value) else value
    if (
        not isinstance(named, dict)
        or len(named) < max(2, len(value))
        or not all(isinstance(text, str) for text in named.values())
    ):
        raise ValueError(
            f"stages must be a list of at least two names, all different, or a mapping from names to what {_PLACE} stands for, got {value!r}"
        )
    return named


def _of_stage(content: Mapping[str, Any], places: Mapping[str, str], stage: str) -> dict[str, Any]:
    """The config of a comparison on one stage, with the test sets of the others as OOD sets."""

    def put(text: Any, name: str) -> Any:
        return text.replace(_PLACE, places[name]) if isinstance(text, str) else text

    data = {key: put(content[key], stage) for key in ("train", "validation", "test") if key in content}
    others = []
    if isinstance(content.get("test"), str):
        if _PLACE not in content["test"]:
            raise ValueError(f"test must have {_PLACE}, got {content['test']!r}: each stage has a test set of its own")
        others = [f"{name}={_without_name(put(content['test'], name))}" for name in places if name != stage]
    return {**content, **data, "ood": others}


def _without_name(text: str) -> str:
    named = DatasetSpec.parse(text)
    return text.removeprefix(f"{named.name}=")


def _stage(content: Mapping[str, Any], places: Mapping[str, str], stage: str, name: str, heads: str) -> StageConfig:
    config = ComparisonConfig.build({**_of_stage(content, places, stage), "methods": ["plain"]}, name)
    return StageConfig(
        **{option.name: getattr(config, option.name) for option in dataclasses.fields(config)}, stage=stage, heads=heads
    )


def _orders(value: Any, stages: list[str]) -> list[list[str]]:
    if isinstance(value, int) and not isinstance(value, bool):
        if not 1 <= value <= math.factorial(len(stages)):
            raise ValueError(f"orders must be between 1 and {math.factorial(len(stages))}, got {value}")
        orders, generator = [stages], random.Random(0)  # noqa: S311
        while len(orders) < value:
            drawn = generator.sample(stages, len(stages))
            orders += [drawn] if drawn not in orders else []
        return orders
    if not isinstance(value, list) or not value or any(sorted(map(str, order)) != sorted(stages) for order in value):
        raise ValueError(f"orders must be how many there are, or a list of lists of all stages, got {value!r}")
    return [list(order) for order in value]


def _rules(content: Mapping[str, Any], first: StageConfig, stages: list[str]) -> tuple[list[Rule], str]:
    """What each stage has to meet, and what becomes of one that does not."""
    when = content.get("when_broken", ROLL_BACK)
    if when not in (ROLL_BACK, ALERT):
        raise ValueError(f"when_broken must be {ROLL_BACK!r} or {ALERT!r}, got {when!r}")
    if content.get("rules") is None:
        if "when_broken" in content:
            raise ValueError(
                f"when_broken is {when!r}, but there are no rules that could be broken: give rules, or leave it out"
            )
        return [], when
    retained = [f"retained/{DatasetSpec.parse(text).name}" for text in first.retained]
    sets = ["id/test", *(f"earlier/{stage}" for stage in stages), *retained]
    return read_rules(content["rules"], sets, first.metric), when


def _methods(value: Any, content: dict[str, Any], name: str) -> dict[str, dict[str, float]]:
    problems, methods = Problems(), {}
    for method, settings in known_methods(value, STREAM_METHODS, problems):
        with problems.gathered(f"methods: {method}: "):
            methods[method] = _setting(method, settings, content, name)
    problems.raise_all()
    return methods


def _setting(name: str, given: Mapping[str, Any], content: dict[str, Any], of: str) -> dict[str, float]:
    """One value of each setting, those of the method that trains as a comparison reads them."""
    method = STREAM_METHODS[name]
    own = {key: read_numbers(key, given.get(key, default)) for key, default in method.settings.items()}
    others = {key: value for key, value in given.items() if key not in own}
    read = ComparisonConfig.build({**content, "methods": {method.trains: others}}, of).methods[method.trains]
    several = {key: values for key, values in {**read, **own}.items() if len(values) != 1}
    for key, values in several.items():
        raise ValueError(f"a stream is trained with one value of {key}: give one, such as one of {values}")
    for key, (number,) in own.items():
        if number != int(number) or number < 1:
            raise ValueError(f"{key} must be a whole number above 0, got {number:g}")
    return {key: values[0] for key, values in itertools.chain(read.items(), own.items())}
