"""The data of a task: training, validation, ID test, OOD and retained sets; of a task with labels, in one label space."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from datasets import ClassLabel, Dataset

from ftp_hf.runs.data import data_facts
from ftp_hf.runs.facts import DataFacts

from .specs import DatasetSpec, check_labels, check_rows, is_listed, label_names

__all__ = ["DataOptions", "TaskData", "naming"]


@dataclass
class DataOptions:
    """
    What data a task has, as flags of a script or keys of a config.

    Args:
        train (`str`): training data; a data set is `[NAME=]SOURCE[:CONFIG][#SPLIT][?COLUMN=VALUE]`, with a Hub name or
            a local path for `SOURCE`.
        test (`str`): ID test data.
        validation (`str`, *optional*): ID data to choose hyper-parameters on.
        validation_fraction (`float`, *optional*): instead of `validation`, hold out this share of the training data,
            stratified by label and the same for every seed.
        ood (`list[str]`, *optional*, defaults to `[]`): OOD test data, each evaluated on its own.
        retained (`list[str]`, *optional*, defaults to `[]`): data of what the pre-trained model can do already, and should
            not forget, each evaluated on its own.
        label_column (`str`, *optional*, defaults to `"label"`): the column of class indices.
        label_aliases (`list[str]`, *optional*, defaults to `[]`): `OTHER=LABEL` for each label that a data set calls
            otherwise than the training data does.
        max_train_samples (`int`, *optional*): train on the first rows only.
        train_fraction (`float`, *optional*): train on this share of the rows only, stratified by label and the same for
            every seed.
    """

    train: str = field(
        metadata={
            "help": "Training data. A data set is [NAME=]SOURCE[:CONFIG][#SPLIT][?COLUMN=VALUE], with a Hub name or a "
            "local path for SOURCE."
        }
    )
    test: str = field(metadata={"help": "ID test data."})
    validation: str | None = field(default=None, metadata={"help": "ID data to choose hyper-parameters on."})
    validation_fraction: float | None = field(
        default=None,
        metadata={
            "help": "Instead of validation, hold out this share of the training data, stratified by label and the same "
            "for every seed."
        },
    )
    ood: list[str] = field(default_factory=list, metadata={"help": "OOD test data, each evaluated on its own."})
    retained: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Data of what the pre-trained model can do already, and should not forget, each evaluated on its own."
        },
    )
    label_column: str = field(default="label", metadata={"help": "The column of class indices."})
    label_aliases: list[str] = field(
        default_factory=list,
        metadata={"help": "OTHER=LABEL for each label that a data set calls otherwise than the training data does."},
    )
    max_train_samples: int | None = field(default=None, metadata={"help": "Train on the first rows only."})
    train_fraction: float | None = field(
        default=None,
        metadata={"help": "Train on this share of the rows only, stratified by label and the same for every seed."},
    )


@dataclass
class TaskData:
    """
    The loaded data sets.

    Args:
        train, test (`Dataset`): as in [`DataOptions`].
        validation (`Dataset`, *optional*): likewise.
        ood, retained (`dict[str, Dataset]`): by name.
        labels (list of `str`): the names of the classes, by index; empty for a task without labels.
        facts (`dict[tuple[str, str], DataFacts]`): by kind and name.
    """

    train: Dataset
    validation: Dataset | None
    test: Dataset
    ood: dict[str, Dataset]
    retained: dict[str, Dataset]
    labels: list[str]
    facts: dict[tuple[str, str], DataFacts]

    @classmethod
    def load(cls, options: DataOptions, *, has_labels: bool = True) -> "TaskData":
        """
        Load the data sets, from local files or from the Hub.

        Args:
            options ([`DataOptions`]): which.
            has_labels (`bool`, *optional*, defaults to `True`): whether each row has a class index in `label_column`, or a
                list of them, as [`Task`] says. Without, and with lists, parts of the training data are drawn as they come.

        Raises:
            ValueError: a data set is empty, lacks a column, or is not labelled as the training data is; two sets of a kind
                have one name; options contradict each other.
        """
        _check(options)
        aliases = _aliases(options.label_aliases)
        train = _load("train", options.train)
        labels: list[str] = []
        column = options.label_column if has_labels else None
        if column is not None:
            with naming("train"):
                labels = label_names(train, column)
                check_labels("train", train, column, labels, aliases)
        validation = _load("validation", options.validation) if options.validation else None
        if options.validation_fraction is not None:
            with naming("validation_fraction"):
                train, validation = _split(train, options.validation_fraction, column, labels)
        if options.train_fraction is not None:
            with naming("train_fraction"):
                train = _split(train, 1 - options.train_fraction, column, labels)[0]
        if options.max_train_samples is not None:
            train = train.select(range(min(options.max_train_samples, len(train))))
        test = _load("test", options.test)
        held_out = options.validation_fraction is not None
        facts = [_facts(train, "train", "train", options.train)]
        if validation:
            facts.append(_facts(validation, "validation", "validation", options.validation or options.train, held_out))
        facts.append(_facts(test, "test", "id", options.test))
        named: dict[str, dict[str, Dataset]] = {"ood": {}, "retained": {}}
        for kind, sets in named.items():
            for name, text in _by_name(kind, getattr(options, kind)).items():
                sets[name] = _load(kind, text)
                facts.append(_facts(sets[name], name, kind, text))
        by_place = {(fact.kind, fact.name): fact for fact in facts}
        loaded = cls(train, validation, test, named["ood"], named["retained"], labels, by_place)
        for key, name, dataset in loaded.named():
            with naming(key):
                check_rows(name, dataset)
                if column is not None:
                    check_labels(name, dataset, column, labels, aliases)
        return loaded

    def named(self) -> list[tuple[str, str, Dataset]]:
        """The option that each data set comes from, what it is called, and itself."""
        single = {"train": self.train, "validation": self.validation, "test": self.test}
        return [
            *((key, key, dataset) for key, dataset in single.items() if dataset is not None),
            *(("ood", name, dataset) for name, dataset in self.ood.items()),
            *(("retained", name, dataset) for name, dataset in self.retained.items()),
        ]

    def evaluations(self) -> list[tuple[DataFacts, Dataset]]:
        """What a model is evaluated on, in this order: validation (where there is one), ID test, OOD and retained sets."""
        named = {("validation", "validation"): self.validation, ("id", "test"): self.test}
        for kind, sets in (("ood", self.ood), ("retained", self.retained)):
            named |= {(kind, name): dataset for name, dataset in sets.items()}
        return [(self.facts[key], dataset) for key, dataset in named.items() if dataset is not None]

    def map(self, transform: Callable[[Dataset], Dataset]) -> "TaskData":
        """The same data sets, each transformed (the training data too)."""
        validation = None if self.validation is None else transform(self.validation)
        ood = {name: transform(dataset) for name, dataset in self.ood.items()}
        retained = {name: transform(dataset) for name, dataset in self.retained.items()}
        return replace(
            self,
            train=transform(self.train),
            validation=validation,
            test=transform(self.test),
            ood=ood,
            retained=retained,
        )


@contextmanager
def naming(key: str) -> Iterator[None]:
    """Say in an error which option it is about."""
    try:
        yield
    except (FileNotFoundError, ValueError) as error:
        kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
        raise kind(f"{key}: {error}") from error


def _check(options: DataOptions) -> None:
    for name in ("validation_fraction", "train_fraction"):
        share = getattr(options, name)
        if share is not None and not 0 < share < 1:
            raise ValueError(f"{name} must be between 0 and 1, got {share}")
    if options.validation is not None and options.validation_fraction is not None:
        raise ValueError("give either validation or validation_fraction, not both")
    if options.train_fraction is not None and options.max_train_samples is not None:
        raise ValueError("give either train_fraction or max_train_samples, not both")


def _by_name(kind: str, texts: list[str]) -> dict[str, str]:
    names = [DatasetSpec.parse(text).name for text in texts]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"{kind} has several data sets named {sorted(repeated)}: name them with NAME=SOURCE")
    return dict(zip(names, texts, strict=True))


def _load(key: str, text: str) -> Dataset:
    with naming(key):
        return DatasetSpec.parse(text).load()


def _aliases(texts: list[str]) -> dict[str, str]:
    if unclear := [text for text in texts if "=" not in text]:
        raise ValueError(f"label_aliases: {unclear[0]!r} is not of the form OTHER=LABEL")
    return dict(text.split("=", 1) for text in texts)


def _split(rows: Dataset, share: float, column: str | None, labels: list[str]) -> tuple[Dataset, Dataset]:
    if column is not None and is_listed(rows, column):
        column = None  # which class would it be
    if column is not None and not isinstance(rows.features[column], ClassLabel):  # which `datasets` asks for
        rows = rows.cast_column(column, ClassLabel(names=labels))
    parts = rows.train_test_split(share, seed=0, stratify_by_column=column)
    return parts["train"], parts["test"]


def _facts(dataset: Dataset, name: str, kind: str, text: str, held_out: bool = False) -> DataFacts:
    spec = DatasetSpec.parse(text)
    if kind == "train" and text.startswith(f"{spec.name}="):
        name = spec.name
    split = spec.value if spec.column == "split" else None if Path(spec.source).is_file() else spec.split
    origin = {"config": spec.config, "split": f"{split or 'train'}, held out" if held_out else split}
    return data_facts(dataset, name, kind, spec.source, **{key: value for key, value in origin.items() if value})
