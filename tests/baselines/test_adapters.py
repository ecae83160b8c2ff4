"""OSF, KappaTune and CorDA on layers small enough to be worked out by hand, and on an encoder with a new head."""

import json

import pytest
import torch
from peft import PeftModel
from torch import nn

from ftp_hf.baselines import attach_corda, attach_kappatune, attach_osf, save_as_lora
from ftp_hf.baselines.adapters import targeted_layers
from tests.support.baselines import load
from tests.support.equal import assert_equal, weights

LORA = {"r": 1, "lora_alpha": 3, "target_modules": ["layer"]}
ENCODER = {"r": 2, "lora_alpha": 4, "target_modules": "all-linear", "modules_to_save": ["classifier"]}
INPUTS = {"input_ids": torch.tensor([[5, 6, 7, 8], [9, 5, 11, 20]])}


def diagonal(*values):
    layer = nn.Linear(len(values), len(values), bias=False)
    layer.weight.data = torch.diag(torch.tensor(values))
    return layer


def one_layer(*values):
    return nn.ModuleDict({"layer": diagonal(*values)})


def run_on(*inputs):
    return lambda model: model["layer"](torch.tensor(inputs).unsqueeze(0))


def encode(model):
    for row in INPUTS["input_ids"]:
        model(input_ids=row.unsqueeze(0))


def logits(model):
    with torch.no_grad():
        return model.eval()(**INPUTS).logits


