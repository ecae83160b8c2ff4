"""LDIFS: the distance of features, of each kind of model."""

import copy

import pytest
import torch
from datasets import Dataset
from torch import nn
from transformers import (
    AutoTokenizer,
    LlamaForCausalLM,
    MobileNetV2ForImageClassification,
    Seq2SeqTrainer,
    WhisperForConditionalGeneration,
)
from transformers.training_args_seq2seq import Seq2SeqTrainingArguments

from ftp_hf.baselines import LDIFSTrainerMixin, ldifs_penalty
from ftp_hf.baselines.ldifs import quarters
from ftp_hf.tasks.whisper_windows import WindowsTrainerMixin, hearing
from tests.support import trainers
from tests.support.baselines import LDIFSTrainer, load, make, nudge, train
from tests.support.equal import assert_equal
from tests.support.models import tiny_llama_config, tiny_mobilenet_config
from tests.support.tiny_language import make_pairs, save_llama

sentence_transformers = pytest.importorskip("sentence_transformers")
losses = pytest.importorskip("sentence_transformers.losses")
trl = pytest.importorskip("trl")


class SpeechLDIFSTrainer(LDIFSTrainerMixin, WindowsTrainerMixin, Seq2SeqTrainer):
    pass


class SFTLDIFSTrainer(LDIFSTrainerMixin, trl.SFTTrainer):
    pass


class SentenceLDIFSTrainer(LDIFSTrainerMixin, sentence_transformers.SentenceTransformerTrainer):
    pass


def distance(before, after, mask=None):
    """Of unit vectors, and of zeros where there is no direction: the mean of a row's positions, then of the rows."""
    images = before.ndim > 3
    start, now = (x.flatten(2).transpose(1, 2) if images else x for x in (before, after))
    start, now = (x / (x * x).sum(-1, keepdim=True).sqrt().clamp(min=1e-12) for x in (start, now))
    found = ((now - start) ** 2).sum(-1)
    mask = torch.ones_like(found) if mask is None else mask
    return ((found * mask).sum(-1) / mask.sum(-1)).mean()


def test_a_distance_by_hand():
    before = torch.tensor([[[2.0, 0.0], [1.0, 0.0]], [[0.0, 3.0], [1.0, 1.0]]])
    after = torch.tensor([[[0.0, 5.0], [0.5, 0.5 * 3**0.5]], [[0.0, 1.0], [-1.0, -1.0]]])
    # at right angles 2, at 60° 1; the same direction 0, opposite ones 4
    torch.testing.assert_close(ldifs_penalty(before, after), torch.tensor([1.5, 2.0]))
    mask = torch.tensor([[1, 1], [1, 0]])
    torch.testing.assert_close(ldifs_penalty(before, after, mask), torch.tensor([1.5, 0.0]))
    torch.testing.assert_close(ldifs_penalty(before, after, mask[:, :1]), torch.tensor([1.5, 2.0]))
    torch.testing.assert_close(ldifs_penalty(before[:, 0], after[:, 0]), torch.tensor([2.0, 0.0]))
    images = [states.transpose(1, 2).unflatten(2, (2, 1)) for states in (before, after)]  # (rows, channels, 2, 1)
    torch.testing.assert_close(ldifs_penalty(*images), torch.tensor([1.5, 2.0]))
    assert ldifs_penalty(before.bfloat16(), after.bfloat16()).dtype == torch.float32
    assert torch.isfinite(ldifs_penalty(torch.zeros(1, 2), torch.ones(1, 2))).all()


def test_five_depths_or_as_many_as_there_are():
    assert quarters(range(13)) == [0, 3, 6, 9, 12]
    assert quarters(range(3)) == [0, 1, 2]
    assert quarters(range(1)) == [0]


