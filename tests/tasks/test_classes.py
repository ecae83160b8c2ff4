"""Data whose classes are names: each set gets the indices of the training data's."""

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from ftp_hf.tasks import DataOptions, TaskData


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, labels in {
        "train": ["open", "close", "open", "stop"],
        "test": ["stop", "open"],
        "other": ["shut", "open"],
        "holes": ["open", None],
    }.items():
        Dataset.from_dict({"text": [f"please {label}" for label in labels], "intent": labels}).to_csv(f"{name}.csv")
    return tmp_path


def load(**options):
    return TaskData.load(DataOptions(train="train.csv", label_column="intent", **options))


@pytest.mark.usefixtures("folder")
def test_names_are_indices_of_the_training_data():
    data = load(test="test.csv", ood=["other.csv"], label_aliases=["shut=close"])
    assert data.labels == ["close", "open", "stop"]
    assert [list(each["intent"]) for each in (data.train, data.test, data.ood["other"])] == [
        [1, 0, 1, 2],
        [2, 1],
        [0, 1],
    ]
    assert data.test.features["intent"] == ClassLabel(names=data.labels)
    assert data.test["text"][0] == "please stop"


@pytest.mark.parametrize(
    ("train", "test"),
    [
        (Value("string"), Value("string")),
        (ClassLabel(names=["close", "open", "stop"]), Value("int64")),
        (ClassLabel(names=["close", "open", "stop"]), ClassLabel(names=["shut", "open", "stop"])),
        (List(Value("string")), List(Value("string"))),
    ],
)
def test_the_order_is_that_of_a_pretrained_head(tmp_path, train, test):
    of_row = ["close", "open", "stop", "open"]

    def save(name, feature):
        named = getattr(feature, "dtype", None) == "string" or isinstance(feature, List)
        values = of_row if named else [{"close": 0, "open": 1, "stop": 2}[label] for label in of_row]
        rows = [[value] for value in values] if isinstance(feature, List) else values
        data = Dataset.from_dict({"text": of_row, "label": rows}, Features({"text": Value("string"), "label": feature}))
        data.to_parquet(tmp_path / f"{name}.parquet")
        return str(tmp_path / f"{name}.parquet")

    options = DataOptions(save("train", train), save("test", test), label_aliases=["shut=close"])
    data = TaskData.load(options, head=["Stop", "Close", "Open"])
    assert data.labels == ["stop", "close", "open"]
    for rows in (data.train, data.test):
        indices = [value[0] if isinstance(value, list) else value for value in rows["label"]]
        assert [data.labels[index] for index in indices] == of_row
    for head in ([], ["stop", "close"], ["stop", "close", "ajar"]):
        assert TaskData.load(options, head=head).labels == ["close", "open", "stop"]


@pytest.mark.parametrize("part", [{"validation_fraction": 0.3}, {"train_fraction": 0.3}])
def test_which_rows_are_drawn_does_not_depend_on_the_head(tmp_path, part):
    rows = {"text": [f"text {row}" for row in range(60)], "label": ["close", "open", "stop"] * 20}
    Dataset.from_dict(rows).to_csv(tmp_path / "all.csv")
    options = DataOptions(str(tmp_path / "all.csv"), str(tmp_path / "all.csv"), **part)
    found = [TaskData.load(options, head=head) for head in ([], ["stop", "close", "open"])]
    assert [data.labels[0] for data in found] == ["close", "stop"]
    for name in ("train", *(["validation"] if "validation_fraction" in part else [])):
        one, other = (getattr(data, name)["text"][:] for data in found)
        assert one == other


@pytest.mark.usefixtures("folder")
def test_what_is_no_class_of_the_training_data_is_refused():
    with pytest.raises(
        ValueError, match=r"ood: data set 'other' has the labels \['shut'\], which the training data does not"
    ):
        load(test="test.csv", ood=["other.csv"])
    with pytest.raises(
        ValueError, match="test: row 1 of data set 'test' has None in 'intent', where nothing may be empty: fill it, or"
    ):
        load(test="holes.csv")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("given", "shown"), [([0, 1], "0, 1"), ([0.0, 1.0], "0.0, 1.0"), ([True, False], "False, True")]
)
def test_numbers_are_no_classes_of_training_data_with_names(given, shown):
    Dataset.from_dict({"text": ["please"] * 2, "intent": given}).to_csv("other.csv")
    with pytest.raises(
        ValueError,
        match=rf"^ood: the training data have names in 'intent' \(close, open, stop\), data set 'other' numbers \({shown}\): "
        "write names in it, or say what each number means with label_aliases NUMBER=LABEL$",
    ):
        load(test="test.csv", ood=["other.csv"])


