"""Cards of other Trainer classes, while they train, and of models that transformers knows nothing of."""

import json
import logging
from dataclasses import dataclass

import pytest
import transformers
from huggingface_hub import HfApi
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from torch import nn
from transformers import BertForSequenceClassification, Trainer

from ftp_hf import (
    FTPTrainer,
    FTPTrainerMixin,
    FTPTrainingArguments,
    RobustnessGuard,
    RunSummary,
    projected_optimizer,
)
from ftp_hf.runs.facts import DataFacts
from ftp_hf.runs.logs import measured
from ftp_hf.trainer.model_task import task_of
from tests.support.equal import assert_equal, weights
from tests.support.trainers import arguments, load

DATA = [{"input_ids": [5, 6, 7], "labels": 0}, {"input_ids": [8, 9, 10], "labels": 1}] * 4


class OtherTrainer(Trainer):
    """As those of TRL: cards have other arguments, in another order, and each checkpoint has one."""

    def create_model_card(self, model_name=None, dataset_name=None, tags=None, paper=None):
        raise AssertionError((model_name, dataset_name, tags, paper))

    def _save_checkpoint(self, model, trial):
        self.create_model_card(model_name="mine")
        super()._save_checkpoint(model, trial)


class FTPOtherTrainer(FTPTrainerMixin, OtherTrainer):
    pass


def trained(kind, checkpoint, output_dir, **options):
    trainer = kind(load(checkpoint), arguments(output_dir, max_steps=4, logging_steps=1, **options), train_dataset=DATA)
    trainer.train()
    return trainer


def test_the_arguments_of_the_wrapped_class_are_taken(checkpoint, tmp_path, monkeypatch):
    trainer = trained(FTPOtherTrainer, checkpoint, tmp_path)
    trainer.create_model_card("mine", "someone/data", paper="a paper", license="mit", tags={"sft"})
    summary = RunSummary.load(tmp_path)
    assert (summary.name, summary.license, summary.tags) == ("mine", "mit", ["sft"])
    assert (summary.data[0].source, summary.data[0].on_hub) == ("someone/data", True)
    assert "someone/data" in (tmp_path / "README.md").read_text()
    with pytest.raises(TypeError, match="unexpected keyword argument 'licence'"):
        trainer.create_model_card(licence="mit")
    with pytest.raises(TypeError, match="multiple values for argument 'model_name'"):
        trainer.create_model_card("mine", model_name="yours")

    trainer.hub_model_id = "someone/model"
    monkeypatch.setattr(HfApi, "upload_folder", lambda _, **sent: sent["commit_message"])
    assert trainer.push_to_hub(dataset_name="someone/other") == "End of training"
    summary = RunSummary.load(tmp_path)
    assert (summary.data[0].source, summary.license, summary.tags) == ("someone/other", "mit", ["sft"])
    trainer.save_run_summary()
    again = RunSummary.load(tmp_path)
    assert (again.data, again.license, again.tags) == (summary.data, "mit", ["sft"]), "what was told once stands"


def test_memory_is_no_metric_of_the_model(checkpoint, tmp_path):
    args = arguments(tmp_path, max_steps=1, skip_memory_metrics=False)
    trainer = FTPTrainer(load(checkpoint), args, train_dataset=DATA, eval_dataset=DATA)
    prediction = trainer.predict(DATA)
    trainer.train()
    metrics = [prediction.metrics, trainer.evaluate(metric_key_prefix="eval_near"), trainer.predict(DATA).metrics]
    for each, prefix in zip(metrics, ("test_", "eval_near_", "test_"), strict=True):
        assert any("mem_cpu" in name for name in each)
        assert measured(each, prefix).keys() == {"loss", "model_preparation_time"} & measured(each, prefix).keys()


