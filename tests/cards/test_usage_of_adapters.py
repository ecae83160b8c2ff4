"""The snippets for adapters run, and what they load is what was trained: not the base model alone."""

import re

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoFeatureExtractor,
    AutoModelForAudioClassification,
    AutoModelForSpeechSeq2Seq,
    AutoProcessor,
    BertForSequenceClassification,
)

from ftp_hf.cards.usage import usage
from ftp_hf.runs.facts import BaseModel
from tests.support.models import save_bert
from tests.support.summaries import make_summary

SILENCE = np.zeros(16000, dtype="float32")


def adapted(model, folder, *heads, targets):
    """The model with a LoRA that changes it, saved in `folder`."""
    torch.manual_seed(0)
    options = {"target_modules": targets, "init_lora_weights": False, "modules_to_save": heads or None}
    adapter = get_peft_model(model.eval(), LoraConfig(**options))
    adapter.save_pretrained(folder)
    return adapter


def run(task, base, folder, **changes):
    """What the snippet of a card makes, and its text."""
    text = usage(make_summary(task=task, adapter="LORA", base_model=BaseModel(str(base)), **changes), str(folder))
    made = {}
    exec(compile(text, task, "exec"), made)  # noqa: S102
    return made, text


@pytest.mark.slow
def test_of_a_recogniser(tmp_path, capsys):
    pytest.importorskip("soundfile")
    from tests.support.speech import save_whisper  # noqa: PLC0415

    base = save_whisper(tmp_path / "base")
    processor = AutoProcessor.from_pretrained(base)
    processor.save_pretrained(tmp_path / "run")
    adapter = adapted(
        AutoModelForSpeechSeq2Seq.from_pretrained(base), tmp_path / "run", targets=["q_proj", "v_proj", "fc1"]
    )
    made, _ = run("automatic-speech-recognition", base, tmp_path / "run", labels=[])
    features = processor(SILENCE, sampling_rate=16000, return_tensors="pt").input_features
    assert "'text'" in capsys.readouterr().out
    assert torch.equal(made["model"].generate(features), adapter.generate(features))


def test_of_what_tells_sounds(tmp_path, capsys):
    pytest.importorskip("soundfile")
    from tests.support.speech import save_whisper  # noqa: PLC0415

    base = save_whisper(tmp_path / "base")
    processor = AutoFeatureExtractor.from_pretrained(base)
    processor.save_pretrained(tmp_path / "run")
    model = AutoModelForAudioClassification.from_pretrained(base, id2label={0: "yes", 1: "no"})
    adapter = adapted(model, tmp_path / "run", "projector", "classifier", targets=["q_proj", "v_proj"])
    run("audio-classification", base, tmp_path / "run", labels=["yes", "no"])
    with torch.no_grad():
        answer = adapter(processor(SILENCE, sampling_rate=16000, return_tensors="pt").input_features).logits.softmax(-1)
    told = capsys.readouterr().out
    assert {name: float(score) for score, name in re.findall(r"'score': ([\d.]+), 'label': '(\w+)'", told)} == (
        pytest.approx({"yes": answer[0, 0].item(), "no": answer[0, 1].item()}, abs=1e-6)
    )


def test_of_an_encoder_of_sentences(tmp_path):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    base = save_bert(tmp_path / "base", words=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "man", "is", "."])
    adapter = adapted(
        sentence_transformers.SentenceTransformer(str(base)), tmp_path / "run", targets=["query", "value"]
    )
    made, _ = run("sentence-similarity", base, tmp_path / "run")
    assert np.array_equal(made["model"].encode("a man is ."), adapter.base_model.model.encode("a man is ."))
    other = sentence_transformers.SentenceTransformer(str(base)).encode("a man is .")
    assert not np.allclose(made["model"].encode("a man is ."), other)


def test_of_several_classes(tmp_path, capsys):
    base = save_bert(tmp_path / "base", words=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "plot", "is"])
    for file in base.glob("*token*"):
        (tmp_path / "run").mkdir(exist_ok=True)
        (tmp_path / "run" / file.name).write_bytes(file.read_bytes())
    model = BertForSequenceClassification.from_pretrained(base, num_labels=3)
    adapted(model, tmp_path / "run", "classifier", targets=["query"])
    labels, kind = ["PERSON", "CITY", "DATE"], "multi_label_classification"
    made, text = run("text-classification", base, tmp_path / "run", labels=labels, problem_type=kind)
    assert "top_k=None" in text
    assert made["model"].config.problem_type == kind
    assert capsys.readouterr().out.count("'label'") == 3
