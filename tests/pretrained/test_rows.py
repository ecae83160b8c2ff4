"""Which dimensions of a parameter count its rows, told by its module; and what a wrong answer costs."""

import copy

import pytest
import torch
from torch import nn
from transformers import (
    AutoModel,
    FunnelBaseModel,
    FunnelConfig,
    GptOssConfig,
    Llama4TextConfig,
    MixtralConfig,
    MixtralForCausalLM,
    XLNetConfig,
)

from ftp_hf import FTP, FTPAdamW, FTPTrainer
from ftp_hf.baselines import TPGM
from ftp_hf.distance import model_distance
from ftp_hf.pretrained import parameter_rows
from tests.support.equal import weights
from tests.support.models import SIZES, tiny_bert_config, tiny_gpt2_config, tiny_llama_config
from tests.support.trainers import arguments

MOE = {
    **SIZES,
    "vocab_size": 37,
    "num_key_value_heads": 2,
    "num_local_experts": 3,
    "num_hidden_layers": 1,
    "head_dim": 8,
}
EXPERTS = "layers.0.mlp.experts"


def tiny_mixtral():
    torch.manual_seed(0)
    return MixtralForCausalLM(MixtralConfig(**MOE, num_experts_per_tok=3))


@pytest.mark.parametrize(
    ("config", "expected"),
    {
        "bert": (tiny_bert_config(), {}),
        "llama": (tiny_llama_config(), {}),
        "gpt2": (tiny_gpt2_config(), dict.fromkeys(["h.0.attn.c_attn", "h.0.attn.c_proj", "h.0.mlp.c_fc"], (1,))),
        "mixtral": (MixtralConfig(**MOE), {f"{EXPERTS}.gate_up_proj": (0, 1), f"{EXPERTS}.down_proj": (0, 1)}),
        "gpt-oss": (GptOssConfig(**MOE), {f"{EXPERTS}.gate_up_proj": (0, 2), f"{EXPERTS}.down_proj": (0, 2)}),
        "llama4": (
            Llama4TextConfig(**MOE),
            {f"layers.0.feed_forward.experts.{name}": (0, 2) for name in ("gate_up_proj", "down_proj")},
        ),
        "xlnet": (
            XLNetConfig(vocab_size=37, d_model=8, n_layer=1, n_head=2, d_inner=16),
            {f"layer.0.rel_attn.{name}": (1, 2) for name in "qkvr"},
        ),
        "funnel": (
            FunnelConfig(vocab_size=37, d_model=8, n_head=2, d_head=4, d_inner=16, block_sizes=[1]),
            {"encoder.blocks.0.0.attention.r_kernel": (1, 2)},
        ),
    }.values(),
    ids=["bert", "llama", "gpt2", "mixtral", "gpt-oss", "llama4", "xlnet", "funnel"],
)
def test_rows_of_architectures(config, expected):
    with torch.device("meta"):
        # Of Funnel's two, AutoModel would ask the config's architectures.
        model = FunnelBaseModel(config) if config.model_type == "funnel" else AutoModel.from_config(config)
    found = parameter_rows(model)
    if config.model_type == "gpt2":
        expected = {f"{name}.weight": dims for name, dims in expected.items()} | {"h.0.mlp.c_proj.weight": (1,)}
    assert found == expected
    assert found.keys() <= dict(model.named_parameters()).keys()


def test_rows_of_transposed_convolutions():
    model = nn.ModuleDict(
        {
            "plain": nn.ConvTranspose2d(6, 4, 3),
            "depthwise": nn.ConvTranspose1d(6, 12, 4, groups=6),
            "grouped": nn.ConvTranspose2d(6, 4, 3, groups=2),
            "normed": nn.utils.parametrizations.weight_norm(nn.ConvTranspose1d(6, 4, 3)),
            "ordinary": nn.Conv2d(6, 4, 3),
        }
    )
    assert parameter_rows(model) == {
        "plain.weight": (1,),
        "depthwise.weight": (0, 1),
        "grouped.weight": (1,),
        "normed.parametrizations.weight.original1": (1,),
    }