@dataclass
class OwnArguments(FTPTrainingArguments):
    packing: bool | None = None
    """As options of TRL, which are on unless they are switched off."""


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, {}),
        ({"packing": False, "gradient_checkpointing": False}, {"packing": False}),
        (
            {"accelerator_config": {"even_batches": False, "split_batches": False}},
            {"accelerator_config": {"even_batches": False}},
        ),
    ],
)
def test_what_was_switched_off_is_told(given, told, checkpoint, tmp_path):
    args = arguments(tmp_path, OwnArguments, max_steps=1, **given)
    trainer = FTPTrainer(load(checkpoint), args, train_dataset=DATA)
    trainer.train()
    found = trainer.run_summary()
    usual = {"learning_rate", "per_device_train_batch_size", "max_steps"}
    assert {name: value for name, value in found.hyperparameters.items() if name not in usual} == told
    assert not told.keys() & found.defaults.keys()


def test_a_model_that_is_trained_again_is_not_told_to_be_what_it_was(checkpoint, tmp_path):
    trainer = trained(FTPTrainer, checkpoint, tmp_path)
    trainer.note_evaluation({"eval_accuracy": 0.9}, DataFacts("test", "id"))
    trainer.note_evaluation({"eval_accuracy": 0.4}, DataFacts("test", "id"), model="pre-trained")
    assert [each.data for each in trainer.run_summary().results] == ["test"]
    trainer.args.max_steps = 8
    trainer.train()
    summary = trainer.run_summary()
    assert (summary.steps, summary.results) == (8, [])
    assert summary.pretrained.results[0].metrics["accuracy"] == {"42": 0.4}


def test_each_of_several_validation_sets_has_its_own_figures(checkpoint, tmp_path):
    trainer = FTPTrainer(
        load(checkpoint),
        arguments(tmp_path, max_steps=2, eval_strategy="steps", eval_steps=2),
        train_dataset=DATA,
        eval_dataset={"near": DATA[:2], "near_by": DATA},
        compute_metrics=lambda prediction: {"accuracy": len(prediction.label_ids) / 8},
    )
    trainer.train()
    trainer.create_model_card()
    results = RunSummary.load(tmp_path).results
    assert [(each.data, each.kind, each.metrics["accuracy"]) for each in results] == [
        ("near", "validation", {"42": 0.25}),
        ("near_by", "validation", {"42": 1.0}),
    ]
    card = (tmp_path / "README.md").read_text()
    assert "near_accuracy" not in card
    assert "near_by" in card


@pytest.mark.parametrize("whole", [True, False], ids=["PeftModel", "add_adapter"])
def test_a_model_with_an_adapter_has_a_card_with_the_size_of_its_base(whole, checkpoint, tmp_path):
    model = load(checkpoint)
    size = sum(parameter.numel() for parameter in model.parameters())
    config = LoraConfig(r=2, target_modules=["query", "value"], task_type="SEQ_CLS")
    if whole:
        model = get_peft_model(model, config)
    else:
        model.add_adapter(config)
    trainer = FTPTrainer(model, arguments(tmp_path, max_steps=2), train_dataset=DATA)
    trainer.train()
    trainer.create_model_card()
    summary = RunSummary.load(tmp_path)
    assert (summary.adapter, summary.base_model.parameters) == ("LORA", size)
    assert (tmp_path / "README.md").exists()


@pytest.mark.parametrize("steps", [2, 3])
def test_cards_of_checkpoints_leave_whole_results(steps, checkpoint, tmp_path):
    class Look(transformers.TrainerCallback):
        seen = ()

        def on_save(self, args, state, control, **_):  # noqa: ARG002
            self.seen = (*self.seen, RunSummary.load(tmp_path))

    look = Look()
    args = arguments(tmp_path, max_steps=4, logging_steps=1, save_strategy="steps", save_steps=steps)
    trainer = FTPOtherTrainer(load(checkpoint), args, train_dataset=DATA, callbacks=[look])
    trainer.train()
    first = look.seen[0]
    assert (first.steps, [row.step for row in first.log]) == (steps, list(range(1, steps + 1)))
    assert first.projection.radii
    whole = RunSummary.load(tmp_path)
    assert (whole.name, whole.steps, [row.step for row in whole.log]) == ("mine", 4, [1, 2, 3, 4])
    assert whole.hardware.total_seconds > 0
    assert whole.projection.radii == trainer.run_summary().projection.radii


