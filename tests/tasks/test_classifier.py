"""What classifiers of all kinds have in common."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from transformers import (
    AutoModelForAudioClassification,
    AutoModelForImageClassification,
    AutoModelForSemanticSegmentation,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    ConvNextConfig,
    EvalPrediction,
    MobileNetV2ForSemanticSegmentation,
    UperNetConfig,
    UperNetForSemanticSegmentation,
    ViTForImageClassification,
)

from ftp_hf.pretrained import new_parameters
from ftp_hf.tasks.classifier import (
    ClassificationTask,
    classifier_options,
    compute_scores,
    load_classifier,
    pretrained_labels,
)
from ftp_hf.tasks.regression import RegressionTask
from tests.support.models import save_bert, save_mobilenet, tiny_vit_config

CLASSES = ["negative", "neutral", "positive"]


def save_classifier(folder, kind, labels):
    """A classifier that was trained on these labels; the head is told from a new one by its bias."""
    model = kind.from_pretrained(folder, **classifier_options(labels))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if len(parameter) == len(labels) and name.endswith("bias"):
                parameter.fill_(1.0)
    model.save_pretrained(folder)


def save_base(folder, kind):
    if kind is AutoModelForAudioClassification:
        pytest.importorskip("soundfile")
        from tests.support.speech import save_whisper  # noqa: PLC0415 - which needs it

        save_whisper(folder)
    elif kind is UperNetForSemanticSegmentation:
        save_upernet(folder)
    elif kind is AutoModelForSemanticSegmentation:
        save_mobilenet(folder, model_class=MobileNetV2ForSemanticSegmentation)
    elif kind is AutoModelForImageClassification:
        ViTForImageClassification(tiny_vit_config()).save_pretrained(folder)
    else:
        save_bert(folder)


def save_upernet(folder):
    """With two heads and no base model."""
    widths = [3, 8, 8, 8]  # one as the classes are many
    backbone = ConvNextConfig(hidden_sizes=widths, depths=[1] * 4, out_features=[f"stage{i}" for i in (1, 2, 3, 4)])
    sizes = {"hidden_size": 8, "auxiliary_in_channels": 8, "auxiliary_channels": 8, "pool_scales": [1, 2]}
    UperNetForSemanticSegmentation(UperNetConfig(backbone_config=backbone, **sizes)).save_pretrained(folder)


def test_recall_is_of_the_classes_that_have_rows():
    task = ClassificationTask("model", labels=["cat", "dog", "cow"])
    answers = np.array([[2.0, 1, 0], [0, 2, 1], [0, 0, 1], [0, 1, 0]])
    found = task.by_class(EvalPrediction(answers, np.array([0, 0, 1, 1])))
    assert found == {"recall": {"cat": 0.5, "dog": 0.5}}


def test_scores_are_those_of_scikit_learn():
    generator = np.random.default_rng(0)
    labels = generator.choice([0, 1, 3, 4], size=997, p=[0.5, 0.3, 0.15, 0.05])
    answers = generator.normal(size=(997, 5)) + 2 * np.eye(5)[labels]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "y_pred contains classes not in y_true")
        expected = balanced_accuracy_score(labels, answers.argmax(axis=1))
    assert compute_scores(EvalPrediction(answers, labels)) == {
        "accuracy": accuracy_score(labels, answers.argmax(axis=1)),
        "balanced_accuracy": expected,
    }


def test_other_heads_have_no_classes_unless_they_say_so():
    assert RegressionTask.by_class(None, None) == {}


@pytest.mark.parametrize(
    "kind",
    [
        AutoModelForAudioClassification,
        AutoModelForImageClassification,
        AutoModelForSemanticSegmentation,
        AutoModelForSequenceClassification,
        AutoModelForTokenClassification,
        UperNetForSemanticSegmentation,
    ],
)
def test_a_head_of_other_classes_begins_anew(tmp_path, caplog, kind):
    save_base(tmp_path, kind)
    save_classifier(tmp_path, kind, CLASSES)
    assert pretrained_labels(str(tmp_path)) == CLASSES
    for labels in (CLASSES, ["Negative", "NEUTRAL", "positive "], ["0", "1", "2"], ["LABEL_0", "LABEL_1", "LABEL_2"]):
        kept = load_classifier(kind, str(tmp_path), classifier_options(labels))
        assert not new_parameters(kept)
        assert kept.config.id2label == dict(enumerate(labels))
    for labels in (["anger", "fear", "joy"], CLASSES[::-1]):
        model = load_classifier(kind, str(tmp_path), classifier_options(labels))
        new = new_parameters(model)
        assert new == {name for name, _ in model.named_parameters() if "classifier" in name}
        assert {len(model.get_parameter(name)) for name in new} == {3}
        for name, parameter in model.named_parameters():
            if name not in new:
                assert torch.equal(parameter, kept.get_parameter(name))
            else:
                assert (parameter == 0).all() if name.endswith("bias") else 0 < parameter.std() < 1
                assert not torch.equal(parameter, kept.get_parameter(name))
    assert {record.name for record in caplog.records if record.name.startswith("ftp_hf")} == {"ftp_hf.tasks.classifier"}


@pytest.mark.parametrize("own", [["LABEL_0", "LABEL_1", "LABEL_2"], ["2", "0", "1"]])
def test_a_head_without_names_is_that_of_any_classes(tmp_path, own):
    save_bert(tmp_path)
    save_classifier(tmp_path, AutoModelForSequenceClassification, own)
    assert pretrained_labels(str(tmp_path)) == []
    model = load_classifier(AutoModelForSequenceClassification, str(tmp_path), classifier_options(CLASSES))
    assert not new_parameters(model)


def test_a_head_of_other_classes_is_told(tmp_path, caplog):
    save_bert(tmp_path)
    save_classifier(tmp_path, AutoModelForSequenceClassification, CLASSES)
    for _ in range(2):
        load_classifier(AutoModelForSequenceClassification, str(tmp_path), classifier_options(["a", "b", "c"]))
    [said] = [record.getMessage() for record in caplog.records if record.name == "ftp_hf.tasks.classifier"]
    assert "of other classes (negative, neutral, positive, …) than the data (a, b, c, …), and starts again" in said


def test_places_without_a_model_name_no_classes(tmp_path):
    assert pretrained_labels(str(tmp_path)) == []
