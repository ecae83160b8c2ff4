"""Which rows of resized embeddings are pre-trained, and which parameters were initialised anew all the same."""

import copy
import logging

import pytest
import torch
from torch import nn
from transformers import (
    AutoModel,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertLMHeadModel,
    EncoderDecoderModel,
    Gemma4ForCausalLM,
    Gemma4TextConfig,
    LlamaForCausalLM,
    MarianConfig,
    MarianMTModel,
    ViTForImageClassification,
)

from ftp_hf.pretrained import CheckpointAnchors, load_weights, new_parameters, origin, pretrained_rows
from tests.support.equal import assert_equal, weights
from tests.support.models import (
    SIZES,
    save_bert,
    save_language_models,
    tiny_bert_config,
    tiny_vit_config,
)

EMBEDDINGS, HEAD = "model.embed_tokens.weight", "lm_head.weight"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save_language_models(tmp_path_factory.mktemp("saved"), words=64)


def llama(saved, kind, *resize, **options):
    model = LlamaForCausalLM.from_pretrained(saved / kind)
    model.resize_token_embeddings(*resize, **options)
    return model


@pytest.mark.parametrize(
    ("resize", "options", "count"),
    [((66,), {}, 64), ((66,), {"mean_resizing": False}, 64), ((65,), {"pad_to_multiple_of": 16}, 64), ((60,), {}, 60)],
)
def test_old_rows_are_those_that_the_checkpoint_holds(saved, resize, options, count):
    untied = llama(saved, "untied", *resize, **options)
    assert pretrained_rows(untied) == {EMBEDDINGS: count, HEAD: count}
    assert new_parameters(untied) == set()
    tied = llama(saved, "tied", *resize, **options)
    assert pretrained_rows(tied) == {EMBEDDINGS: count}
    assert new_parameters(tied) == set()
    bert = BertForMaskedLM.from_pretrained(saved / "bert")
    bert.resize_token_embeddings(*resize, **options)
    assert pretrained_rows(bert) == {"bert.embeddings.word_embeddings.weight": count, "cls.predictions.bias": count}
    assert new_parameters(bert) == set()


def test_a_new_head_of_a_resized_model_is_new(saved):
    model = BertForSequenceClassification.from_pretrained(saved / "bert")
    model.resize_token_embeddings(66)
    assert pretrained_rows(model) == {"bert.embeddings.word_embeddings.weight": 64}
    assert {"classifier.weight", "classifier.bias"} < new_parameters(model)


def test_what_was_not_resized_is_not_read(saved, monkeypatch):
    monkeypatch.setattr(origin, "local_checkpoint", None)
    for kind in ("tied", "untied"):
        model = llama(saved, kind, 64)
        assert pretrained_rows(model) == {}
        assert new_parameters(model) == set()


def test_tensors_of_another_shape_that_were_initialised_anew_are_new(saved, tmp_path):
    other = LlamaForCausalLM.from_pretrained(saved / "untied", vocab_size=66, ignore_mismatched_sizes=True)
    assert pretrained_rows(other) == {}
    assert new_parameters(other) == {EMBEDDINGS, HEAD}
    ViTForImageClassification(tiny_vit_config(num_labels=10)).save_pretrained(tmp_path / "vit")
    vit = ViTForImageClassification.from_pretrained(tmp_path / "vit", num_labels=3, ignore_mismatched_sizes=True)
    for anchors in (None, CheckpointAnchors(tmp_path / "vit", vit)):
        assert pretrained_rows(vit, anchors) == {}
        assert new_parameters(vit, anchors) == {"classifier.weight", "classifier.bias"}


def test_anchors_of_another_checkpoint_decide(saved, tmp_path):
    llama(saved, "untied", 70).save_pretrained(tmp_path / "resized")
    model = LlamaForCausalLM.from_pretrained(tmp_path / "resized")
    assert pretrained_rows(model) == {}
    anchors = CheckpointAnchors(saved / "untied", model)
    assert pretrained_rows(model, anchors) == {EMBEDDINGS: 64, HEAD: 64}
    assert new_parameters(model, anchors) == set()
    assert pretrained_rows(model, {EMBEDDINGS: torch.zeros(60, 16), HEAD: torch.zeros(70, 16)}) == {EMBEDDINGS: 60}
    model.resize_token_embeddings(80)
    assert pretrained_rows(model) == {EMBEDDINGS: 70, HEAD: 70}
    assert pretrained_rows(model, anchors) == {EMBEDDINGS: 64, HEAD: 64}


def test_copies_and_models_within_models(saved, tmp_path):
    model = llama(saved, "untied", 66)
    assert pretrained_rows(copy.deepcopy(model)) == {EMBEDDINGS: 64, HEAD: 64}
    assert new_parameters(copy.deepcopy(model)) == set()
    encoder = AutoModel.from_pretrained(saved / "bert")
    encoder.resize_token_embeddings(66)
    whole = nn.ModuleDict({"encoder": encoder, "decoder": model, "head": nn.Linear(16, 2)})
    rows = {"encoder.embeddings.word_embeddings.weight": 64, f"decoder.{EMBEDDINGS}": 64, f"decoder.{HEAD}": 64}
    assert pretrained_rows(whole) == rows
    save_bert(tmp_path / "decoder", vocab_size=40)
    decoder = BertLMHeadModel.from_pretrained(tmp_path / "decoder", is_decoder=True, add_cross_attention=True)
    decoder.resize_token_embeddings(44)
    both = EncoderDecoderModel(encoder=encoder, decoder=decoder)
    found = pretrained_rows(both)
    assert found["encoder.embeddings.word_embeddings.weight"] == 64
    assert found["decoder.bert.embeddings.word_embeddings.weight"] == 40