def scored(checkpoint, output_dir, score, **options):
    """A Trainer whose metric is what `score` says of the step, and which loads the weights of the best checkpoint."""
    best = {"load_best_model_at_end": True, "metric_for_best_model": "score", "greater_is_better": True}
    intervals = {"eval_strategy": "steps", "save_strategy": "steps", "logging_steps": 1}
    trainer = FTPTrainer(
        load(checkpoint),
        arguments(output_dir, **{**intervals, **best, **options}),
        train_dataset=DATA,
        eval_dataset=DATA,
        compute_metrics=lambda _: {"score": score(trainer.state.global_step)},
    )
    return trainer


class RadiiOfCheckpoints(transformers.TrainerCallback):
    def __init__(self):
        self.by_step = {}

    def on_save(self, args, state, control, optimizer=None, **_):  # noqa: ARG002
        self.by_step[state.global_step] = {
            name: radius.radius for name, radius in projected_optimizer(optimizer).radii().items()
        }


def radii_of(summary):
    return {name: radius.radius for name, radius in summary.projection.radii.items()}


def test_what_is_told_is_of_the_weights_that_are_kept(checkpoint, tmp_path):
    trainer = scored(checkpoint, tmp_path, {0: 0, 2: 0.1, 4: 0.5, 6: 0.9, 8: 0.4}.get, eval_steps=2, save_steps=4)
    guard = RobustnessGuard(trainer, {"ood/test": DATA}, ["ood/test:score >= 0.6"])
    saved = RadiiOfCheckpoints()
    trainer.add_callback(guard)
    trainer.add_callback(saved)
    trainer.train()

    # The best evaluation was that of step 6, of which there is no checkpoint.
    kept = load_file(tmp_path / "checkpoint-4" / "model.safetensors")
    assert_equal(weights(trainer.model), kept)
    summary = trainer.run_summary()
    assert summary.kept_step == 4
    assert summary.results[0].metrics["score"] == {"42": 0.5}
    assert radii_of(summary) == saved.by_step[4]
    assert {check.step: check.action for check in guard.history} == {0: None, 2: None, 4: "alert", 6: None, 8: "alert"}


def test_a_run_that_was_moved_and_resumed_ends_with_its_best_weights_and_tells_their_radii(checkpoint, tmp_path):
    def trainer(folder):
        scores = {2: 0.1, 4: 0.5, 6: 0.9, 8: 0.4, 10: 0.3, 12: 0.2}
        return scored(checkpoint, tmp_path / folder, scores.get, eval_steps=2, save_steps=4, max_steps=12)

    first, saved = trainer("first"), RadiiOfCheckpoints()
    first.add_callback(saved)
    first.train()
    (tmp_path / "first").rename(tmp_path / "moved")
    resumed = trainer("moved")
    resumed.train(resume_from_checkpoint=str(tmp_path / "moved" / "checkpoint-8"))
    best = tmp_path / "moved" / "checkpoint-4"
    assert resumed.state.best_model_checkpoint == str(best)
    kept = load_file(best / "model.safetensors")
    assert_equal(weights(resumed.model), kept)
    assert radii_of(resumed.run_summary()) == saved.by_step[4]


@pytest.mark.parametrize("options", [{"load_best_model_at_end": False, "save_strategy": "no"}, {"save_steps": 1}])
def test_the_card_of_an_interrupted_run_has_its_radii(options, checkpoint, tmp_path):
    class Stop(transformers.TrainerCallback):
        def on_step_end(self, args, state, control, **_):  # noqa: ARG002
            if state.global_step == 3:
                raise KeyboardInterrupt

    trainer = scored(checkpoint, tmp_path, lambda step: -step, max_steps=4, eval_steps=1, **options)
    trainer.add_callback(Stop())
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    trainer.create_model_card()
    summary = RunSummary.load(tmp_path)
    assert summary.kept_step == 3
    radii = radii_of(summary)
    assert radii == {name: radius.radius for name, radius in projected_optimizer(trainer.optimizer).radii().items()}
    assert radii
    assert (tmp_path / "radii.png").exists()


