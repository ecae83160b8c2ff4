"""How strongly models and their layers answer small changes of their inputs."""

import copy
import dataclasses

import pytest
import torch
from torch import nn
from transformers import (
    BertForSequenceClassification,
    BertModel,
    GPT2ForSequenceClassification,
    MobileNetV2Config,
    MobileNetV2ForImageClassification,
    PreTrainedConfig,
    PreTrainedModel,
    ViTForImageClassification,
    WhisperConfig,
    WhisperForAudioClassification,
    WhisperForConditionalGeneration,
)

from ftp_hf import sensitivity
from ftp_hf.distance import model_distance
from ftp_hf.sensitivity import model_sensitivity
from tests.support.equal import assert_equal
from tests.support.models import tiny_bert_config, tiny_gpt2_config, tiny_vit_config

MODELS = {
    "BERT": lambda: BertForSequenceClassification(tiny_bert_config()),
    "GPT-2": lambda: GPT2ForSequenceClassification(tiny_gpt2_config(pad_token_id=0)),
    "ViT": lambda: ViTForImageClassification(tiny_vit_config(image_size=16, patch_size=8)),
    "Whisper": lambda: WhisperForConditionalGeneration(tiny_whisper_config()),
    "MobileNetV2": lambda: with_statistics(MobileNetV2ForImageClassification(MobileNetV2Config(depth_multiplier=0.2))),
}


BEFORE_SOUND = ("decoder.layers.0.self_attn", "decoder.layers.0.encoder_attn.q_proj")
"""Of Whisper: what a decoder's first layer makes of tokens alone."""


def tiny_whisper_config():
    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "classifier_proj_size": 16}
    lengths = {"max_source_positions": 10, "max_target_positions": 8, "num_mel_bins": 8}
    tokens = {"bos_token_id": 19, "eos_token_id": 19, "pad_token_id": 19, "decoder_start_token_id": 18}
    return WhisperConfig(vocab_size=20, **sizes, **heads, **lengths, **tokens)


def with_statistics(model):
    """The batch norms see data once: without, nearly nothing of an input gets through an untrained MobileNetV2."""
    model.train()(torch.randn(8, 3, 64, 64))
    return model.eval()


class OneLayer(PreTrainedModel):
    """`W x + b`, which sees its pixels as they are."""

    config_class = PreTrainedConfig
    main_input_name = "pixel_values"

    def __init__(self, weight):
        super().__init__(PreTrainedConfig())
        self.layer = nn.Linear(2, 2)
        self.layer.weight.data = torch.tensor(weight)

    def forward(self, pixel_values):
        return (self.layer(pixel_values),)


def batches(model, count=2):
    if model.main_input_name == "input_ids":
        return [
            {
                "input_ids": torch.randint(1, 11, (3, 5)),
                "attention_mask": torch.ones(3, 5, dtype=torch.long),
                "labels": torch.zeros(3, dtype=torch.long),
            }
            for _ in range(count)
        ]
    if model.main_input_name == "input_features":
        return [
            {"input_features": torch.randn(3, 8, 20), "labels": torch.tensor([[1, 2, 19], [3, 19, -100], [4, 5, 19]])}
            for _ in range(count)
        ]
    side = 16 if model.base_model_prefix == "vit" else 64
    return [{"pixel_values": torch.randn(3, 3, side, side)} for _ in range(count)]


def moved(model, by=0.002):
    model = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(by * torch.randn_like(parameter))
    return model


def test_by_hand():
    model, before = OneLayer([[1.0, -2.0], [0.5, 0.5]]), OneLayer([[1.0, 0.0], [0.0, 1.0]])
    found = model_sensitivity(model, before, [{"pixel_values": torch.randn(32, 2)}])
    # All four signs of two pixels are met, so that each ratio is the largest sum of a row.
    (layer,) = found.layers
    assert layer.name == "layer"
    assert (found.fine_tuned, layer.fine_tuned) == (pytest.approx(3.0, rel=1e-3),) * 2
    assert (found.pretrained, layer.pretrained) == (pytest.approx(1.0, rel=1e-3),) * 2
    assert layer.difference == pytest.approx(2.0, rel=1e-3)  # of [[0, -2], [0.5, -0.5]]
    assert layer.bound == 2.0
    # The identity answers each change with itself.
    assert found.typical_pretrained == pytest.approx(1.0, rel=1e-3)


