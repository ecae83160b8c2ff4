"""Cards of all tasks: what is said in their metrics, and snippets that run."""

import re

import pytest

from ftp_hf.cards.card import model_card
from ftp_hf.cards.usage import usage
from ftp_hf.runs.facts import Evaluation, OtherModel
from tests.support.markdown import cells, section
from tests.support.stand_ins import TOLD, stand_in
from tests.support.summaries import make_summary

TASKS = {
    "automatic-speech-recognition": ("WhisperForConditionalGeneration", []),
    "audio-classification": ("WhisperForAudioClassification", ["yes", "no"]),
    "text-generation": ("LlamaForCausalLM", []),
    "sentence-similarity": ("SentenceTransformer", []),
    "token-classification": ("BertForTokenClassification", ["O", "B-CITY"]),
    "image-segmentation": ("MobileNetV2ForSemanticSegmentation", []),
    "text-classification/regression": ("BertForSequenceClassification", ["score"]),
    "text-classification/multi-label": ("BertForSequenceClassification", ["PERSON", "CITY"]),
    "image-classification/regression": ("MobileNetV2ForImageClassification", ["road"]),
    "image-classification/multi-label": ("MobileNetV2ForImageClassification", ["car", "sign", "tree"]),
}
KINDS = {"": None, "regression": "regression", "multi-label": "multi_label_classification"}


def summary_of(task, **changes):
    architecture, labels = TASKS[task]
    name, _, kind = task.partition("/")
    return make_summary(task=name, architecture=architecture, labels=labels, problem_type=KINDS[kind], **changes)


@pytest.mark.parametrize("task", TASKS)
def test_the_snippet_runs(task, tmp_path, capsys):
    if task in ("automatic-speech-recognition", "audio-classification"):
        pytest.importorskip("soundfile")
    if task == "sentence-similarity":
        pytest.importorskip("sentence_transformers")
    summary = summary_of(task)
    stand_in(summary, tmp_path)
    card = model_card(summary, model_id=str(tmp_path))
    assert card.data.pipeline_tag == summary.task
    exec(compile(re.search(r"```python\n(.*?)```", card.text, re.DOTALL)[1], task, "exec"), {})  # noqa: S102
    told = capsys.readouterr().out
    assert TOLD[summary.task] in told
    if summary.problem_type:
        assert told.count("'label'") == len(summary.labels), "all classes, or the number"


def test_a_number_for_two_texts_is_asked_with_two_texts(tmp_path, capsys):
    summary = summary_of("text-classification/regression", hyperparameters={"second_text_column": "sentence2"})
    stand_in(summary, tmp_path)
    exec(compile(usage(summary, str(tmp_path)), "pair", "exec"), {})  # noqa: S102
    assert "'label': 'score'" in capsys.readouterr().out
    assert '"text_pair": ' in usage(summary, str(tmp_path))


def test_a_prompt_has_the_form_that_the_model_was_trained_on(tmp_path, capsys):
    summary = summary_of("text-generation", hyperparameters={"template": 'Q "one": {prompt}\nA: {answer}'})
    stand_in(summary, tmp_path)
    exec(compile(usage(summary, str(tmp_path)), "prompt", "exec"), {})  # noqa: S102
    assert "'generated_text': 'Q \"one\": a prompt like those it was trained on\\nA:" in capsys.readouterr().out


def recogniser(**changes):
    """Word errors of seed 0: digits, an accent, and read speech before and after."""
    figures = {("test", "id"): 0.05, ("lucas", "ood"): 0.15, ("theo", "ood"): 0.25, ("read", "retained"): 0.175}
    before = {("test", "id"): 0.4, ("lucas", "ood"): 0.35, ("theo", "ood"): 0.45, ("read", "retained"): 0.16}
    results, old = (
        [Evaluation(*key, {"loss": {"0": 1.0}, "wer": {"0": value}}) for key, value in known.items()]
        for known in (figures, before)
    )
    changes = {"results": results, "comparisons": [OtherModel("pre-trained", old)], **changes}
    return summary_of("automatic-speech-recognition", **changes)


def test_word_errors_stand_beside_those_of_before():
    assert recogniser().headline() == "wer: ID 5.0, OOD mean 20.0 (2 sets), retained 17.5 (before 16.0)"
    rows = {row[0]: row[1:] for row in cells(section(model_card(recogniser()).text, "Results"))}
    assert rows["**OOD mean**"] == ["20.0", "40.0"]
    assert not any("-20.0" in row for row in rows.values()), "nothing was lost"
    assert rows["retained read (wer in %, less is better)"] == ["17.5", "16.0"]


def test_what_was_retained_in_other_metrics():
    results = [
        Evaluation("test", "id", {"loss": {"0": 0.5}}),
        *(Evaluation(name, "retained", {"loss": {"0": value}}) for name, value in (("web", 3.0), ("books", 2.0))),
        Evaluation("choices", "retained", {"acc_norm": {"0": 0.45}, "acc": {"0": 0.4}}),
    ]
    summary = summary_of("text-generation", results=results)
    assert summary.headline() == "loss: ID 0.5, retained 2.5 (2 sets), retained acc norm 45.0"
    results = model_card(summary).text.partition("## Results")[2].partition("## How")[0]
    assert "Other metrics" not in results, "tables of what no new data were measured in would have no rows"
    assert "| retained choices (acc norm in %, more is better) | 45.0 |" in results


def test_what_is_no_share_is_among_the_other_metrics():
    metrics = {"loss": {"0": 0.3}, "mae": {"0": 0.5}, "rmse": {"0": 0.75}, "spearman": {"0": 0.875}}
    summary = summary_of("text-classification/regression", results=[Evaluation("test", "id", metrics)])
    others = model_card(summary).text.partition("Other metrics")[2].partition("</details>")[0]
    assert re.findall(r"\*\*(\w*?)(, .*?)\*\*\n\n.*\n.*\n\| ID test \| (.*?) \|", others) == [
        ("rmse", ", less is better", "0.75"),
        ("spearman", ", more is better", "0.875"),
    ]


def test_limits_are_in_the_metric():
    limits = section(model_card(recogniser()).text, "Limits")
    assert "no promise about wer on data" in limits
    assert "near 90 %" not in limits
    assert "The smallest test set has 50 rows: other rows" in limits
    assert "near 90 % has a standard error of 4.2 points" in section(model_card(make_summary()).text, "Limits")
