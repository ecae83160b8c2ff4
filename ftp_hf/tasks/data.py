"""The data of a classification task: training, validation, ID test and OOD sets, all in one label space."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from datasets import ClassLabel, Dataset

from ftp_hf.runs.data import data_facts
from ftp_hf.runs.facts import DataFacts

from .specs import DatasetSpec, check_labels, label_names

__all__ = ["DataOptions", "TaskData", "naming", "sample"]


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
        label_column (`str`, *optional*, defaults to `"label"`): the column of class indices.
        label_aliases (`list[str]`, *optional*, defaults to `[]`): `OTHER=LABEL` for each label that a data set calls
            otherwise than the training data does.
        max_train_samples (`int`, *optional*): train on the first rows only.
        train_fraction (`float`, *optional*): train on this share of the rows only, stratified by label and the same for
            every seed.
        max_eval_samples (`int`, *optional*): evaluate on so many rows of each test set only, drawn once and the same for
            every seed. The validation data stay whole.
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
    max_eval_samples: int | None = field(
        default=None,
        metadata={
            "help": "Evaluate on so many rows of each test set only, drawn once and the same for every seed. The "
            "validation data stay whole."
        },
    )


@dataclass
class TaskData:
    """
    The loaded data sets.

    Args:
        train, test (`Dataset`): as in [`DataOptions`].
        validation (`Dataset`, *optional*): likewise.
        ood (`dict[str, Dataset]`): by name.
        labels (list of `str`): the names of the classes, by index.
        facts (`dict[tuple[str, str], DataFacts]`): by kind and name.
    """

    train: Dataset
    validation: Dataset | None
    test: Dataset
    ood: dict[str, Dataset]
    labels: list[str]
    facts: dict[tuple[str, str], DataFacts]

    @classmethod
    def load(cls, options: DataOptions) -> "TaskData":
        """
        Load the data sets, from local files or from the Hub.

        Args:
            options ([`DataOptions`]): which.

        Raises:
            ValueError: a data set is empty, lacks a column, or is not labelled as the training data is; two OOD sets
                have one name; options contradict each other.
        """
        for name in ("validation_fraction", "train_fraction"):
            share = getattr(options, name)
            if share is not None and not 0 < share < 1:
                raise ValueError(f"{name} must be between 0 and 1, got {share}")
        for name in ("max_train_samples", "max_eval_samples"):
            count = getattr(options, name)
            if count is not None and count < 1:
                raise ValueError(f"{name} must be positive, got {count}")
        if options.validation is not None and options.validation_fraction is not None:
            raise ValueError("give either validation or validation_fraction, not both")
        if options.train_fraction is not None and options.max_train_samples is not None:
            raise ValueError("give either train_fraction or max_train_samples, not both")
        aliases = _aliases(options.label_aliases)
        train = _load("train", options.train)
        with naming("train"):
            labels = label_names(train, options.label_column)
            check_labels("train", train, options.label_column, labels, aliases)
        validation = _load("validation", options.validation) if options.validation else None
        if options.validation_fraction is not None:
            with naming("validation_fraction"):
                train, validation = _split(train, options.validation_fraction, options.label_column, labels)
        if options.train_fraction is not None:
            with naming("train_fraction"):
                train = _split(train, 1 - options.train_fraction, options.label_column, labels)[0]
        if options.max_train_samples is not None:
            train = train.select(range(min(options.max_train_samples, len(train))))
        test = _load("test", options.test)
        specs = [DatasetSpec.parse(spec) for spec in options.ood]
        if repeated := {spec.name for spec in specs if [other.name for other in specs].count(spec.name) > 1}:
            raise ValueError(f"ood has several data sets named {sorted(repeated)}: name them with NAME=SOURCE")
        ood = {spec.name: _load("ood", text) for spec, text in zip(specs, options.ood, strict=True)}
        held_out = options.validation_fraction is not None
        facts = [
            _facts(train, "train", "train", options.train),
            *(
                [_facts(validation, "validation", "validation", options.validation or options.train, held_out)]
                if validation
                else []
            ),
            _facts(test, "test", "id", options.test),
            *(_facts(ood[spec.name], spec.name, "ood", text) for spec, text in zip(specs, options.ood, strict=True)),
        ]
        loaded = cls(train, validation, test, ood, labels, {(fact.kind, fact.name): fact for fact in facts})
        for key, name, dataset in loaded.named():
            with naming(key):
                check_labels(name, dataset, options.label_column, labels, aliases)
        return loaded

    def named(self) -> list[tuple[str, str, Dataset]]:
        """The option that each data set comes from, what it is called, and itself."""
        single = {"train": self.train, "validation": self.validation, "test": self.test}
        return [
            *((key, key, dataset) for key, dataset in single.items() if dataset is not None),
            *(("ood", name, dataset) for name, dataset in self.ood.items()),
        ]

    def evaluations(self, max_samples: int | None = None) -> list[tuple[DataFacts, Dataset]]:
        """
        What a model is evaluated on, in this order: validation (where there is one), ID test and OOD sets.

        Args:
            max_samples (`int`, *optional*): so many rows of each set but the validation data, as
                [`DataOptions.max_eval_samples`] has it.
        """
        named = {("validation", "validation"): self.validation, ("id", "test"): self.test}
        named |= {("ood", name): dataset for name, dataset in self.ood.items()}
        limited = {
            key: dataset if key[0] == "validation" else sample(dataset, max_samples)
            for key, dataset in named.items()
            if dataset is not None
        }
        return [(replace(self.facts[key], size=len(rows)), rows) for key, rows in limited.items()]

    def map(self, transform: Callable[[Dataset], Dataset]) -> "TaskData":
        """The same data sets, each transformed (the training data too)."""
        validation = None if self.validation is None else transform(self.validation)
        ood = {name: transform(dataset) for name, dataset in self.ood.items()}
        return replace(self, train=transform(self.train), validation=validation, test=transform(self.test), ood=ood)


def sample(dataset: Dataset, count: int | None) -> Dataset:
    """
    So many rows of a data set, always the same ones; all of them if there are no more.

    Args:
        dataset (`Dataset`): of any kind.
        count (`int`, *optional*): how many.
    """
    if count is None or count >= len(dataset):
        return dataset
    return dataset.shuffle(seed=0).select(range(count))


@contextmanager
def naming(key: str) -> Iterator[None]:
    """Say in an error which option it is about."""
    try:
        yield
    except (FileNotFoundError, ValueError) as error:
        kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
        raise kind(f"{key}: {error}") from error


def _load(key: str, text: str) -> Dataset:
    with naming(key):
        return DatasetSpec.parse(text).load()


def _aliases(texts: list[str]) -> dict[str, str]:
    if unclear := [text for text in texts if "=" not in text]:
        raise ValueError(f"label_aliases: {unclear[0]!r} is not of the form OTHER=LABEL")
    return dict(text.split("=", 1) for text in texts)


def _split(rows: Dataset, share: float, column: str, labels: list[str]) -> tuple[Dataset, Dataset]:
    if not isinstance(rows.features[column], ClassLabel):  # which `datasets` asks for
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