def test_whatever_has_a_row_for_each_token(tmp_path):
    sizes = {**SIZES, "head_dim": 8, "num_key_value_heads": 1, "hidden_size_per_layer_input": 4}
    vocabulary = {"vocab_size": 64, "vocab_size_per_layer_input": 64, "pad_token_id": 0}
    Gemma4ForCausalLM(Gemma4TextConfig(**sizes, **vocabulary)).save_pretrained(tmp_path)
    model = Gemma4ForCausalLM.from_pretrained(tmp_path)
    model.resize_token_embeddings(66)
    assert pretrained_rows(model) == {EMBEDDINGS: 64, "model.embed_tokens_per_layer.weight": 64}
    assert new_parameters(model) == set()


def test_a_checkpoint_that_cannot_be_read_is_told(saved, tmp_path, caplog):
    model = llama(saved, "untied", 64)
    model.save_pretrained(tmp_path / "moved")
    moved = LlamaForCausalLM.from_pretrained(tmp_path / "moved")
    moved.resize_token_embeddings(66)
    (tmp_path / "moved" / "model.safetensors").rename(tmp_path / "model.safetensors")
    with caplog.at_level(logging.WARNING, "ftp_hf"):
        assert pretrained_rows(moved) == {}
        assert new_parameters(moved) == {HEAD}
    assert caplog.text.count("The vocabulary was resized") == 1


def test_a_folder_without_a_config_says_nothing_of_the_vocabulary(saved, tmp_path, caplog):
    model = LlamaForCausalLM.from_pretrained(saved / "tied")
    model.config._name_or_path = model.name_or_path = str(
        tmp_path
    )  # as a router's, whose modules have their own folders
    with caplog.at_level(logging.WARNING, "ftp_hf"):
        assert pretrained_rows(model) == {}
    assert not caplog.text


def test_copies_that_a_merge_leaves_in_a_model_are_pretrained(saved, caplog):
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"])
    whole = nn.ModuleDict({"lm": peft.get_peft_model(llama(saved, "untied"), config).merge_and_unload()})
    assert new_parameters(whole) == set()
    with torch.no_grad():
        whole["lm"].lm_head.weight.zero_()  # trained, in the same process
    assert new_parameters(whole) == set()

    merged = peft.get_peft_model(llama(saved, "untied"), config).merge_and_unload()
    with torch.no_grad():
        merged.lm_head.weight.zero_()
    with caplog.at_level(logging.WARNING, "ftp_hf"):
        assert new_parameters(merged) == {HEAD}
    assert f"count as new: {HEAD}. If they are pre-trained all the same" in caplog.text


def test_a_head_that_was_initialised_anew_is_new_though_the_checkpoint_has_one_like_it(tmp_path):
    BertForSequenceClassification(tiny_bert_config(num_labels=2)).save_pretrained(tmp_path)
    model = BertForSequenceClassification.from_pretrained(tmp_path)
    assert new_parameters(model) == set()
    model.classifier = nn.Linear(*reversed(model.classifier.weight.shape))
    nn.init.zeros_(model.classifier.bias)  # as in the checkpoint
    assert new_parameters(model) == {"classifier.weight", "classifier.bias"}


@pytest.fixture(scope="module")
def marian(tmp_path_factory):
    """The folder of a pre-trained translator, without the positions that it computes itself."""
    folder = tmp_path_factory.mktemp("marian")
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    config = MarianConfig(
        vocab_size=20, max_position_embeddings=20, pad_token_id=0, decoder_start_token_id=0, **sizes, **heads
    )
    torch.manual_seed(0)
    MarianMTModel(config).save_pretrained(folder)
    return folder


def with_adapters(model):
    peft = pytest.importorskip("peft")
    return peft.get_peft_model(model, peft.LoraConfig(target_modules=["q_proj"]))


def as_a_part(model):
    return nn.ModuleDict({"translator": model})


@pytest.mark.parametrize("within", [lambda model: model, copy.deepcopy, as_a_part, with_adapters])
def test_positions_that_a_model_computes_itself_are_not_new(within, marian):
    model = within(MarianMTModel.from_pretrained(marian))
    assert sum("embed_positions" in name for name, _ in model.named_parameters()) == 2
    for anchors in (None, CheckpointAnchors(marian, model)):
        assert {name for name in new_parameters(model, anchors) if "lora_" not in name} == set()


def test_positions_that_a_part_computes_itself_are_not_missed(marian):
    model = as_a_part(MarianMTModel.from_pretrained(marian))
    pretrained = weights(model)
    found = CheckpointAnchors(marian, model)
    assert all(torch.equal(found[name], parameter) for name, parameter in model.named_parameters())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.mul_("embed_positions" in name)
    load_weights(model, marian)
    assert_equal(weights(model), pretrained)


def test_adapters(saved):
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"])
    model = peft.get_peft_model(llama(saved, "untied", 66), config)
    embeddings, head = "base_model.model.model.embed_tokens", "base_model.model.lm_head"
    kinds = ("original_module", "modules_to_save.default")
    assert pretrained_rows(model) == {f"{path}.{kind}.weight": 64 for path in (embeddings, head) for kind in kinds}
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], trainable_token_indices=[3, 64])
    model = peft.get_peft_model(llama(saved, "tied", 66), config)
    assert pretrained_rows(model) == {f"{embeddings}.token_adapter.base_layer.weight": 64}