@pytest.mark.usefixtures("folder")
def test_numbers_mean_what_aliases_say():
    Dataset.from_dict({"text": ["please"] * 3, "intent": [0, 1, 2]}).to_csv("other.csv")
    data = load(test="test.csv", ood=["other.csv"], label_aliases=["0=stop", "1=close", "2=open"])
    assert [data.labels[index] for index in data.ood["other"]["intent"]] == ["stop", "close", "open"]


@pytest.mark.usefixtures("folder")
def test_numbers_may_be_names():
    # A column of a CSV file holds texts only where one of its rows is no number.
    Dataset.from_dict({"text": ["a"] * 4, "intent": ["2", "10", "1", "none"]}).to_csv("train.csv")
    Dataset.from_dict({"text": ["a"] * 3, "intent": ["10", "1", "2"]}).to_csv("test.csv")
    data = load(test="test.csv")
    assert data.labels == ["1", "10", "2", "none"]
    assert [data.labels[index] for index in data.test["intent"]] == ["10", "1", "2"]


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_true_and_false_are_classes_in_all_sets(tmp_path, kind):
    for name, labels in {"train": [True, False, False], "test": [False, True], "far": [True]}.items():
        rows = Dataset.from_dict({"text": ["a"] * len(labels), "label": labels})
        getattr(rows, f"to_{kind}")(tmp_path / f"{name}.{kind}")
    files = [str(tmp_path / f"{name}.{kind}") for name in ("train", "test", "far")]
    data = TaskData.load(DataOptions(*files[:2], ood=files[2:]))
    assert data.labels == ["False", "True"]
    assert data.test.features["label"] == ClassLabel(names=data.labels), "which models can be trained on"
    assert [each["label"][:] for each in (data.train, data.test, data.ood["far"])] == [[1, 0, 0], [0, 1], [1]]


@pytest.mark.parametrize("train", [Value("string"), ClassLabel(names=["close", "open"])])
def test_a_class_of_the_training_data_is_no_other_name(tmp_path, train):
    features = Features({"text": Value("string"), "label": train})
    labels = ["open", "close"] if train == Value("string") else [1, 0]
    Dataset.from_dict({"text": ["a", "b"], "label": labels}, features).to_parquet(tmp_path / "train.parquet")
    files = [str(tmp_path / "train.parquet")] * 2
    with pytest.raises(
        ValueError,
        match=r"^train: label_aliases has open=close, but 'open' is a label of the training data themselves: in OTH",
    ):
        TaskData.load(DataOptions(*files, label_aliases=["open=close"]))
    assert TaskData.load(DataOptions(*files, label_aliases=["shut=close", "open=open"])).labels == ["close", "open"]


def test_names_in_lists_are_indices_too(tmp_path):
    sets = {"train": [["O", "B-PER"], [], ["O"]], "test": [["B-PERSON"]], "far": [[]]}
    for name, labels in sets.items():
        Dataset.from_dict({"text": ["a"] * len(labels), "label": labels}).to_json(tmp_path / f"{name}.jsonl")
    files = [str(tmp_path / f"{name}.jsonl") for name in sets]
    data = TaskData.load(DataOptions(*files[:2], ood=files[2:], label_aliases=["B-PERSON=B-PER"]))
    assert data.labels == ["B-PER", "O"]
    assert [each["label"][:] for each in (data.train, data.test, data.ood["far"])] == [[[1, 0], [], [1]], [[0]], [[]]]
    with pytest.raises(ValueError, match=r"test: data set 'test' has the labels \['B-PERSON'\], which the training"):
        TaskData.load(DataOptions(*files[:2]))


def test_a_name_that_is_missing_in_a_list_is_refused(tmp_path):
    Dataset.from_dict({"text": ["a"] * 3, "label": [["b"], [], ["b", None]]}).to_json(tmp_path / "train.jsonl")
    with pytest.raises(ValueError, match=r"row 2 of data set 'train' has \['b', None\] in 'label'"):
        TaskData.load(DataOptions(*[str(tmp_path / "train.jsonl")] * 2))


