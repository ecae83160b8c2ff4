"""The data of a task: training, validation, ID test, OOD and retained sets; of a task with labels, in one label space."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from datasets import ClassLabel, Dataset, List

from ftp_hf.common.documented import with_help
from ftp_hf.common.problems import Problems
from ftp_hf.runs.data import data_facts
from ftp_hf.runs.facts import DataFacts

from .classes import class_feature, in_order_of, with_class_indices, with_order, with_training_indices
from .label_space import check_labels, is_listed, label_names
from .row_checks import RowError, check_rows
from .specs import DatasetSpec, UnreachableError

__all__ = ["DataOptions", "TaskData", "naming", "sample"]

_TRAIN, _VALIDATION, _TEST = (("train", "train"), ("validation", "validation"), ("test", "test"))


@with_help
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
        label_column (`str`, *optional*, defaults to `"label"`): the column of class indices, or of the names of classes.
        label_aliases (`list[str]`, *optional*, defaults to `[]`): `OTHER=LABEL` for each label that a data set calls
            otherwise than the training data does.
        max_train_samples (`int`, *optional*): train on the first rows only.
        train_fraction (`float`, *optional*): train on this share of the rows only, stratified by label and the same for
            every seed.
        max_eval_samples (`int`, *optional*): evaluate on so many rows of each test set only, drawn once and the same for
            every seed. The validation data stay whole.
    """

    train: str
    test: str
    validation: str | None = None
    validation_fraction: float | None = None
    ood: list[str] = field(default_factory=list)
    retained: list[str] = field(default_factory=list)
    label_column: str = "label"
    label_aliases: list[str] = field(default_factory=list)
    max_train_samples: int | None = None
    train_fraction: float | None = None
    max_eval_samples: int | None = None


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
        numbers (`dict[tuple[str, str], list[int]]`): by option and name, the number that each row has in its file.
    """

    train: Dataset
    validation: Dataset | None
    test: Dataset
    ood: dict[str, Dataset]
    retained: dict[str, Dataset]
    labels: list[str]
    facts: dict[tuple[str, str], DataFacts]
    numbers: dict[tuple[str, str], list[int]]

    @classmethod
    def load(cls, options: DataOptions, *, has_labels: bool = True, head: Sequence[str] = ()) -> "TaskData":
        """
        Load the data sets, from local files or from the Hub.

        Args:
            options ([`DataOptions`]): which.
            has_labels (`bool`, *optional*, defaults to `True`): whether each row has a class index in `label_column`, or a
                list of them, as [`Task`] says. Without, and with lists, parts of the training data are drawn as they come.
            head (sequence of `str`, *optional*): the classes of a pre-trained head, by index, whose order the labels get if they
                are the same classes.

        Raises:
            ValueError: a data set cannot be read, is empty, lacks a column, or is not labelled as the training data is; two
                sets of a kind have one name; options contradict each other. What is wrong with other data sets are notes of
                it.
            FileNotFoundError: likewise, if the first is a file that is not there.
        """
        _check(options)
        aliases = _aliases(options.label_aliases)
        single = {"train": options.train, "validation": options.validation, "test": options.test}
        given = {(key, key): text for key, text in single.items() if text}
        for kind in ("ood", "retained"):
            given |= {(kind, name): text for name, text in _by_name(kind, getattr(options, kind)).items()}
        loaded = _load_all(given)
        column = options.label_column if has_labels else None
        if column is not None and (feature := class_feature(loaded[_TRAIN].dataset, column)):
            loaded = _with_class_indices(loaded, column, feature, aliases)
        labels: list[str] = []
        if column is not None:
            with naming("train", loaded[_TRAIN].numbers):
                labels = label_names(loaded[_TRAIN].dataset, column)
                _check_aliases(aliases, labels)
                check_labels("train", loaded[_TRAIN].dataset, column, labels, aliases)
            loaded = {
                key: _Rows(with_training_indices(rows, column, labels, aliases), numbers)
                for key, (rows, numbers) in loaded.items()
            }
        if options.validation_fraction is not None:
            with naming("validation_fraction"):
                loaded[_TRAIN], loaded[_VALIDATION] = _split(
                    loaded[_TRAIN], options.validation_fraction, column, labels
                )
        if options.train_fraction is not None:
            with naming("train_fraction"):
                loaded[_TRAIN], _ = _split(loaded[_TRAIN], 1 - options.train_fraction, column, labels)
        if options.max_train_samples is not None:
            loaded[_TRAIN] = loaded[_TRAIN].select(range(min(options.max_train_samples, len(loaded[_TRAIN].numbers))))
        sets = {key: some.dataset for key, some in loaded.items()}
        if column is not None:
            # Not before: which rows are drawn depends on the order of the data, and is the same for all models.
            order = in_order_of(head, labels)
            sets = {key: with_order(rows, column, labels, order, aliases) for key, rows in sets.items()}
            labels = order
        train, validation, test = sets[_TRAIN], sets.get(_VALIDATION), sets[_TEST]
        held_out = options.validation_fraction is not None
        facts = [_facts(train, "train", "train", options.train)]
        if validation:
            facts.append(_facts(validation, "validation", "validation", options.validation or options.train, held_out))
        facts.append(_facts(test, "test", "id", options.test))
        several = {(kind, name): text for (kind, name), text in given.items() if kind in ("ood", "retained")}
        facts += [_facts(sets[kind, name], name, kind, text) for (kind, name), text in several.items()]
        ood, retained = (
            {name: sets[kind, name] for kind, name in several if kind == wanted} for wanted in ("ood", "retained")
        )
        data = cls(
            train,
            validation,
            test,
            ood,
            retained,
            labels,
            {(fact.kind, fact.name): fact for fact in facts},
            {key: some.numbers for key, some in loaded.items()},
        )
        problems = Problems()
        for key, name, dataset, numbers in data.named():
            with problems.gathered(), naming(key, numbers):
                if column is None:
                    check_rows(name, dataset)
                elif key != "train":  # which are checked before parts of them are drawn
                    check_labels(name, dataset, column, labels, aliases)
        problems.raise_all()
        return data

    def named(self) -> list[tuple[str, str, Dataset, list[int]]]:
        """The option that each data set comes from, what it is called, itself, and the numbers of its rows in its file."""
        single = {"train": self.train, "validation": self.validation, "test": self.test}
        sets = [
            *((key, key, dataset) for key, dataset in single.items() if dataset is not None),
            *(("ood", name, dataset) for name, dataset in self.ood.items()),
            *(("retained", name, dataset) for name, dataset in self.retained.items()),
        ]
        return [(key, name, dataset, self.numbers[key, name]) for key, name, dataset in sets]

    def evaluations(self, max_samples: int | None = None) -> list[tuple[DataFacts, Dataset]]:
        """
        What a model is evaluated on, in this order: validation (where there is one), ID test, OOD and retained sets.

        Args:
            max_samples (`int`, *optional*): so many rows of each set but the validation data, as
                [`DataOptions.max_eval_samples`] has it.
        """
        named = {("validation", "validation"): self.validation, ("id", "test"): self.test}
        for kind, sets in (("ood", self.ood), ("retained", self.retained)):
            named |= {(kind, name): dataset for name, dataset in sets.items()}
        limited = {
            key: dataset if key[0] == "validation" else sample(dataset, max_samples)
            for key, dataset in named.items()
            if dataset is not None
        }
        return [(replace(self.facts[key], size=len(rows)), rows) for key, rows in limited.items()]


def sample(dataset: Dataset, count: int | None) -> Dataset:
    """A sample of `count` rows of a data set, the same each time; all rows with `None`, or if there are no more."""
    if count is None or count >= len(dataset):
        return dataset
    return dataset.shuffle(seed=0).select(range(count))


@contextmanager
def naming(key: str, numbers: Sequence[int] | None = None) -> Iterator[None]:
    """
    Put the name of an option before the message of an error. `numbers` are those of the rows of its data set, as a
    [`RowError`] names them.
    """
    try:
        yield
    except (FileNotFoundError, ValueError) as caught:
        error = caught
        if isinstance(error, RowError) and numbers is not None:
            error = RowError(numbers[error.row], error.what)
        kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
        raise kind(f"{key}: {error}") from caught


def _check(options: DataOptions) -> None:
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
    names = [*_by_name("ood", options.ood), *_by_name("retained", options.retained)]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"ood and retained both have a data set named {sorted(repeated)}: name one with NAME=SOURCE")


def _by_name(kind: str, texts: list[str]) -> dict[str, str]:
    names = [DatasetSpec.parse(text).name for text in texts]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"{kind} has several data sets named {sorted(repeated)}: name them with NAME=SOURCE")
    return dict(zip(names, texts, strict=True))


def _check_aliases(aliases: Mapping[str, str], labels: Sequence[str]) -> None:
    for other, label in aliases.items():
        if other in labels and other != label:
            raise ValueError(
                f"label_aliases has {other}={label}, but {other!r} is a label of the training data themselves: in OTHER=LABEL, "
                "OTHER is what another data set calls LABEL"
            )


class _Rows(NamedTuple):
    """Some of a file."""

    dataset: Dataset
    numbers: list[int]

    def select(self, rows: Iterable[int]) -> "_Rows":
        kept = [*rows]
        return _Rows(self.dataset.select(kept), [self.numbers[row] for row in kept])


def _load_all(given: Mapping[tuple[str, str], str]) -> dict[tuple[str, str], _Rows]:
    """Load the data sets, or raise one error that says of each why it cannot be loaded."""
    problems, loaded, reachable = Problems(), dict[tuple[str, str], _Rows](), True
    for (key, name), text in given.items():
        with problems.gathered(), naming(key):
            try:
                loaded[key, name] = _Rows(*DatasetSpec.parse(text).numbered())
            except UnreachableError:
                reachable = False
                raise
        if not reachable:
            break  # it takes half a minute to find out, and would for each of the others
    problems.raise_all()
    return loaded


def _with_class_indices(
    loaded: Mapping[tuple[str, str], _Rows], column: str, feature: ClassLabel | List, aliases: Mapping[str, str]
) -> dict[tuple[str, str], _Rows]:
    problems, ready = Problems(), {}
    for (key, name), (dataset, numbers) in loaded.items():
        with problems.gathered(), naming(key, numbers):
            ready[key, name] = _Rows(with_class_indices(dataset, name, column, feature, aliases), numbers)
    problems.raise_all()
    return ready


def _aliases(texts: list[str]) -> dict[str, str]:
    if unclear := [text for text in texts if "=" not in text]:
        raise ValueError(f"label_aliases: {unclear[0]!r} is not of the form OTHER=LABEL")
    return dict(text.split("=", 1) for text in texts)


def _split(rows: _Rows, share: float, column: str | None, labels: list[str]) -> tuple[_Rows, _Rows]:
    order = Dataset.from_dict({"row": range(len(rows.numbers))})
    if column is None or is_listed(rows.dataset, column):  # which class would it be
        parts = order.train_test_split(share, seed=0)
    else:
        classes = rows.dataset[column][:]
        if alone := [each for each, count in Counter(classes).items() if count == 1]:
            raise ValueError(
                f"only one row has {labels[alone[0]]!r} in {column!r}, and every class has to be in both parts: collect more "
                "rows of it, or leave it out"
            )
        of_class = order.add_column("class", classes, feature=ClassLabel(names=labels))
        parts = of_class.train_test_split(share, seed=0, stratify_by_column="class")
    return rows.select(parts["train"]["row"]), rows.select(parts["test"]["row"])


def _facts(dataset: Dataset, name: str, kind: str, text: str, held_out: bool = False) -> DataFacts:
    spec = DatasetSpec.parse(text)
    if kind == "train" and text.startswith(f"{spec.name}="):
        name = spec.name
    split = spec.value if spec.column == "split" else None if Path(spec.source).is_file() else spec.split
    origin = {"config": spec.config, "split": f"{split or 'train'}, held out" if held_out else split}
    return data_facts(dataset, name, kind, spec.source, **{key: value for key, value in origin.items() if value})
