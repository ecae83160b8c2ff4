"""Checkpoints whose tensors are merged or split on loading: read as `from_pretrained` does, to the last bit."""

import copy

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    AutoModel,
    JinaEmbeddingsV3Config,
    MixtralConfig,
    MixtralForCausalLM,
    NomicBertConfig,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from ftp_hf.pretrained.anchors import CheckpointAnchors
from ftp_hf.pretrained.loading import load_weights
from tests.support.equal import assert_equal, weights
from tests.support.models import SIZES

EXPERTS = {**SIZES, "vocab_size": 37, "num_key_value_heads": 2, "max_position_embeddings": 16}


def mixtral():
    # More than ten, so that their order as text is not that of their numbers.
    return MixtralForCausalLM(MixtralConfig(**EXPERTS, num_local_experts=11))


def qwen():
    return Qwen3MoeForCausalLM(Qwen3MoeConfig(**EXPERTS, num_experts=3, moe_intermediate_size=8, head_dim=8))


def nomic():
    return AutoModel.from_config(NomicBertConfig(**SIZES, vocab_size=37, max_position_embeddings=16))


def jina():
    return AutoModel.from_config(JinaEmbeddingsV3Config(**SIZES, vocab_size=37, max_position_embeddings=16))


every_kind = pytest.mark.parametrize("make", [mixtral, qwen, nomic, jina])


@every_kind
@pytest.mark.parametrize("max_shard_size", ["1GB", "10KB"], ids=["one file", "shards"])
def test_merged_and_split_tensors_are_found_and_loaded(make, max_shard_size, tmp_path):
    model = make()
    model.save_pretrained(tmp_path, max_shard_size=max_shard_size)
    pretrained = weights(model)
    found = CheckpointAnchors(tmp_path)
    saved = {name for file in tmp_path.glob("*.safetensors") for name in load_file(file)}
    assert any(name not in saved for name in pretrained), "the case is none"
    for name, parameter in model.named_parameters():
        assert torch.equal(found[name], parameter), name
        assert found.shape(name) == parameter.shape
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    load_weights(model, tmp_path)
    for loaded in (model, type(model).from_pretrained(tmp_path)):
        assert_equal(weights(loaded), pretrained)


def test_a_copy_of_the_anchors_copies_no_model(tmp_path, monkeypatch):
    model = mixtral()
    model.save_pretrained(tmp_path)
    anchors = CheckpointAnchors(tmp_path, model)
    monkeypatch.setattr(MixtralForCausalLM, "__deepcopy__", lambda *_: pytest.fail("was copied"), raising=False)
    name = "model.layers.0.mlp.experts.gate_up_proj"
    assert torch.equal(copy.deepcopy(anchors)[name], model.get_parameter(name))


def test_merged_tensors_of_a_model_within_another(tmp_path):
    class Wrapped(nn.Module):
        def __init__(self, body):
            super().__init__()
            self.towers = nn.ModuleList([body])

    body = mixtral().model
    body.save_pretrained(tmp_path)
    model = Wrapped(copy.deepcopy(body))
    found = CheckpointAnchors(tmp_path, model)
    for name, parameter in model.named_parameters():
        assert torch.equal(found[name], parameter), name


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("layers.0.block_sparse_moe.experts.3.", r"does not hold model\.layers\.0\.mlp\.experts\.gate_up_proj"),
        ("layers.0.block_sparse_moe.experts.3.w1", r"model\.layers\.0\.mlp\.experts\.gate_up_proj cannot be made of"),
    ],
    ids=["an expert", "a part of one"],
)
def test_an_expert_that_is_missing_is_told_and_nothing_loaded(missing, message, tmp_path):
    model = mixtral()
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    save_file({name: tensor for name, tensor in saved.items() if missing not in name}, tmp_path / "model.safetensors")
    torch.nn.init.zeros_(model.lm_head.weight)
    with pytest.raises(ValueError, match=message):
        load_weights(model, tmp_path)
    assert not model.lm_head.weight.any()
