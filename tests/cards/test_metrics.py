"""Metrics as people compute them: lists, dicts, texts, what is not finite, scalars of numpy and torch."""

import json
import math

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard

from ftp_hf import FTPTrainer, RunSummary
from ftp_hf.cards.card import eval_results_file, model_card
from ftp_hf.cards.sections import sections
from ftp_hf.common.figures import change, signed
from ftp_hf.runs.facts import DataFacts, Evaluation, LogRow, OtherModel
from ftp_hf.runs.logs import log_rows, split_numbers
from ftp_hf.runs.seeds import combine
from tests.support.markdown import cells
from tests.support.summaries import make_summary
from tests.support.trainers import arguments, load

COMPUTED = {
    "per_category_iou": [0.5, math.nan, 0.25],
    "LOC": {"precision": 0.5, "recall": np.float32(0.25), "number": np.int64(3)},
    "report": "all / good",
    "mean_iou": np.float32(0.5),
    "f1": torch.tensor(0.25),
    "undefined": None,
    "perplexity": math.inf,
    "confusion": np.eye(2, dtype=np.int64),
}
NUMBERS = {"mean_iou": 0.5, "f1": 0.25, "perplexity": math.nan}
DETAILS = {
    "per_category_iou": [0.5, None, 0.25],
    "LOC": {"precision": 0.5, "recall": 0.25, "number": 3},
    "report": "all / good",
    "undefined": None,
    "confusion": [[1, 0], [0, 1]],
}


def valid(text):
    return json.loads(text, parse_constant=pytest.fail)


def test_numbers_are_told_from_the_rest():
    numbers, details = split_numbers(COMPUTED)
    assert list(map(str, numbers.items())) == list(map(str, NUMBERS.items()))
    assert {type(value) for value in numbers.values()} == {float}
    assert details == DETAILS


def test_a_log_keeps_them_apart():
    entry = {f"eval_{name}": value for name, value in COMPUTED.items()}
    (row,) = log_rows([{"step": 3, "loss": np.float64(1.0), **entry}])
    assert (row.step, row.loss, row.details) == (3, 1.0, DETAILS)
    assert type(row.loss) is float
    assert str(row.metrics) == str(NUMBERS)


def test_a_card_and_results_of_any_metrics(checkpoint, tmp_path):
    dataset = [{"input_ids": [5, 6, 7], "labels": 0}, {"input_ids": [8, 9, 10], "labels": 1}] * 4
    evaluation = {"eval_strategy": "steps", "eval_steps": 2}
    # What the Trainer itself cannot have in `trainer_state.json` is evaluated after the training.
    ordinary = {name: value for name, value in COMPUTED.items() if name != "confusion"}
    trainer = FTPTrainer(
        load(checkpoint), arguments(tmp_path, max_steps=2, save_strategy="steps", save_steps=2, **evaluation),
        train_dataset=dataset, eval_dataset=dataset, compute_metrics=lambda _: dict(ordinary),
    )  # fmt: skip
    trainer.train()
    trainer.create_model_card()
    (validation,) = valid((tmp_path / "results.json").read_text())["results"]
    assert validation["metrics"].keys() == {"loss", *NUMBERS}
    assert validation["metrics"]["perplexity"] == {"42": None}
    assert validation["details"]["LOC"] == {"42": DETAILS["LOC"]}

    trainer.note_evaluation({f"eval_{name}": value for name, value in COMPUTED.items()}, DataFacts("far", "ood"))
    trainer.create_model_card()
    content = valid((tmp_path / "results.json").read_text())
    assert content["results"][0]["metrics"] == {"mean_iou": {"42": 0.5}, "f1": {"42": 0.25}, "perplexity": {"42": None}}
    assert content["results"][0]["details"] == {name: {"42": value} for name, value in DETAILS.items()}
    assert content["log"][0]["details"] == {name: value for name, value in DETAILS.items() if name != "confusion"}
    card = ModelCard.load(tmp_path / "README.md")
    assert [(result.metric_type, result.metric_value) for result in card.data.eval_results] == [
        ("mean_iou", 0.5),
        ("f1", 0.25),
    ]
    assert card.content == model_card(RunSummary.load(tmp_path), picture="radii.png").content


def test_what_is_not_finite_is_null_and_comes_back(tmp_path):
    summary = make_summary(results=[Evaluation("test", "id", {"accuracy": {"0": math.nan}, "f1": {"0": 0.5}})])
    summary.log = [LogRow(4, 1.0, 0.5, {"accuracy": math.nan})]
    valid(summary.to_json())
    summary.save(tmp_path)
    again = RunSummary.load(tmp_path)
    assert math.isnan(again.value("test"))
    assert math.isnan(again.log[0].metrics["accuracy"])
    assert again.to_json() == summary.to_json()
    card = model_card(again)
    assert [result.metric_value for result in card.data.eval_results] == [0.5]
    assert "| ID test | nan |" in card.text
    assert eval_results_file(again) is None


def test_seeds_keep_their_details_and_a_mean_tells_of_what_is_not_finite():
    def run(seed, value):
        details = {"per_class": {str(seed): [value, 1.0]}}
        return make_summary(seed, results=[Evaluation("test", "id", {"accuracy": {str(seed): value}}, details)])

    together = combine([run(0, 0.5), run(1, math.nan)])
    assert together.results[0].details.keys() == {"per_class"}
    assert together.results[0].details["per_class"].keys() == {"0", "1"}
    assert "nan" in sections(together, "m")["results"]


def test_settings_of_any_kind_make_valid_json():
    summary = make_summary(hyperparameters={"ratio": np.float32(0.5), "shape": (1, 2), 3: {np.int64(4)}, "x": math.nan})
    assert valid(summary.to_json())["hyperparameters"] == {"ratio": 0.5, "shape": [1, 2], "3": [4], "x": None}


def test_differences_of_what_is_not_finite_are_shown():
    assert (signed(math.nan, "accuracy"), change(math.nan)) == ("nan", "nan")


def test_what_was_retained_stands_once_in_its_own_metric_beside_what_was_before():
    summary = make_summary(comparisons=[])
    seed = str(summary.seed)
    summary.results.append(Evaluation("speech", "retained", {"loss": {seed: 1.5}, "wer": {seed: 0.25}}))
    before = [Evaluation("speech", "retained", {"loss": {"0": 1.0}, "wer": {"0": 0.16}})]
    summary.comparisons.append(OtherModel("pre-trained", before))
    rows = [row for row in cells(str(model_card(summary).content)) if row and row[0].startswith("retained speech")]
    assert [row[:3] for row in rows] == [["retained speech (wer in %, less is better)", "25.0", "16.0"]]