@pytest.mark.parametrize("layer", [nn.ConvTranspose2d(3, 2, 2, 2), nn.ConvTranspose2d(3, 6, 2, 2, groups=3)], ids=str)
def test_a_row_is_what_one_output_unit_is_computed_from(layer):
    layer.bias.data.zero_()
    rows = parameter_rows(layer)["weight"]
    columns = [dim for dim in range(4) if dim not in rows]
    norms = layer.weight.detach().abs().sum(columns).flatten()
    # With kernels that do not overlap, each output is one tap of its channel: no more than the row's norm.
    outputs = layer(torch.ones(1, 3, 1, 1)).detach().abs().amax((0, 2, 3))
    assert len(norms) == len(outputs)
    assert (outputs <= norms).all()
    layer.weight.data.abs_()
    torch.testing.assert_close(layer(torch.ones(1, 3, 1, 1)).sum((0, 2, 3)), norms)


def token_data(count=16):
    generator = torch.Generator().manual_seed(1)
    rows = torch.randint(37, (count, 8), generator=generator)
    return [{"input_ids": row, "labels": row} for row in rows]


def test_experts_move_as_far_as_other_layers(tmp_path):
    tiny_mixtral().save_pretrained(tmp_path / "pretrained")
    model = MixtralForCausalLM.from_pretrained(tmp_path / "pretrained")
    before = weights(model)
    args = arguments(tmp_path / "run", learning_rate=3e-3, max_steps=12, per_device_train_batch_size=8)
    trainer = FTPTrainer(model, args, train_dataset=token_data())
    trainer.train()
    moved = {name: (p.detach() - before[name]).abs().mean().item() for name, p in model.named_parameters()}
    query = moved["model.layers.0.self_attn.q_proj.weight"]
    radii = trainer.optimizer.optimizer.radii()
    distances = {distance.name: distance for distance in model_distance(model, before).parameters}
    for name in (f"model.{EXPERTS}.gate_up_proj", f"model.{EXPERTS}.down_proj"):
        assert moved[name] > query / 5, (name, moved[name], query)
        norms = (model.get_parameter(name).detach() - before[name]).abs().sum(2)
        assert norms.shape == before[name].shape[:2]
        assert norms.max() <= radii[name].radius * (1 + 1e-5)
        assert radii[name].deviation == pytest.approx(norms.max().item(), rel=1e-4)
        assert distances[name].row_norm == pytest.approx(norms.max().item(), rel=1e-5)


def test_tpgm_projects_the_rows_of_experts():
    model = tiny_mixtral()
    name = f"model.{EXPERTS}.down_proj"
    anchor = model.get_parameter(name).detach().clone()
    tpgm = TPGM(model, [name], rows=parameter_rows(model))
    model.get_parameter(name).data += torch.randn_like(anchor) * torch.rand(*anchor.shape[:2], 1)
    smallest = (model.get_parameter(name).detach() - anchor).abs().sum(2).min()
    tpgm.update([])
    norms = (model.get_parameter(name).detach() - anchor).abs().sum(2)
    torch.testing.assert_close(norms, torch.full_like(norms, smallest / 2), rtol=1e-4, atol=0)


def test_an_optimizer_state_of_before_takes_the_rows_of_the_optimizer():
    model = tiny_mixtral()
    name = f"model.{EXPERTS}.down_proj"
    parameters = [(name, model.get_parameter(name))]
    old = FTPAdamW(parameters, lr=1e-3)
    for _ in range(3):
        model.get_parameter(name).grad = torch.ones_like(model.get_parameter(name))
        old.step()
    state = old.state_dict()
    assert "rows" not in state["param_groups"][0]
    new = FTPAdamW(parameters, lr=1e-3, rows={name: (0, 1)})
    new.load_state_dict(state)
    new.step()
    assert new.state_dict()["param_groups"][0].keys() == state["param_groups"][0].keys()
    radius = new.radii()[name]
    assert radius.deviation <= radius.radius * (1 + 1e-5)
    copies = [copy.deepcopy(new), copy.deepcopy(FTP(torch.optim.AdamW(parameters), rows={name: (0, 1)}))]
    assert [next(iter(each._participants.dense())).row_dim for each in copies] == [(0, 1), (0, 1)]