def test_a_run_is_not_lost_to_its_card(checkpoint, tmp_path, monkeypatch, caplog):
    trainer = trained(FTPTrainer, checkpoint, tmp_path)
    (tmp_path / "README.md").write_text("---\na: [\n---\nMine.\n")
    with caplog.at_level(logging.ERROR, logger="ftp_hf"):
        trainer.create_model_card()
    assert "README.md could not be written" in caplog.text
    assert "metadata of the model card cannot be read" in caplog.text
    assert (tmp_path / "README.md").read_text().endswith("Mine.\n")
    assert RunSummary.load(tmp_path).steps == 4
    assert (tmp_path / "radii.png").is_file()

    trainer.hub_model_id = "someone/model"
    monkeypatch.setattr(HfApi, "upload_folder", lambda _, **__: "pushed")
    monkeypatch.setattr("ftp_hf.trainer.card.summarize_run", lambda *_, **__: 1 / 0)
    assert trainer.push_to_hub() == "pushed"
    assert "results.json could not be written" in caplog.text


class OwnForSequenceClassification(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.EmbeddingBag(16, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, input_ids, labels=None):
        logits = self.head(self.embed(input_ids))
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def test_a_model_without_a_config_has_a_card(tmp_path):
    args = arguments(tmp_path, max_steps=2, ftp_exclude_new=False)
    trainer = FTPTrainer(OwnForSequenceClassification(), args, train_dataset=DATA)
    trainer.train()
    trainer.create_model_card(finetuned_from="someone/base")
    content = json.loads((tmp_path / "results.json").read_text())
    assert content["architecture"] == "OwnForSequenceClassification"
    assert "labels" not in content
    assert content["base_model"] == {"name": "someone/base", "on_hub": True}
    assert "fine-tuned" in (tmp_path / "README.md").read_text()


class OwnBert(BertForSequenceClassification):
    pass


@pytest.mark.parametrize(
    ("model", "task"),
    [
        ("BertForSequenceClassification", "text-classification"),
        ("Wav2Vec2ForSequenceClassification", "audio-classification"),
        ("HubertForSequenceClassification", "audio-classification"),
        ("WavLMForSequenceClassification", "audio-classification"),
        ("Wav2Vec2ForCTC", "automatic-speech-recognition"),
        ("WhisperForConditionalGeneration", "automatic-speech-recognition"),
        ("T5ForConditionalGeneration", "text2text-generation"),
        ("BartForConditionalGeneration", "text2text-generation"),
        ("GPT2LMHeadModel", "text-generation"),
        ("LlamaForCausalLM", "text-generation"),
        ("BertForMaskedLM", "fill-mask"),
        ("ViltForQuestionAnswering", "visual-question-answering"),
        ("LayoutLMv3ForQuestionAnswering", "document-question-answering"),
        ("BertForQuestionAnswering", "question-answering"),
        ("VideoMAEForVideoClassification", "video-classification"),
        ("ViTForImageClassification", "image-classification"),
        ("SegformerForSemanticSegmentation", "image-segmentation"),
        ("DetrForObjectDetection", "object-detection"),
        ("Owlv2ForObjectDetection", "zero-shot-object-detection"),
        ("BertModel", None),
    ],
)
def test_the_task_is_that_of_transformers_mappings(model, task):
    assert task_of(getattr(transformers, model)) == task


@pytest.mark.parametrize(
    ("model", "task"), [(OwnBert, "text-classification"), (OwnForSequenceClassification, "text-classification")]
)
def test_the_task_of_a_class_of_ones_own(model, task):
    assert task_of(model) == task