class Clipped(OneLayer):
    """The same below a ReLU6, as MobileNetV2 ends."""

    def forward(self, pixel_values):
        return (nn.functional.relu6(self.layer(pixel_values)),)


def test_a_steep_channel_under_a_ceiling_does_not_decide_the_typical_sensitivity():
    def make(other):
        weight = torch.cat([torch.full((1, 2), 1e6), torch.full((63, 2), other)])
        model = Clipped([[1.0, 1.0]])
        model.layer = nn.Linear(2, 64, bias=False)
        model.layer.weight.data = weight
        return model

    # Where the sum of the inputs is about zero, a small change opens the steep channel fully, or shuts it.
    inputs = [{"pixel_values": 0.5 + torch.rand(256, 2) * torch.tensor([1.0, 0.0]) - torch.tensor([0.0, 1.5])}]
    calm, nervous = make(1.0), make(2.0)
    found = model_sensitivity(nervous, calm, inputs)
    size = 0.01 * inputs[0]["pixel_values"].square().mean().sqrt().item()
    assert (found.fine_tuned, found.pretrained) == (pytest.approx(6 / size, rel=1e-4),) * 2
    inputs = [{"pixel_values": 0.5 + torch.rand(256, 2)}]
    found = model_sensitivity(nervous, calm, inputs)
    assert found.typical_fine_tuned == pytest.approx(2 * found.typical_pretrained, rel=1e-3)


def watched(layer, inputs):
    """What is met in the layer when it sees these inputs."""
    hook = sensitivity._Watched(layer, changes=1)
    layer.register_forward_hook(hook)
    with torch.no_grad():
        layer(inputs)
    return hook


def test_positions_of_a_linear_layer_are_apart_and_a_convolutions_sample_is_whole():
    change = torch.tensor([[[0.1, -0.1], [1.0, 1.0]]])  # a sample of two positions, or of two channels
    inputs = torch.cat([torch.zeros_like(change), change])
    linear, convolution = nn.Linear(2, 1), nn.Conv1d(2, 1, kernel_size=1)
    linear.weight.data = torch.tensor([[1.0, -1.0]])
    convolution.weight.data = torch.tensor([[[1.0], [-1.0]]])
    assert watched(linear, inputs).ratio == pytest.approx(2.0)
    assert watched(convolution, inputs).ratio == pytest.approx(1.1)


def test_a_table_that_is_no_batch_is_left_out():
    assert watched(nn.Linear(2, 1), torch.zeros(4, 2)).called
    assert not watched(nn.Linear(2, 1), torch.zeros(3, 2)).called


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_no_layer_exceeds_its_bound(make):
    before = make()
    model = moved(before)
    found = model_sensitivity(model, before, batches(model))
    distance = model_distance(model.base_model, before.base_model.state_dict())
    prefix = f"{model.base_model_prefix}."
    known = {f"{prefix}{p.name}": p.lipschitz for p in distance.parameters if p.lipschitz is not None}
    assert [f"{layer.name}.weight" for layer in found.layers] == list(known)
    for layer in found.layers:
        assert layer.bound == pytest.approx(known[f"{layer.name}.weight"])
        if any(name in layer.name for name in BEFORE_SOUND):
            assert layer.fine_tuned == layer.pretrained == layer.difference == 0, "no sound gets there, only tokens"
            continue
        assert 0.01 * layer.bound < layer.difference <= layer.bound * (1 + 1e-5), layer.name
        assert layer.fine_tuned > 0 < layer.pretrained
    assert found.fine_tuned > 0 < found.pretrained


@pytest.mark.parametrize("make", [MODELS["BERT"], MODELS["Whisper"]])
def test_what_is_known_of_the_pretrained_model_is_not_measured_again(make):
    pretrained, calls = make(), []
    one, other = moved(pretrained), moved(moved(pretrained))
    given = batches(one)
    expected = model_sensitivity(other, pretrained, given)
    known = model_sensitivity(one, pretrained, given)
    assert known.fine_tuned != expected.fine_tuned
    pretrained.base_model.register_forward_hook(lambda *_: calls.append(1))
    assert model_sensitivity(other, pretrained, given, before=known) == expected
    assert not calls
    assert model_sensitivity(other, pretrained, given, before=dataclasses.replace(known, layers=())) == expected
    assert calls


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_a_model_is_as_sensitive_as_itself(make):
    model = make()
    found = model_sensitivity(model, copy.deepcopy(model), batches(model))
    assert found.fine_tuned == found.pretrained
    for layer in found.layers:
        assert layer.fine_tuned == layer.pretrained
        assert layer.difference == layer.bound == 0.0