def move(model):
    """Change every trained parameter, as a training would."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.mark.parametrize(
    ("inputs", "kept"),
    [
        # C is diag(1, 1/4) to a hundredth, and W C = diag(3, 1/2): the second component is the one to adapt ...
        ([[1.0, 0.0], [0.0, 0.5]], [3.0, 0.0]),
        # ... and here W C = diag(3/25, 2), so that the first is, although its own singular value is larger.
        ([[0.2, 0.0], [0.0, 1.0]], [0.0, 2.0]),
    ],
)
def test_corda_takes_out_what_its_samples_need_least(inputs, kept):
    adapted = attach_corda(one_layer(3.0, 2.0), LORA, run_on(*inputs))
    layer = adapted.base_model.model["layer"]
    torch.testing.assert_close(layer.base_layer.weight.data, torch.diag(torch.tensor(kept)), atol=1e-6, rtol=0)
    whole = layer.base_layer.weight + layer.get_delta_weight("default")
    torch.testing.assert_close(whole, torch.diag(torch.tensor([3.0, 2.0])), atol=1e-6, rtol=0)


def test_samples_count_alike_whatever_their_size():
    def run(model):
        for scale in (1.0, 1e3):
            run_on([scale, 0.0], [0.0, 0.5 * scale])(model)

    layer = attach_corda(one_layer(3.0, 2.0), LORA, run).base_model.model["layer"]
    torch.testing.assert_close(layer.base_layer.weight.data, torch.diag(torch.tensor([3.0, 0.0])), atol=1e-6, rtol=0)


def test_corda_starts_as_the_pretrained_model_and_is_saved_as_what_it_became(checkpoint, tmp_path):
    model = load(checkpoint)
    start = logits(model)
    trained = attach_corda(model, ENCODER, encode)
    torch.testing.assert_close(logits(trained), start)
    ended = logits(move(trained))
    save_as_lora(trained, tmp_path)
    loaded = PeftModel.from_pretrained(load(checkpoint), tmp_path)
    torch.testing.assert_close(logits(loaded), ended)
    assert not torch.allclose(ended, start, atol=1e-2)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["init_lora_weights"], config["corda_config"]) == (
        4,
        8,
        True,
        None,
    )
    torch.testing.assert_close(logits(loaded.merge_and_unload()), ended)


@pytest.mark.parametrize(
    "options", [{"use_rslora": True}, {"rank_pattern": {"layer": 2}, "alpha_pattern": {"layer": 5}}]
)
def test_its_scales_are_kept(tmp_path, options):
    trained = move(
        attach_corda(one_layer(3.0, 2.0, 1.0), {**LORA, **options}, run_on([1.0, 0.5, 0.2], [0.0, 1.0, 0.3]))
    )
    save_as_lora(trained, tmp_path)
    loaded = PeftModel.from_pretrained(one_layer(3.0, 2.0, 1.0), tmp_path)
    merged = [model.merge_and_unload()["layer"].weight for model in (loaded, trained)]
    torch.testing.assert_close(*merged)


def test_corda_refuses_what_it_cannot_decompose():
    with pytest.raises(ValueError, match="the samples never reach layer"):
        attach_corda(one_layer(3.0, 2.0), LORA, lambda _: None)
    with pytest.raises(ValueError, match=r"use_dora: .* leave it out"):
        attach_corda(one_layer(3.0, 2.0), {**LORA, "use_dora": True}, run_on([1.0, 0.0]))
    with pytest.raises(ValueError, match="layer: fewer in- or outputs than the rank 3: lower r"):
        attach_corda(one_layer(3.0, 2.0), {**LORA, "r": 3}, run_on([1.0, 0.0]))


def test_osf_moves_nothing_along_the_largest_components():
    adapted = attach_osf(one_layer(3.0, 2.0, 1.0, 0.5), LORA)
    adapted.base_model.model["layer"](torch.ones(1, 4)).pow(2).sum().backward()
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.sub_(0.01 * parameter.grad)
    change = adapted.base_model.model["layer"].get_delta_weight("default")
    assert change[2:, 2:].abs().min() > 0
    assert change[:2].abs().max() < 1e-6
    assert change[:, :2].abs().max() < 1e-6


def test_osf_freezes_a_share_or_a_number_of_components():
    for given, frozen in ((0.25, 1), (0.5, 2), (3.0, 3)):
        adapted = attach_osf(one_layer(3.0, 2.0, 1.0, 0.5), LORA, effective_rank=given)
        assert adapted.base_model.model["layer"].osf_svd_params["default"]["S_low"].numel() == 4 - frozen
    with pytest.raises(ValueError, match=r"effective_rank must be positive, got 0\.0"):
        attach_osf(one_layer(3.0, 2.0), LORA, effective_rank=0.0)


def test_osf_loads_as_what_it_became(checkpoint, tmp_path):
    model = load(checkpoint)
    start = logits(model)
    trained = attach_osf(model, ENCODER)
    torch.testing.assert_close(logits(trained), start)
    ended = logits(move(trained))
    trained.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(load(checkpoint), tmp_path)
    torch.testing.assert_close(logits(loaded), ended)
    torch.testing.assert_close(logits(loaded.merge_and_unload()), ended)


def test_kappatune_adapts_the_layers_with_the_smallest_condition_numbers():
    layers = {"round": (2.0, 1.9), "flat": (5.0, 0.1), "between": (3.0, 1.0), "head": (1.0, 1.0)}
    options = {**LORA, "target_modules": ["round", "flat", "between"]}
    for share, chosen in ((0.2, {"round"}), (0.7, {"round", "between"}), (1.0, {"round", "between", "flat"})):
        model = nn.ModuleDict({name: diagonal(*values) for name, values in layers.items()})
        assert set(attach_kappatune(model, options, top_p=share).targeted_module_names) == chosen
    with pytest.raises(ValueError, match=r"top_p must lie in \(0, 1\]"):
        attach_kappatune(one_layer(3.0, 2.0), LORA, top_p=0.0)
    with pytest.raises(ValueError, match="names none of them"):
        attach_kappatune(nn.ModuleDict({"layer": nn.Embedding(3, 2)}), LORA)


def test_asking_for_the_layers_leaves_the_model_as_it_was(checkpoint, recwarn):
    model = load(checkpoint)
    before = weights(model)
    layers = targeted_layers(model, ENCODER)
    assert "bert.pooler.dense" in layers
    assert "classifier" not in layers
    after = model.state_dict()
    assert list(after) == list(before)
    assert_equal(after, before)
    attach_kappatune(model, ENCODER)
    assert not [warning for warning in recwarn if "second time" in str(warning.message)]
