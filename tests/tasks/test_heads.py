"""Texts and images with several classes each, or with a number."""

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image, List, Value
from PIL import Image as Pictures
from transformers import EvalPrediction, ViTImageProcessor, ViTModel

from ftp_hf.common.figures import metric_named
from ftp_hf.compare import ComparisonConfig
from ftp_hf.compare.evidence.tuning import choose
from ftp_hf.compare.run.drift import FunctionDistance
from ftp_hf.tasks import DataOptions, TaskData
from ftp_hf.tasks.multi_label import MultiLabelImageTask, MultiLabelTextTask
from ftp_hf.tasks.regression import (
    ImageRegressionTask,
    TextRegressionOptions,
    TextRegressionTask,
)
from ftp_hf.tasks.text import TextTask
from tests.support.models import save_bert, tiny_vit_config
from tests.support.task_comparisons import compare_whole_and_interrupted, save_sets, task_config
from tests.support.tiny_data import WORDS, write_config
from tests.support.trainers import arguments

TOPICS = ["film", "song", "praise"]
TEXTS = ["the film is good", "the song is fine", "the film is bad", "the song is the film", "is"]
GIVEN = [[0, 2], [1, 2], [0], [0, 1], []]
STARS = [5.0, 4.0, 1.0, 3.0, 3.0]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return save_bert(tmp_path_factory.mktemp("bert"), words=WORDS)


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("vit")
    ViTModel(tiny_vit_config(), add_pooling_layer=False).save_pretrained(folder)
    ViTImageProcessor(size={"height": 8, "width": 8}).save_pretrained(folder)
    return folder


def texts(labels=GIVEN, **columns):
    features = Features(
        {
            "text": Value("string"),
            "label": List(ClassLabel(names=TOPICS)),
            "stars": Value("float64"),
            "score": Value("int64"),
        }
    )
    rows = {"text": TEXTS, "label": labels, "stars": STARS, "score": [int(star) for star in STARS], **columns}
    return Dataset.from_dict(rows, features)


def numbered(labels):
    return texts().remove_columns("label").add_column("label", labels, feature=List(Value("int64")))


def images():
    pictures = [Pictures.fromarray(np.full((8, 8, 3), 40 * row, np.uint8)) for row in range(5)]
    features = Features({"image": Image(), "label": List(ClassLabel(names=TOPICS)), "score": Value("float32")})
    return Dataset.from_dict({"image": pictures, "label": GIVEN, "score": STARS}, features)


