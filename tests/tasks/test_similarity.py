"""Similarity of sentences: pairs with scores, cosines, correlations and the distance of embeddings."""

from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from transformers import EvalPrediction

pytest.importorskip("sentence_transformers")

from ftp_hf.compare.run.drift import FunctionDistance
from ftp_hf.sensitivity import model_sensitivity
from ftp_hf.tasks.similarity import SimilarityOptions, SimilarityTask
from tests.support.equal import assert_equal
from tests.support.tiny_language import make_pairs
from tests.support.trainers import arguments

PAIRS = Dataset.from_dict(
    {
        "one": ["one is red", "two is red and three is blue", "four is red", "one"],
        "other": ["one is blue", "two is blue", "five and six", "one"],
        "likeness": [3.0, 2.5, 0.5, 5.0],
    }
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_pairs(tmp_path_factory.mktemp("pairs"))


@pytest.fixture
def task(folder):
    options = SimilarityOptions(sentence_columns=["one", "other"], score_column="likeness", max_length=6)
    return SimilarityTask(str(folder / "model"), options)


def trainer_of(task, folder, pairs=PAIRS, **options):
    args = arguments(folder, task.arguments_class, per_device_eval_batch_size=3, **task.arguments(), **options)
    model = task.load_model()
    return task.trainer_class(
        model=model,
        args=args,
        train_dataset=task.prepare(pairs, augment=True),
        eval_dataset=task.prepare(PAIRS),
        **task.trainer_options(model),
    )


def test_figures_are_the_correlations_of_cosines_and_scores(task, tmp_path):
    trainer = trainer_of(task, tmp_path)
    first, second = (trainer.model.encode(PAIRS[column][:]) for column in ("one", "other"))
    cosines = [a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) for a, b in zip(first, second, strict=True)]
    ranks = [np.argsort(np.argsort(values)) for values in (cosines, PAIRS["likeness"][:])]
    metrics = task.measure(trainer, PAIRS)
    assert metrics["eval_spearman"] == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert metrics["eval_pearson"] == pytest.approx(np.corrcoef(cosines, PAIRS["likeness"])[0, 1], rel=1e-5)
    assert "eval_loss" not in metrics, "it depends on the batches"
    assert [metric.name for metric in task.metrics if not metric.less_is_better] == ["spearman", "pearson"]


def test_equal_cosines_tell_nothing_and_those_of_a_broken_model_are_no_figure(task):
    scores = np.array([3.0, 2.5, 0.5])
    assert task.compute_metrics(EvalPrediction(np.ones(3), scores)) == {"spearman": 0.0, "pearson": 0.0}
    assert np.isnan([*task.compute_metrics(EvalPrediction(np.full(3, np.nan), scores)).values()]).all()


def test_both_sentences_are_corrupted(task):
    prepared = task.prepare(PAIRS, corrupt=lambda text: text.replace("one", "six"))
    assert prepared[0] == {"sentence1": "six is red", "sentence2": "six is blue", "score": 3.0}


def test_other_columns_are_refused(task):
    with pytest.raises(ValueError, match=r"expected two columns of sentences .* in few with the columns \['text'\]"):
        task.check("few", Dataset.from_dict({"text": ["one"]}))


def test_a_single_row_has_no_correlation(task):
    with pytest.raises(ValueError, match=r"^few has a single row, and a correlation takes two: add rows, or leave"):
        task.check("few", PAIRS.select([0]))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("one", None, "row 1 of few has no text in 'one', but None: write one, or leave it out"),
        ("other", None, "row 1 of few has no text in 'other', but None"),
        ("likeness", None, "row 1 of few has None in 'likeness': it must be a finite number"),
        ("likeness", float("nan"), "row 1 of few has nan in 'likeness'"),
    ],
)
def test_empty_cells_are_refused(task, column, value, message):
    task.check("few", PAIRS)
    rows = [{**row, column: value} if index == 1 else row for index, row in enumerate(PAIRS)]
    with pytest.raises(ValueError, match=message):
        task.check("few", Dataset.from_list(rows))


def test_the_distance_is_that_of_embeddings(task):
    model, pretrained = task.load_model(), task.load_model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05)
    texts = [PAIRS[row][column] for row in range(4) for column in ("one", "other")]
    before, after = (each.encode(texts, normalize_embeddings=False) for each in (pretrained, model))
    expected = np.mean(np.linalg.norm(after - before, axis=1) / np.linalg.norm(before, axis=1))
    found = FunctionDistance(task, pretrained).measure(model, PAIRS)
    assert found == {"eval_hidden_change": pytest.approx(expected, rel=1e-4)}
    assert FunctionDistance(task, pretrained).measure(pretrained, PAIRS) == {"eval_hidden_change": 0.0}


def test_training_draws_what_is_alike_together(task, tmp_path):
    pairs = PAIRS.remove_columns("likeness").add_column("likeness", [2.0, 2.5, 5.0, 0.5])
    trainer = trainer_of(task, tmp_path, pairs, learning_rate=1e-2, max_steps=8)
    assert type(trainer.loss).__name__ == "CoSENTLoss"
    before = task.measure(trainer, pairs)["eval_spearman"]
    trainer.train()
    assert task.measure(trainer, pairs)["eval_spearman"] > before


@pytest.mark.slow
def test_an_adapter_ends_with_its_best_weights(task, tmp_path):
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(task.load_model(), peft.LoraConfig(r=2, target_modules=["query", "value"]))
    args = arguments(
        tmp_path,
        task.arguments_class,
        learning_rate=1e-1,
        max_steps=6,
        save_strategy="steps",
        save_steps=1,
        eval_strategy="steps",
        eval_steps=1,
        load_best_model_at_end=True,
        metric_for_best_model="spearman",
        greater_is_better=False,
    )
    rows = task.prepare(PAIRS)
    trainer = task.trainer_class(
        model=model, args=args, train_dataset=rows, eval_dataset=rows, **task.trainer_options(model)
    )
    trainer.train()
    assert trainer.state.best_global_step < 6
    saved = load_file(Path(trainer.state.best_model_checkpoint) / "adapter_model.safetensors")
    kept = peft.get_peft_model_state_dict(trainer.model)
    assert_equal(kept, saved)


def test_sensitivities_are_those_of_the_encoder(task):
    model, pretrained = task.load_model(), task.load_model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.2)
    measured = model_sensitivity(model, pretrained, [task.collator(list(task.prepare(PAIRS)))])
    assert measured.fine_tuned != measured.pretrained
    names = {name.removesuffix(".weight") for name, _ in model.named_parameters()}
    assert {layer.name for layer in measured.layers} <= names
