"""Classification of sounds by Whisper's encoder."""

import pytest
import torch

pytest.importorskip("soundfile")

from ftp_hf.function_distance import function_distance, hidden_change
from ftp_hf.pretrained.origin import new_parameters
from ftp_hf.tasks.audio import AudioTask
from ftp_hf.tasks.sounds import SoundOptions
from tests.support.speech import save_whisper, sounds
from tests.support.trainers import arguments


@pytest.fixture
def task(tmp_path):
    return AudioTask(str(save_whisper(tmp_path / "whisper")), SoundOptions(max_seconds=1), labels=["low", "high"])


def test_the_encoder_is_pretrained_and_the_head_new(task):
    model = task.load_model()
    assert new_parameters(model) == {"projector.weight", "projector.bias", "classifier.weight", "classifier.bias"}
    assert model.config.id2label == {0: "low", 1: "high"}
    assert not model.encoder.embed_positions.weight.requires_grad


def test_sounds_become_features_and_labels(task):
    batch = task.batches(sounds(4), 3)[0]
    assert batch["input_features"].shape == (3, 8, 100)
    assert batch["labels"].tolist() == [0, 1, 0]
    logits, counted = task.logits(task.load_model(), batch)
    assert logits.shape == (3, 2)
    assert counted.all()


def test_accuracy_is_that_of_the_logits_in_short_windows(task, tmp_path):
    model, data = task.load_model(), sounds(6)
    trainer = task.trainer_class(
        args=arguments(tmp_path / "out", task.arguments_class, **task.arguments()),
        model=model,
        **task.trainer_options(model),
    )
    figures = task.measure(trainer, data)
    assert model.config.max_source_positions == 150
    batch = task.batches(data, 6)[0]
    logits, _ = task.logits(model.eval(), batch)
    assert figures["eval_accuracy"] == (logits.argmax(-1) == batch["labels"]).float().mean().item()


def test_the_function_distance_is_the_change_of_the_last_states(task):
    model, pretrained = task.load_model(), task.load_model()
    batches = task.batches(sounds(4), 2)
    assert function_distance(model, pretrained, batches, task.hidden, hidden_change) == 0
    with torch.no_grad():
        model.encoder.layer_norm.weight.mul_(1.5)
        model.encoder.layer_norm.bias.mul_(1.5)
    found = function_distance(model, pretrained, batches, task.hidden, hidden_change)
    assert found == pytest.approx(0.5, rel=1e-4), "every state is half as long again"
