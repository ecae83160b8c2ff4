"""The snippet of a card, run as it stands."""

import runpy

import pytest
from transformers import WhisperConfig, WhisperForAudioClassification

from ftp_hf.cards.usage import usage
from ftp_hf.runs.summary import RunSummary

pytest.importorskip("soundfile")

from tests.support.speech import save_whisper


@pytest.mark.parametrize(
    ("task", "told"), [("automatic-speech-recognition", "'text'"), ("audio-classification", "'score'")]
)
def test_of_a_model_that_hears(task, told, tmp_path, capsys):
    folder = save_whisper(tmp_path / "model")
    if task == "audio-classification":
        WhisperForAudioClassification(WhisperConfig.from_pretrained(folder)).save_pretrained(folder)
    snippet = usage(RunSummary("ears", "ftp", task=task), "someone/ears")
    assert f'pipeline("{task}", model="someone/ears")' in snippet
    script = tmp_path / "snippet.py"
    script.write_text(snippet.replace('"someone/ears"', repr(str(folder))))
    runpy.run_path(str(script))
    assert told in capsys.readouterr().out
    assert not usage(RunSummary("ears", "ftp", task=task, adapter="LORA"), "someone/ears")
