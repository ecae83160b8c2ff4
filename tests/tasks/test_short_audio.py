"""Whisper in windows of a few seconds."""

import copy

import numpy as np
import pytest
import torch
from transformers import (
    BertConfig,
    BertModel,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForAudioClassification,
    WhisperForConditionalGeneration,
)

from ftp_hf.tasks.short_audio import set_audio_seconds
from tests.support.equal import assert_equal


def config(seconds):
    return WhisperConfig(
        vocab_size=20, d_model=8, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=8, decoder_ffn_dim=8, num_mel_bins=4, max_target_positions=8,
        max_source_positions=50 * seconds, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
        begin_suppress_tokens=[], num_labels=3,
    )  # fmt: skip


def whisper(seconds, model_class=WhisperForConditionalGeneration):
    torch.manual_seed(0)
    return model_class(config(seconds)).eval()


def heard(seconds):
    clip = np.random.RandomState(0).standard_normal(16000).astype(np.float32)
    extractor = WhisperFeatureExtractor(feature_size=4, chunk_length=seconds)
    return extractor(clip, sampling_rate=16000, return_tensors="pt").input_features


def test_it_is_the_model_that_is_made_for_this_window():
    model, made = whisper(6), whisper(2)
    made.load_state_dict(
        {
            key: made.state_dict()[key] if "encoder.embed_positions" in key else w
            for key, w in model.state_dict().items()
        }
    )
    set_audio_seconds(model, 2)
    inputs = {"input_features": heard(2), "decoder_input_ids": torch.tensor([[1, 5, 6]])}
    with torch.no_grad():
        assert torch.equal(model(**inputs).logits, made(**inputs).logits)
    generated = model.generate(heard(2), max_new_tokens=4)
    assert torch.equal(generated, made.generate(heard(2), max_new_tokens=4))
    assert model.config.to_dict() == made.config.to_dict()


@pytest.mark.parametrize("model_class", [WhisperForConditionalGeneration, WhisperForAudioClassification])
def test_going_back_restores_the_model_to_the_last_bit(model_class):
    model = whisper(6, model_class)
    table = model.get_encoder().embed_positions
    with torch.no_grad():
        table.weight.add_(1e-4)  # as rounded tables are not quite what the formula says
    parameter = table.weight
    before, weights = copy.deepcopy(model), list(model.state_dict())
    for seconds in (2, 3, 0.98, 6):
        set_audio_seconds(model, seconds)
        assert list(model.state_dict()) == weights
        assert table.weight.shape == (round(50 * seconds), 8)
        assert table.weight is parameter
        assert not table.weight.requires_grad
    assert_equal(model.state_dict(), before.state_dict())
    assert model.config.to_dict() == before.config.to_dict()


def test_a_short_model_that_was_saved_is_made_longer_by_the_formula(tmp_path):
    model = whisper(6)
    expected = model.model.encoder.embed_positions.weight.detach().clone()
    set_audio_seconds(model, 2)
    model.save_pretrained(tmp_path)
    loaded = WhisperForConditionalGeneration.from_pretrained(tmp_path)
    assert loaded.config.max_source_positions == 100
    set_audio_seconds(loaded, 6)
    torch.testing.assert_close(loaded.model.encoder.embed_positions.weight, expected, rtol=0, atol=1e-6)
    assert not loaded.model.encoder.embed_positions.weight.requires_grad


def test_what_the_layers_are_given_is_equal_and_what_they_make_of_it_is_not():
    long, short = whisper(6), whisper(6)
    set_audio_seconds(short, 2)
    given, made = {}, {}
    for name, model, seconds in (("long", long, 6), ("short", short, 2)):
        encoder = model.model.encoder
        encoder.layers[0].register_forward_pre_hook(lambda _, args, name=name: given.update({name: args[0]}))
        with torch.no_grad():
            made[name] = encoder(heard(seconds)).last_hidden_state
    # All positions but the last, where the convolution meets the end of the window.
    torch.testing.assert_close(given["long"][:, :99], given["short"][:, :99])
    assert not torch.allclose(made["long"][:, :99], made["short"][:, :99])


def test_what_is_refused():
    for seconds in (0, -1, 0.01, 1.999):
        with pytest.raises(ValueError, match=rf"seconds={seconds} must be a multiple of 0\.02 above 0"):
            set_audio_seconds(whisper(2), seconds)
    bert = BertModel(BertConfig(vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=1))
    with pytest.raises(TypeError, match="BertModel has no Whisper encoder"):
        set_audio_seconds(bert, 2)