def test_a_classifier_with_a_new_head(checkpoint, dataset, tmp_path):
    model = load(checkpoint, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    trainer = make(LDIFSTrainer, model, dataset, tmp_path, {"lambda_": 2.0})
    before = copy.deepcopy(model)
    nudge(model.train(), 0.1)
    batch = {name: torch.tensor(dataset[:3][name]) for name in ("input_ids", "labels")}
    batch["attention_mask"] = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0]])
    loss = trainer.compute_loss(model, dict(batch))
    start, now = before(**batch, output_hidden_states=True), model(**batch, output_hidden_states=True)
    assert len(now.hidden_states) == 2
    found = [
        distance(*pair, batch["attention_mask"]) for pair in zip(start.hidden_states, now.hidden_states, strict=True)
    ]
    assert sum(found) > 1e-3
    torch.testing.assert_close(loss, now.loss + 2.0 * sum(found) / 2, rtol=1e-5, atol=1e-6)
    assert {name.split(".")[0] for name, _ in trainer._frozen.named_parameters()} == {"embeddings", "encoder", "pooler"}
    assert trainer.compute_loss(model.eval(), dict(batch)) == model(**batch).loss


def test_a_network_of_convolutions(tmp_path):
    torch.manual_seed(0)
    model = MobileNetV2ForImageClassification(tiny_mobilenet_config(classifier_dropout_prob=0.0))
    trainer = LDIFSTrainer(model=model, args=trainers.arguments(tmp_path), lambda_=2.0)
    before = copy.deepcopy(model).eval()
    nudge(model.train(), 0.1)
    batch = {"pixel_values": torch.randn(2, 3, 32, 32), "labels": torch.tensor([0, 1])}
    states = quarters(before(**batch, output_hidden_states=True).hidden_states)
    counts = {name: value.clone() for name, value in trainer._frozen.named_buffers()}
    now = copy.deepcopy(model)(**batch, output_hidden_states=True)
    loss = trainer.compute_loss(model, dict(batch))
    found = [distance(*pair) for pair in zip(states, quarters(now.hidden_states), strict=True)]
    torch.testing.assert_close(loss, now.loss + 2.0 * sum(found) / 5, rtol=1e-4, atol=1e-5)
    assert_equal(dict(trainer._frozen.named_buffers()), counts)


def test_a_recogniser_in_windows_of_the_batch(tmp_path):
    speech = pytest.importorskip("tests.support.speech")
    model = WhisperForConditionalGeneration.from_pretrained(speech.save_whisper(tmp_path / "whisper"))
    trainer = SpeechLDIFSTrainer(model=model, args=trainers.arguments(tmp_path, Seq2SeqTrainingArguments), lambda_=2.0)
    before = copy.deepcopy(model)
    nudge(model.train(), 0.1)
    features = torch.randn(2, 8, 100, generator=torch.Generator().manual_seed(0))
    batch = {"input_features": features, "labels": torch.tensor([[3, 4, 26], [5, 26, -100]])}
    loss = trainer.compute_loss(model, dict(batch))
    with hearing(model, batch), hearing(before, batch):
        start, now = before(**batch, output_hidden_states=True), model(**batch, output_hidden_states=True)
    found = [distance(*pair) for pair in zip(start.encoder_hidden_states, now.encoder_hidden_states, strict=True)]
    pairs = zip(start.decoder_hidden_states, now.decoder_hidden_states, strict=True)
    found += [distance(*pair, batch["labels"] != -100) for pair in pairs]
    assert len(found) == 4
    torch.testing.assert_close(loss, now.loss + 2.0 * sum(found) / 4, rtol=1e-5, atol=1e-6)


