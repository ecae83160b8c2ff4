"""Whisper's sensitivities, in windows as long as those of the data."""

import logging

import pytest

pytest.importorskip("soundfile")

from ftp_hf.compare.run.drift import measure_drift, measure_sensitivity
from ftp_hf.pretrained.origin import new_parameters
from ftp_hf.tasks.find import task_class
from tests.support.speech import save_whisper, sounds


@pytest.mark.parametrize("name", ["automatic-speech-recognition", "audio-classification"])
def test_sensitivities_are_measured(name, tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    kind = task_class(name)
    task = kind(str(save_whisper(tmp_path / "model")), kind.options_class(max_seconds=1), labels=["low", "high"])
    rows = task.prepare(sounds(3))
    batch = task.collator([rows[row] for row in range(3)])
    pretrained, model = task.load_model(), task.load_model()
    model.get_encoder().layers[0].fc1.weight.data.mul_(1.5)
    drift = measure_drift(model, pretrained, new_parameters(pretrained), measure_sensitivity(model, pretrained, batch))
    assert drift.fine_tuned > 0 < drift.pretrained
    assert drift.typical_fine_tuned != drift.typical_pretrained
    assert any(parameter.fine_tuned for parameter in drift.parameters if "encoder.layers.0.fc1" in parameter.name)
    assert model.config.max_source_positions == 150, "as before"
    assert "No sensitivities" not in caplog.text