def test_a_decoder_has_written_the_labels_before_each():
    model = MODELS["Whisper"]()
    (batch,) = batches(model, 1)
    found = model_sensitivity(moved(model), model, [batch])
    written = torch.tensor([[18, 1, 2], [18, 3, 19], [18, 4, 5]])
    told = {"input_features": batch["input_features"], "decoder_input_ids": written}
    assert model_sensitivity(moved(model), model, [told]).pretrained == found.pretrained
    assert {layer.name.split(".")[1] for layer in found.layers} == {"encoder", "decoder"}


def test_of_an_encoder_alone_the_head_is_left_out():
    model = WhisperForAudioClassification(tiny_whisper_config())
    other_head = copy.deepcopy(model)
    for head in (other_head.projector, other_head.classifier):
        head.weight.data.mul_(3.0)
    inputs = [{"input_features": torch.randn(3, 8, 20), "labels": torch.tensor([0, 1, 0])}]
    found = model_sensitivity(other_head, model, inputs)
    assert found.fine_tuned == found.pretrained
    assert all(layer.name.startswith("encoder.") for layer in found.layers)


def test_a_louder_model_is_more_sensitive():
    before = MODELS["ViT"]()
    model = copy.deepcopy(before)
    with torch.no_grad():
        model.vit.layernorm.weight.mul_(3.0)  # the last thing that the body does
    found = model_sensitivity(model, before, batches(model))
    assert found.fine_tuned == pytest.approx(3.0 * found.pretrained, rel=1e-4)


def test_the_pretrained_model_may_have_no_head():
    model = MODELS["BERT"]()
    before = copy.deepcopy(model)
    inputs = batches(model)
    assert isinstance(before.bert, BertModel)
    assert model_sensitivity(moved(model), before.bert, inputs).pretrained == (
        model_sensitivity(moved(model), before, inputs).pretrained
    )


def test_the_seed_and_nothing_else_decides():
    model = MODELS["BERT"]()
    after, inputs = moved(model), batches(model)
    found = model_sensitivity(after, model, inputs)
    torch.manual_seed(5)
    assert found == model_sensitivity(after, model, inputs)
    assert found != model_sensitivity(after, model, inputs, seed=1)
    more = model_sensitivity(after, model, inputs[:1], perturbations=9)
    less = model_sensitivity(after, model, inputs[:1], perturbations=3)
    assert more.fine_tuned >= less.fine_tuned


def test_models_are_left_as_they_were():
    model = MODELS["BERT"]()
    before = copy.deepcopy(model)
    model.train()
    model.bert.encoder.layer[0].eval()
    modes = [module.training for module in model.modules()]
    weights = copy.deepcopy(model.state_dict())
    model_sensitivity(model, before, batches(model))
    assert [module.training for module in model.modules()] == modes
    assert not any(module._forward_hooks for module in model.modules())
    assert_equal(model.state_dict(), weights)


def test_what_is_refused():
    model = MODELS["BERT"]()
    inputs = batches(model)
    with pytest.raises(ValueError, match="batches is empty"):
        model_sensitivity(model, model, [])
    with pytest.raises(ValueError, match=r"size must be positive and perturbations at least 1, got 0\.0 and 4"):
        model_sensitivity(model, model, inputs, size=0.0)
    with pytest.raises(ValueError, match=r"batches lack 'input_ids', the model's input; they have pixels"):
        model_sensitivity(model, model, [{"pixels": torch.zeros(1)}])
    with pytest.raises(ValueError, match="pretrained is in 16 bits"):
        model_sensitivity(model, copy.deepcopy(model).bfloat16(), inputs)
    with pytest.raises(ValueError, match="no linear layer of the same name and shape in common"):
        model_sensitivity(model, MODELS["GPT-2"](), inputs)
    with pytest.raises(TypeError, match="model must be a model of transformers, got Linear"):
        model_sensitivity(nn.Linear(2, 2), model, inputs)
    diverged = copy.deepcopy(model)
    diverged.bert.embeddings.LayerNorm.weight.data.fill_(float("nan"))
    with pytest.raises(ValueError, match="BertModel answers with NaN or infinite values"):
        model_sensitivity(diverged, model, inputs)
