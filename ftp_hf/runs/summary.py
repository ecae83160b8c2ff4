"""The facts of a finished run, as plain data: model cards, comparisons and the Hub's history are made of them."""

import dataclasses
import hashlib
import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ftp_hf.common.figures import main_metric, show
from ftp_hf.common.files import write_text
from ftp_hf.common.folder import RESULTS
from ftp_hf.common.records import build, plain

from .facts import (
    PRETRAINED,
    BaseModel,
    DataFacts,
    Evaluation,
    GuardCheck,
    Hardware,
    LogRow,
    OtherModel,
    ProjectionFacts,
    StageFacts,
)

__all__ = ["RunSummary", "mean_by_seed"]


@dataclass
class RunSummary:
    """
    A finished run. `to_json` and `load` are a round trip; what is empty is not written.

    Args:
        name (`str`): what the model is called.
        method (`str`): `"ftp"`, `"plain"`, or the name of one of [`ftp_hf.baselines`].
        task (`str`, *optional*): as the Hub's pipelines are called, such as `"text-classification"`.
        architecture (`str`, *optional*): the class of the model.
        base_model ([`BaseModel`], *optional*): what training started from.
        adapter (`str`, *optional*): PEFT's type of the adapter, if one was trained.
        labels (list of `str`, *optional*): the classes that it tells apart, by index.
        problem_type (`str`, *optional*): as the model's config calls the kind of its head, `"regression"` or
            `"multi_label_classification"`, where it does not choose one of the classes.
        seed (`int`, *optional*): of the weights that are kept.
        other_seeds (list of `int`, *optional*): with which it was trained, too, but in another configuration, as after an update
            of a library: there is no mean over them.
        steps, kept_step (`int`, *optional*): how many steps were taken, and after which the weights are kept.
        optimizer (`str`, *optional*): the base optimizer as it was, with its options.
        projection ([`ProjectionFacts`], *optional*): what FTP did.
        results (list of [`Evaluation`], *optional*): of this method, with those of other seeds.
        comparisons (list of [`OtherModel`], *optional*): other models on the same data.
        data (list of [`DataFacts`], *optional*): what it was trained and evaluated on.
        hyperparameters, defaults (`dict`, *optional*): the training arguments that differ from their default, and the
            rest.
        log (list of [`LogRow`], *optional*): by step.
        hardware ([`Hardware`], *optional*): what the run took.
        guard (list of [`GuardCheck`], *optional*): what [`RobustnessGuard`] found while it trained, by step.
        stages (list of [`StageFacts`], *optional*): the trainings that this one followed, the first one first.
        versions (`dict[str, str]`, *optional*): of Python and the libraries.
        commands (list of `str`, *optional*): what was run, in order.
        commit (`str`, *optional*): of the code, where it is known.
        license, language (`str` or `list[str]`, *optional*): of the model, where they are known.
        tags (list of `str`, *optional*): more of them, for the Hub.
    """

    name: str
    method: str
    task: str | None = None
    architecture: str | None = None
    base_model: BaseModel | None = None
    adapter: str | None = None
    labels: list[str] = field(default_factory=list)
    problem_type: str | None = None
    seed: int | None = None
    other_seeds: list[int] = field(default_factory=list)
    steps: int | None = None
    kept_step: int | None = None
    optimizer: str | None = None
    projection: ProjectionFacts | None = None
    results: list[Evaluation] = field(default_factory=list)
    comparisons: list[OtherModel] = field(default_factory=list)
    data: list[DataFacts] = field(default_factory=list)
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)
    log: list[LogRow] = field(default_factory=list)
    hardware: Hardware | None = None
    guard: list[GuardCheck] = field(default_factory=list)
    stages: list[StageFacts] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)
    commit: str | None = None
    license: str | None = None
    language: str | list[str] | None = None
    tags: list[str] = field(default_factory=list)

    @property
    def config_hash(self) -> str:
        """Of what defines the run, without its seed: twelve characters that differ where the settings do."""
        settings = {
            "method": self.method,
            "base_model": dataclasses.asdict(self.base_model) if self.base_model else None,
            "optimizer": self.optimizer,
            "data": [dataclasses.asdict(data) for data in self.data],
            "arguments": {name: value for name, value in self.arguments.items() if name not in ("seed", "data_seed")},
        }
        return hashlib.sha256(json.dumps(plain(settings), sort_keys=True).encode()).hexdigest()[:12]

    @property
    def metric(self) -> str | None:
        """
        The metric that the figures are in: accuracy where it was measured, the loss where nothing else was. Retained data
        may be in others.
        """
        of_task = [result for result in self.results if result.kind != "retained"] or self.results
        return main_metric(name for result in of_task for name in result.metrics)

    @property
    def arguments(self) -> dict[str, Any]:
        """All training arguments that are known."""
        return {**self.defaults, **self.hyperparameters}

    @property
    def kept_epoch(self) -> float | None:
        """After how many epochs the weights are kept; `None` where it is not known."""
        if (logged := next((row.epoch for row in self.log if row.step == self.kept_step), None)) is not None:
            return logged
        epochs = self.arguments.get("num_train_epochs")
        if not epochs or not self.steps or self.kept_step is None or self.arguments.get("max_steps", -1) > 0:
            return None  # max_steps takes the place of num_train_epochs
        return float(epochs) * self.kept_step / self.steps

    @property
    def pretrained(self) -> OtherModel | None:
        """The model that training started from, if it was evaluated on the same data."""
        return next((other for other in self.comparisons if other.name == PRETRAINED), None)

    def of_kind(self, kind: str, results: Sequence[Evaluation] | None = None) -> list[Evaluation]:
        """The evaluations on `"id"`, `"earlier"`, `"ood"` or `"validation"` data, of this method or among `results`."""
        return [result for result in (self.results if results is None else results) if result.kind == kind]

    def value(self, data: str, metric: str | None = None, kind: str | None = None) -> float | None:
        """
        The figure of the kept weights on a data set; `None` where it was not measured.

        Args:
            data (`str`): its name.
            metric (`str`, *optional*): by default [`metric`].
            kind (`str`, *optional*): of the data set, where sets of several kinds have one name.
        """
        for result in self.results:
            values = result.figures(metric or self.metric or "")
            if result.data == data and kind in (None, result.kind) and str(self.seed) in values:
                return values[str(self.seed)]
        return None

    def data_facts(self, name: str, kind: str | None = None) -> DataFacts | None:
        """
        What is known of a data set that was evaluated on, or, where nothing else has the name, trained on.

        Args:
            name (`str`): what the results call it.
            kind (`str`, *optional*): as for [`value`].
        """
        found = [data for data in self.data if data.name == name and (kind is None or data.kind in (kind, "train"))]
        return next((data for data in found if data.kind != "train"), found[0] if found else None)

    def sizes(self, kind: str | None = None) -> dict[str, int | None]:
        """The rows of each data set that it was evaluated on, of a kind or of all, as far as they are known."""
        facts = {
            result.data: self.data_facts(result.data, result.kind)
            for result in self.results
            if kind in (None, result.kind)
        }
        return {name: data.size if data else None for name, data in sorted(facts.items())}

    def headline(self) -> str:
        """
        The figures of the kept weights in a line: `"ID 97.4, OOD mean 93.7 (7 sets)"`, with the metric where it is not
        accuracy, and retained data beside what they were before. Empty without any.
        """
        if (metric := self.metric) is None:
            return ""
        seed = str(self.seed)
        parts: list[str] = []
        for kind, label in (
            ("id", "ID"),
            ("earlier", "earlier stages"),
            ("ood", "OOD mean"),
            ("validation", "validation"),
        ):
            means = mean_by_seed(self.of_kind(kind), metric)
            if seed in means and not (kind == "validation" and parts):
                count = len(self.of_kind(kind))
                parts.append(f"{label} {show(means[seed], metric)}" + (f" ({count} sets)" if count > 1 else ""))
        line = ", ".join([*parts, *self._retained()])
        return line if metric == "accuracy" or not line else f"{metric.replace('_', ' ')}: {line}"

    def _retained(self) -> list[str]:
        """`"retained loss 2.9 (before 2.8, 3 sets)"`: the means over the sets of each metric."""
        sets: dict[str, list[Evaluation]] = {}
        for result in self.of_kind("retained"):
            sets.setdefault(main_metric(result.metrics) or "", []).append(result)
        parts = []
        for metric, results in sets.items():
            before = self.of_kind("retained", self.pretrained.results) if self.pretrained else []
            same = [other for other in before if any(other.data == result.data for result in results)]
            started = mean_by_seed(same, metric).values() if len(same) == len(results) else ()
            about = [f"before {show(value, metric)}" for value in (*started,)[:1]]
            about += [f"{len(results)} sets"] if len(results) > 1 else []
            name = "" if metric == self.metric else f" {metric.replace('_', ' ')}"
            if (value := mean_by_seed(results, metric).get(str(self.seed))) is not None:
                parts.append(f"retained{name} {show(value, metric)}" + (f" ({', '.join(about)})" if about else ""))
        return parts

    def to_json(self) -> str:
        """As JSON, in the order of the fields."""
        content = {**plain(self), "config_hash": self.config_hash}
        return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def save(self, path: str | Path) -> Path:
        """
        Write `results.json`.

        Args:
            path (`str` or `Path`): a run's folder, or the file.

        Returns:
            `Path`: the file.
        """
        file = _file(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, self.to_json())
        return file

    @classmethod
    def load(cls, path: str | Path) -> "RunSummary":
        """
        Read `results.json`.

        Args:
            path (`str` or `Path`): a run's folder, or the file.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is not a summary of this version.
        """
        file = _file(path)
        if not file.is_file():
            raise FileNotFoundError(
                f"{file} does not exist: did the run finish? Trainer.save_run_summary() and the examples write it"
            )
        try:
            return build(cls, json.loads(file.read_text(encoding="utf-8")), derived=("config_hash",))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{file} is not a run's summary: {error}. If another version of ftp_hf wrote it, run it again with this one"
            ) from error


def mean_by_seed(results: Iterable[Evaluation], metric: str) -> dict[str, float]:
    """The mean over data sets, for each seed that was evaluated on all of them."""
    values = [result.figures(metric) for result in results]
    seeds = [seed for seed in (values[0] if values else ()) if all(seed in other for other in values)]
    return {seed: statistics.fmean(value[seed] for value in values) for seed in seeds}


def _file(path: str | Path) -> Path:
    return Path(path) if Path(path).suffix == ".json" else Path(path) / RESULTS