def test_a_language_model_of_trl(tmp_path):
    torch.manual_seed(3)
    model = LlamaForCausalLM(tiny_llama_config())
    rows = Dataset.from_dict({"input_ids": [[3, 4]], "labels": [[3, 4]]})
    tokens = {"dataset_kwargs": {"skip_prepare_dataset": True}, "max_length": None, "bf16": False}
    processor = AutoTokenizer.from_pretrained(save_llama(tmp_path / "tokenizer"))
    args = trainers.arguments(tmp_path, trl.SFTConfig, **tokens)
    trainer = SFTLDIFSTrainer(model=model, args=args, train_dataset=rows, processing_class=processor, lambda_=2.0)
    before = copy.deepcopy(model.model)
    nudge(model.train(), 0.1)
    batch = {"input_ids": torch.tensor([[3, 4, 5], [6, 7, 0]]), "attention_mask": torch.tensor([[1, 1, 1], [1, 1, 0]])}
    batch["labels"] = torch.tensor([[-100, 4, 5], [-100, 7, -100]])
    trainer.current_gradient_accumulation_steps = 2  # the Trainer does not divide a loss over num_items_in_batch
    loss = trainer.compute_loss(model, dict(batch), num_items_in_batch=6)
    start = before(batch["input_ids"], batch["attention_mask"], output_hidden_states=True).hidden_states
    now = model(**batch, output_hidden_states=True)
    found = [distance(*pair, batch["attention_mask"]) for pair in zip(start, now.hidden_states, strict=True)]
    torch.testing.assert_close(loss, now.loss * 3 / 6 + 2.0 * sum(found) / 3 / 2, rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def sentences(tmp_path_factory):
    return make_pairs(tmp_path_factory.mktemp("pairs"))


def sentence_trainer(sentences, folder, loss, **method):
    model = sentence_transformers.SentenceTransformer(str(sentences / "model"), device="cpu")
    args = trainers.arguments(folder, sentence_transformers.SentenceTransformerTrainingArguments, bf16=False)
    rows = Dataset.from_parquet(str(sentences / "train.parquet"), cache_dir=str(folder))
    return SentenceLDIFSTrainer(model=model, args=args, train_dataset=rows, loss=loss(model), **method)


def test_an_encoder_of_sentences(sentences, tmp_path):
    trainer = sentence_trainer(sentences, tmp_path, losses.CoSENTLoss, lambda_=2.0)
    plain = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    encoder = trainer.looked_at(trainer.model)
    for module in trainer.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    before = copy.deepcopy(encoder)
    nudge(trainer.model.train(), 0.1)
    loss = trainer.compute_loss(trainer.model, dict(plain))
    features, _ = trainer.collect_features(dict(plain))
    found = []
    for feature in features:
        given = {"input_ids": feature["input_ids"], "attention_mask": feature["attention_mask"]}
        states = (model(**given, output_hidden_states=True).hidden_states for model in (before, encoder))
        found += [distance(*pair, given["attention_mask"]) for pair in zip(*states, strict=True)]
    trainer.lambda_ = 0.0
    assert sum(found) > 1e-3
    expected = trainer.compute_loss(trainer.model, dict(plain)) + 2.0 * sum(found) / len(found)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)


def test_what_has_no_features_is_refused(sentences, dataset, tmp_path):
    with pytest.raises(ValueError, match="of which Linear has 0 in it: hold on to weights instead, by 'l2-sp'"):
        make(LDIFSTrainer, nn.Linear(2, 2), dataset, tmp_path)
    with pytest.raises(ValueError, match="lambda_ must be finite and not negative, got -1"):
        make(LDIFSTrainer, nn.Linear(2, 2), dataset, tmp_path, {"lambda_": -1.0})
    cached = sentence_trainer(sentences, tmp_path, losses.CachedMultipleNegativesRankingLoss)
    batch = cached._prepare_inputs(next(iter(cached.get_train_dataloader())))
    cached.model.train()
    with pytest.raises(ValueError, match="use a loss that is not cached"):
        cached.compute_loss(cached.model, batch)


@pytest.mark.slow
def test_a_strong_anchor_keeps_the_features(checkpoint, dataset, tmp_path):
    batch = {"input_ids": torch.tensor(dataset["input_ids"])}
    found = []
    for strength in (0.0, 30.0):
        model = load(checkpoint)
        with torch.no_grad():
            before = model.bert.eval()(**batch).last_hidden_state
        train(LDIFSTrainer, model, dataset, tmp_path, {"lambda_": strength}, max_steps=20)
        found.append(float(ldifs_penalty(before, model.bert.eval()(**batch).last_hidden_state).mean().detach()))
    assert found[1] < 0.5 * found[0]