def test_several_classes_are_learnt_as_so_many_answers(bert, vit):
    assert (MultiLabelTextTask.name, MultiLabelImageTask.name) == ("text-classification", "image-classification")
    text, image = MultiLabelTextTask(str(bert), labels=TOPICS), MultiLabelImageTask(str(vit), labels=TOPICS)
    for task, data in ((text, texts()), (image, images())):
        task.check("few", data)
        batch = task.collator([task.prepare(data)[row] for row in range(5)])
        expected = torch.tensor([[1, 0, 1], [0, 1, 1], [1, 0, 0], [1, 1, 0], [0, 0, 0]]).float()
        assert torch.equal(batch["labels"], expected)
        model = task.load_model()
        assert model.config.problem_type == "multi_label_classification"
        assert model.config.id2label == dict(enumerate(TOPICS))
        output = model(**batch)
        wanted = torch.nn.functional.binary_cross_entropy_with_logits(output.logits, expected)
        assert output.loss.item() == pytest.approx(wanted.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("highest", "f1_micro", "of_d"),
    [
        (-0.3, 2 * 3 / (4 + 4), {}),  # d never occurs
        (0.3, 2 * 3 / (4 + 5), {"d": 0.0}),  # d is answered once, and is never right
    ],
)
def test_figures_of_several_classes_are_those_computed_by_hand(bert, highest, f1_micro, of_d):
    task = MultiLabelTextTask(str(bert), labels=["a", "b", "c", "d"])
    labels = np.array([[1, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0]])
    answers = np.array([[2.0, -1, -1, -1], [-1, 3, -1, -1], [1, 1, -2, highest]])
    # Right of a: 2 of 2 + 2; of b: 1 of 1 + 2; of c: 0 of 1 + 0.
    of_classes = {"a": 1.0, "b": pytest.approx(2 / 3), "c": 0.0, **of_d}
    assert task.compute_metrics(EvalPrediction(answers, labels)) == {
        "f1_micro": pytest.approx(f1_micro),
        "f1_macro": pytest.approx((1 + 2 / 3) / len(of_classes)),
        "exact_match": pytest.approx(1 / 3),
    }
    assert task.by_class(EvalPrediction(answers, labels)) == {"f1": of_classes}
    nothing = np.zeros((2, 4))
    figures = task.compute_metrics(EvalPrediction(nothing - 1, nothing))
    assert figures == {"f1_micro": 0.0, "f1_macro": 0.0, "exact_match": 1.0}


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (TextTask, Dataset.from_dict({"text": TEXTS, "label": [0, 1, 2, 0, 1]})),
        (MultiLabelTextTask, texts()),
        (TextRegressionTask, texts()),
    ],
)
def test_what_a_model_answers_beside_the_logits_changes_no_figure(bert, tmp_path, kind, data):
    task = kind(str(bert), labels=TOPICS)
    model, args = task.load_model(), arguments(tmp_path, task.arguments_class, **task.arguments())
    trainer = task.trainer_class(model=model, args=args, **task.trainer_options(model))
    before = task.measure(trainer, data)
    model.config.output_hidden_states = True
    after = task.measure(trainer, data)
    names = [f"eval_{name}" for name in task.measured_on(data)]
    assert [after[name] for name in names] == [before[name] for name in names]


def test_distance_of_several_classes_is_that_of_each_answer(bert, tmp_path):
    torch.manual_seed(0)
    MultiLabelTextTask(str(bert), labels=TOPICS).load_model().save_pretrained(tmp_path)
    MultiLabelTextTask(str(bert)).processor.save_pretrained(tmp_path)
    task = MultiLabelTextTask(str(tmp_path), labels=TOPICS)
    model, before = task.load_model(), task.load_model()
    with torch.no_grad():
        model.classifier.bias[1] += 1
    batch = task.collator(list(task.prepare(texts())))
    with torch.no_grad():
        old, new = (torch.distributions.Bernoulli(logits=m.eval()(**batch).logits) for m in (before, model))
    expected = torch.distributions.kl_divergence(old, new).mean().item()
    found = FunctionDistance(task, before).measure(model, texts())
    assert found == {"eval_kl": pytest.approx(expected, rel=1e-4)}


def test_a_number_is_learnt_by_squared_error(bert, vit):
    text = TextRegressionTask(str(bert), TextRegressionOptions(target_column="stars"))
    image = ImageRegressionTask(str(vit))
    for task, data in ((text, texts()), (image, images())):
        task.check("few", data)
        batch = task.collator([task.prepare(data)[row] for row in range(5)])
        assert torch.equal(batch["labels"], torch.tensor(STARS))
        model = task.load_model()
        assert (model.config.problem_type, model.config.num_labels) == ("regression", 1)
        output = model(**batch)
        wanted = (output.logits[:, 0] - torch.tensor(STARS)).square().mean()
        assert output.loss.item() == pytest.approx(wanted.item(), rel=1e-5)


def test_whole_numbers_are_numbers_and_none_takes_the_type_of_another_column(bert):
    task = TextRegressionTask(str(bert))
    assert task.collator(list(task.prepare(texts())))["labels"].dtype == torch.float32
    named = Dataset.from_dict({"text": ["a"] * 1001, "label": [1] * 1001, "score": [1.0] * 1000 + [0.5]})
    assert task.prepare(named)[1000]["label"] == 0.5