@pytest.mark.parametrize(
    ("train", "other", "message"),
    [
        ([0, 1], [True, False], r"ood: .* class indices from 0 on, but data set 'far' has Value\('bool'\) in it"),
        ([0, 1], [0.0, 1.0], r"ood: .* class indices from 0 on, but data set 'far' has Value\('float64'\) in it"),
        (
            [True, False],
            [0, 1],
            r"ood: the training data have names in 'label' \(False, True\), data set 'far' numbers",
        ),
        (
            ["a", "b"],
            [["a"], ["b"]],
            r"ood: .* class indices from 0 on, but data set 'far' has Value\('string'\) in it",
        ),
        ([[True, False]], [[True, False]], r"train: .* True and False, .* one value per class: write the indices"),
    ],
)
def test_classes_of_other_kinds_than_in_training_are_refused(tmp_path, train, other, message):
    files = [tmp_path / "train.parquet", tmp_path / "far.parquet"]
    for file, labels in zip(files, (train, other), strict=True):
        Dataset.from_dict({"text": ["a"] * len(labels), "label": labels}).to_parquet(file)
    with pytest.raises(ValueError, match=message):
        TaskData.load(DataOptions(str(files[0]), str(files[0]), ood=[str(files[1])]))


@pytest.mark.parametrize(
    ("train", "other"),
    [
        (Value("int64"), Value("int64")),
        (Value("string"), Value("string")),
        (Value("string"), ClassLabel(names=["0", "1"])),
        (ClassLabel(names=["0", "1"]), ClassLabel(names=["0", "1"])),
        (ClassLabel(names=["0", "1"]), Value("int64")),
    ],
)
def test_classes_may_be_of_several_kinds(tmp_path, train, other):
    files = [str(tmp_path / "train.parquet"), str(tmp_path / "other.parquet")]
    for file, feature in zip(files, (train, other), strict=True):
        labels = ["1", "0", "1"] if feature == Value("string") else [1, 0, 1]
        features = Features({"text": Value("string"), "label": feature})
        Dataset.from_dict({"text": ["a", "b", "c"], "label": labels}, features).to_parquet(file)
    data = TaskData.load(DataOptions(train=files[0], test=files[1]))
    assert data.labels == ["0", "1"]
    assert list(data.train["label"]) == list(data.test["label"]) == [1, 0, 1]


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize(("names", "aliases"), [(["light", "dark"], []), (["light", "night"], ["night=dark"])])
def test_a_set_may_lack_classes_of_the_training_data(tmp_path, listed, names, aliases):
    files = [str(tmp_path / "train.parquet"), str(tmp_path / "test.parquet")]
    for file, classes, labels in ((files[0], ["dark", "grey", "light"], [0, 1, 2]), (files[1], names, [0, 1, 1])):
        feature = List(ClassLabel(names=classes)) if listed else ClassLabel(names=classes)
        features = Features({"text": Value("string"), "label": feature})
        rows = [[label] for label in labels] if listed else labels
        Dataset.from_dict({"text": [*"abc"], "label": rows}, features).to_parquet(file)
    data = TaskData.load(DataOptions(*files, label_aliases=aliases))
    assert data.test["label"][:] == ([[2], [0], [0]] if listed else [2, 0, 0])
    assert data.test.features == data.train.features
    assert data.test["text"][:] == [*"abc"]


@pytest.mark.usefixtures("folder")
def test_a_part_of_the_training_data_is_held_out_by_class():
    Dataset.from_dict({"text": ["a"] * 8, "intent": ["open", "close"] * 4}).to_csv("train.csv")
    Dataset.from_dict({"text": ["a"], "intent": ["open"]}).to_csv("test.csv")
    data = load(test="test.csv", validation_fraction=0.5)
    assert sorted(data.validation["intent"]) == sorted(data.train["intent"]) == [0, 0, 1, 1]


@pytest.mark.usefixtures("folder")
def test_a_class_of_one_row_cannot_be_held_out():
    Dataset.from_dict({"text": ["a"] * 9, "intent": ["open", "close"] * 4 + ["stop"]}).to_csv("train.csv")
    Dataset.from_dict({"text": ["a"], "intent": ["open"]}).to_csv("test.csv")
    with pytest.raises(ValueError, match="validation_fraction: only one row has 'stop' in 'intent'"):
        load(test="test.csv", validation_fraction=0.5)