def test_pairs_of_texts_are_read_together(bert):
    task = TextRegressionTask(str(bert), TextRegressionOptions(second_text_column="other", max_length=8))
    pairs = Dataset.from_dict({"text": ["the film"], "other": ["the song is"], "score": [2.5]})
    task.check("pairs", pairs)
    corrupted = task.prepare(pairs, corrupt=lambda text: text.replace("the", "bad"))
    assert task.prepare(pairs)["input_ids"][:] == [[2, 5, 6, 3, 5, 7, 8, 3]]
    assert corrupted["input_ids"][:] == [[2, 11, 6, 3, 11, 7, 8, 3]]
    assert corrupted["token_type_ids"][:] == [[0] * 4 + [1] * 4]
    with pytest.raises(ValueError, match=r"no column 'other' in few .* name it in second_text_column"):
        task.check("few", texts())


def test_figures_of_a_number_are_those_computed_by_hand(bert):
    task = TextRegressionTask(str(bert))
    answers, numbers = np.array([[1.0], [2.0], [4.0], [3.0]]), np.array([1.0, 3.0, 4.0, 5.0])
    assert task.compute_metrics(EvalPrediction(answers, numbers)) == {
        "mae": pytest.approx((0 + 1 + 0 + 2) / 4),
        "rmse": pytest.approx((5 / 4) ** 0.5),
        "spearman": pytest.approx(1 - 6 * (0 + 0 + 1 + 1) / (4 * 15)),
    }
    assert task.compute_metrics(EvalPrediction(np.ones((4, 1)), numbers))["spearman"] == 0.0
    assert np.isnan(task.compute_metrics(EvalPrediction(np.full((4, 1), np.nan), numbers))["spearman"])


def test_of_the_error_less_is_better(tmp_path):
    metric = TextRegressionTask.metrics[0]
    assert metric == metric_named("mae")
    assert choose([({"a": 1}, 0.5), ({"a": 2}, 0.2), ({"a": 3}, float("nan"))], metric) == {"a": 2}
    content = task_config(tmp_path, task="text-classification/regression", target_column="stars", metric="spearman")
    assert ComparisonConfig.load(write_config(tmp_path, content)).metric == "spearman"
    with pytest.raises(ValueError, match="unknown key 'label_column'"):
        ComparisonConfig.load(write_config(tmp_path, {**content, "label_column": "stars"}))


def test_distance_of_a_number_is_that_of_the_states(bert, tmp_path):
    torch.manual_seed(0)
    task = TextRegressionTask(str(bert))
    task.load_model().save_pretrained(tmp_path)
    task.processor.save_pretrained(tmp_path)
    task = TextRegressionTask(str(tmp_path))
    model = task.load_model()
    assert FunctionDistance(task, task.load_model()).measure(model, texts()) == {"eval_hidden_change": 0.0}


@pytest.mark.parametrize(
    ("kind", "options", "data", "message"),
    [
        (
            MultiLabelTextTask,
            {},
            Dataset.from_dict({"text": ["a"], "label": [1]}),
            r"'label' of few must hold lists of class indices, not Value\('int64'\)$",
        ),
        (TextRegressionTask, {"target_column": "points"}, texts(), r"no column 'points' in few .* in target_column"),
        (TextRegressionTask, {}, texts(score=[1, 2, None, 4, 5]), "row 2 of few has None in 'score'"),
        (
            TextRegressionTask,
            {"target_column": "stars"},
            texts(stars=[1, float("nan"), 1, 1, 1]),
            "row 1 of few has nan",
        ),
        (
            MultiLabelTextTask,
            {},
            numbered([[1, 0, 1], [0, 1, 1], [1, 0, 0], [1, 1, 0], [0, 0, 0]]),
            r"all rows of few have 3 values in 'label', each 0 or 1, which looks like one value per class: write the indices",
        ),
        (
            MultiLabelTextTask,
            {},
            numbered([[1, 0], [0, 1], [1, 0], [0, 1], [1, 0]]),
            "all rows of few have 2 values in 'label', each 0 or 1, which looks like one value per class",
        ),
        (
            MultiLabelTextTask,
            {},
            numbered([[0, 2], [1], [], [2, 0, 2], [1]]),
            r"row 3 of few has \[2, 0, 2\] in 'label', a class more than once, which looks like one value per class",
        ),
        (
            MultiLabelTextTask,
            {},
            texts([[0], [1], None, [], []]),
            "row 2 of few has None in 'label', where nothing may",
        ),
        (MultiLabelTextTask, {}, texts(text=[*TEXTS[:4], None]), "row 4 of few has no text in 'text', but None"),
        (
            TextRegressionTask,
            {"second_text_column": "other"},
            Dataset.from_dict({"text": ["a", "b"], "other": ["c", None], "score": [1.0, 2.0]}),
            "row 1 of few has no text in 'other', but None",
        ),
        (TextRegressionTask, {"target_column": "text"}, texts(), "row 0 of few has 'the film is good' in 'text'"),
    ],
)
def test_data_that_cannot_be_read_are_refused(bert, kind, options, data, message):
    with pytest.raises(ValueError, match=message):
        kind(str(bert), kind.options_class(**options)).check("few", data)


@pytest.mark.parametrize("labels", [[[0, 1]] * 5, [[0], [1], [0], [1], [1]], [[]] * 5, [[0, 1], [1, 2]] * 2 + [[0, 2]]])
def test_lists_of_one_length_may_be_indices(bert, labels):
    MultiLabelTextTask(str(bert)).check("few", numbered(labels))


def test_lists_of_names_are_no_values_of_classes(bert, tmp_path):
    sets = {"train": [["film", "song"], ["song", "film"]], "far": [["film", "movie"], ["song"]]}
    for name, labels in sets.items():
        Dataset.from_dict({"text": ["a", "b"], "label": labels}).to_json(tmp_path / f"{name}.jsonl")
    files = [str(tmp_path / f"{name}.jsonl") for name in sets]
    data = TaskData.load(DataOptions(files[0], files[0], ood=files[1:], label_aliases=["movie=film"]))
    task = MultiLabelTextTask(str(bert), labels=data.labels)
    for _, name, dataset, _ in data.named():
        task.check(name, dataset)
    assert [row["label"] for row in task.prepare(data.ood["far"])] == [[1, 0], [0, 1]], (
        "a class once, whatever its names"
    )


def test_classes_of_lists_share_a_label_space(tmp_path):
    texts().to_parquet(tmp_path / "train.parquet")
    Dataset.from_dict({"text": ["a"], "label": [[0, 3]]}).to_parquet(tmp_path / "test.parquet")
    with pytest.raises(ValueError, match=r"has the labels \[3\], outside 0 … 2"):
        TaskData.load(DataOptions(str(tmp_path / "train.parquet"), str(tmp_path / "test.parquet")))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "options", "metric", "distance"),
    [("multi-label", {}, "f1_micro", "kl"), ("regression", {"target_column": "stars"}, "mae", "hidden_change")],
)
def test_a_comparison_from_its_config(bert, tmp_path, kind, options, metric, distance):
    torch.manual_seed(0)
    task = {"multi-label": MultiLabelTextTask, "regression": TextRegressionTask}[kind]
    about = task(str(bert), task.options_class(**options), labels=TOPICS)
    about.load_model().save_pretrained(tmp_path / "model")
    about.processor.save_pretrained(tmp_path / "model")
    save_sets(tmp_path, **dict.fromkeys(("train", "validation", "test", "ood", "retained"), texts()))
    content = task_config(tmp_path, task=f"text-classification/{kind}", learning_rate=[1e-4, 1e-2], **options)
    results = compare_whole_and_interrupted(content, tmp_path)
    assert results.metric == metric
    assert {result.data for result in results.pretrained} >= {"test", "ood", "retained"}
    for name in ("plain", "ftp"):
        runs = {
            run.setting["learning_rate"]: run.value("validation", metric) for run in results.runs if run.method == name
        }
        best = (min if metric == "mae" else max)(runs.values())
        assert runs[results.method(name).chosen["learning_rate"]] == best
        (chosen,) = results.chosen_runs(name)
        measured = {(result.kind, result.data): result.metrics for result in chosen.summary.results}
        assert {metric, distance} <= measured["retained", "retained"].keys()
