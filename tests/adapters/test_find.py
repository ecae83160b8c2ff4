"""Adapters of PEFT: what they add to each weight is projected, told by really merged weights."""

import copy
import logging
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.distributed.fsdp import fully_shard
from transformers import (
    BertForSequenceClassification,
    BitsAndBytesConfig,
    GPT2LMHeadModel,
    LlamaForCausalLM,
)

from ftp_hf import FTP, FTPSGD, FTPAdamW, adapter_options, restore_base_weights
from tests.support.adapters import merged
from tests.support.models import tiny_bert_config, tiny_gpt2_config, tiny_llama_config

peft = pytest.importorskip("peft")

LINEAR = ["query", "value"]
TOKENS = torch.randint(0, 30, (6, 8), generator=torch.Generator().manual_seed(0))
LABELS = TOKENS[:, 0] % 2


def bert(hidden_size=16):
    torch.manual_seed(0)
    # Without dropout, so that a loss is a function of the weights alone.
    config = tiny_bert_config(
        vocab_size=30,
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return BertForSequenceClassification(config).double()


def bert_loss(model):
    return model(input_ids=TOKENS, labels=LABELS).loss


def gpt2():
    torch.manual_seed(0)
    config = tiny_gpt2_config(vocab_size=30, n_positions=16, n_embd=16, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    return GPT2LMHeadModel(config).double()


def gpt2_loss(model):
    # Not model(..., labels=TOKENS).loss, which is in float32.
    logits = model(input_ids=TOKENS).logits[:, :-1]
    return nn.functional.cross_entropy(logits.flatten(0, 1), TOKENS[:, 1:].flatten())


class Layers(nn.Module):
    """One of every other layer that LoRA knows."""

    def __init__(self):
        super().__init__()
        self.conv1d = nn.Conv1d(2, 4, 3, padding=1)
        self.conv2d = nn.Conv2d(1, 3, 3, padding=1)
        self.conv3d = nn.Conv3d(1, 2, (2, 2, 1))
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.experts = Experts()

    def forward(self, x):
        x = self.conv1d(x).tanh()
        x = self.conv2d(x.unsqueeze(1)).tanh().mean(1).unsqueeze(1).unsqueeze(4)
        x = self.conv3d(x).tanh().mean(1).squeeze(-1)
        x, _ = self.attention(x, x, x, need_weights=False)
        return self.experts(x)


class Experts(nn.Module):
    """A mixture of three experts, whose weights are stacked."""

    def __init__(self):
        super().__init__()
        self.up = nn.Parameter(torch.randn(3, 5, 4))
        self.flat = nn.Parameter(torch.randn(2, 5))

    def forward(self, x):
        return torch.einsum("bsi,eoi->bseo", x, self.up).tanh() @ self.flat.t()


def layers():
    torch.manual_seed(0)
    return Layers().double()


def layers_loss(model):
    x = torch.randn(5, 2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return (model(x) - 1).square().mean()


def lora(**options):
    return peft.LoraConfig(r=options.pop("r", 2), **options)


CASES = {
    "linear": (bert, bert_loss, lora(target_modules=LINEAR), 4),
    "rslora": (bert, bert_loss, lora(target_modules=LINEAR, r=4, lora_alpha=16, use_rslora=True, lora_dropout=0.2), 4),
    "patterns": (
        bert,
        bert_loss,
        lora(target_modules=LINEAR, rank_pattern={"value": 5}, alpha_pattern={"query": 32}, lora_alpha=4),
        4,
    ),
    "bias": (bert, bert_loss, lora(target_modules=LINEAR, bias="lora_only"), 4),
    "lora_bias": (bert, bert_loss, lora(target_modules=LINEAR, lora_bias=True), 4),
    "embedding": (bert, bert_loss, lora(target_modules=["word_embeddings", "position_embeddings"]), 2),
    "orthogonal": (bert, bert_loss, lora(target_modules=LINEAR, init_lora_weights="orthogonal"), 4),
    "displaced": (bert, bert_loss, lora(target_modules=LINEAR, init_lora_weights=False), 4),
    "fan_in_fan_out": (gpt2, gpt2_loss, lora(target_modules=["c_attn", "mlp.c_fc"], fan_in_fan_out=True), 2),
    "convolutions": (layers, layers_loss, lora(target_modules=["conv1d", "conv2d", "conv3d"]), 3),
    "attention": (layers, layers_loss, lora(target_modules=["attention"]), 1),
    "experts": (layers, layers_loss, lora(target_parameters=["experts.up", "experts.flat"], target_modules=[]), 2),
    "vera": (bert, bert_loss, peft.VeraConfig(r=4, target_modules=LINEAR, d_initial=2.0), 4),
}


def adapted(case):
    make, loss, config, updates = CASES[case]
    torch.manual_seed(0)
    return peft.get_peft_model(make(), copy.deepcopy(config)).double(), loss, updates


def trained(model):
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


def steps(model, optimizer, loss, count):
    model.train()
    for step in range(count):
        torch.manual_seed(step)
        optimizer.zero_grad()
        value = loss(model)
        value.backward()
        optimizer.step()
        yield value.item()


def rows(name, displacement):
    """The output units of a weight, as the rows of a matrix."""
    if name.startswith("transformer.h."):
        return displacement.t()
    if name == "experts.up":
        return displacement.flatten(0, 1)
    return displacement.flatten(1)


@pytest.mark.parametrize("case", CASES)
def test_no_row_of_the_merged_weights_leaves_its_ball(case):
    model, loss, updates = adapted(case)
    start = dict(CASES[case][0]().named_parameters())
    optimizer = FTPAdamW(trained(model), lr=5e-3, **adapter_options(model))
    losses, on_boundary = [], 0
    for value in steps(model, optimizer, loss, 12):
        losses.append(value)
        weights, radii = merged(model), optimizer.radii()
        names = radii.keys() & weights.keys()
        assert len(names) == updates
        for name in names:
            norms = rows(name, weights[name] - start[name].detach()).abs().sum(dim=1)
            assert norms.max() <= radii[name].radius * (1 + 1e-6) + 1e-14
            assert radii[name].deviation == pytest.approx(norms.max().item(), rel=1e-6, abs=1e-13)
            on_boundary += radii[name].on_boundary > 0
    assert on_boundary > 0
    assert losses[-1] < losses[0]
    assert max(radii[name].radius for name in names) > 1e-3


@pytest.mark.parametrize("case", CASES)
def test_the_radius_gradient_is_the_derivative_of_the_loss(case):
    model, loss, _ = adapted(case)
    options = adapter_options(model)
    # Without memory, the first moment of a radius is its last gradient.
    optimizer = FTPSGD(trained(model), lr=0.5, radius_betas=(0.0, 0.0), **options)
    *_, _ = steps(model, optimizer, loss, 6)
    model.eval()
    weights, factors = merged(model), dict(model.named_parameters())
    optimizer.zero_grad()
    loss(model).backward()
    optimizer.step()
    plain = CASES[case][0]().eval()
    start = {name: weight.detach().clone() for name, weight in plain.named_parameters()}
    checked = 0
    for update in options["low_rank"]:
        gradient = optimizer.state[factors[update.products[0].rows]]["radius"][1].item()
        displacement = weights[update.name] - start[update.name]
        # γ moves every row along itself, at a speed of one in L1.
        unit = displacement / lengths(update.name, displacement)
        up, down = (
            loss_at(plain, weights | {update.name: weights[update.name] + step * unit}, loss) for step in (1e-5, -1e-5)
        )
        if abs(gradient) > 1e-6:
            assert (up - down) / 2e-5 == pytest.approx(gradient, rel=1e-3)
            checked += 1
    assert checked


def lengths(name, displacement):
    """The L1 norm of each output unit, to divide by."""
    if name.startswith("transformer.h."):
        return displacement.abs().sum(dim=0, keepdim=True)
    columns = [2] if name == "experts.up" else [*range(1, displacement.ndim)]
    # Of a token that was not seen nothing moves.
    return displacement.abs().sum(dim=columns, keepdim=True).clamp(min=1e-30)


def loss_at(plain, weights, loss):
    with torch.no_grad():
        for name, parameter in plain.named_parameters():
            parameter.copy_(weights[name])
        return loss(plain).item()


def plain_like(model):
    """A copy of the model, with torch's own optimizer."""
    twin = copy.deepcopy(model)
    return twin, torch.optim.AdamW([parameter for _, parameter in trained(twin)], lr=5e-3, weight_decay=0.0)


OTHERS = {
    "dora": (lora(target_modules=LINEAR, use_dora=True), "DoraLinearVariant (parameters: 12)"),
    "ia3": (peft.IA3Config(target_modules=LINEAR, feedforward_modules=[]), "ia3 (parameters: 4)"),
    "loha": (peft.LoHaConfig(r=2, target_modules=LINEAR), "loha (parameters: 16)"),
    "oft": (peft.OFTConfig(oft_block_size=4, target_modules=LINEAR), "oft (parameters: 4)"),
    "prompt": (peft.PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=2), "prompt_tuning (parameters: 1)"),
    "prefix": (peft.PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=2), "prefix_tuning (parameters: 1)"),
    "fixed rows": (lora(target_modules=LINEAR), "LoRA with a frozen row factor (parameters: 4)"),
    "adalora": (
        peft.AdaLoraConfig(target_modules=LINEAR, init_r=2, target_r=1, total_step=100),
        "adalora (parameters: 16)",
    ),
}


@pytest.mark.parametrize("adapters", ["product", "none"])
@pytest.mark.parametrize("method", OTHERS)
def test_what_cannot_be_projected_is_torchs_and_says_so_once(caplog, method, adapters):
    config, message = OTHERS[method]
    model = peft.get_peft_model(bert(), copy.deepcopy(config)).double()
    for name, parameter in model.named_parameters():
        if "classifier" in name or (method == "fixed rows" and "lora_B" in name):
            parameter.requires_grad_(False)
    twin, plain = plain_like(model)
    with caplog.at_level(logging.WARNING, "ftp_hf"):
        options = adapter_options(model, adapters)
    logged = [record.getMessage() for record in caplog.records]
    assert len(logged) == (adapters == "product")
    assert all(message in line for line in logged)
    optimizer = FTPAdamW(trained(model), lr=5e-3, **options)
    for _ in zip(steps(model, optimizer, bert_loss, 3), steps(twin, plain, bert_loss, 3), strict=True):
        for (name, one), (_, other) in zip(trained(model), trained(twin), strict=True):
            assert torch.equal(one, other), name
    assert optimizer.radii() == {}


@pytest.mark.parametrize("method", [*OTHERS, "linear"])
def test_factors_are_projected_around_their_first_values_when_asked_for(caplog, method):
    config = CASES["linear"][2] if method == "linear" else OTHERS[method][0]
    model = peft.get_peft_model(bert(), copy.deepcopy(config)).double()
    start = {name: parameter.detach().clone() for name, parameter in trained(model)}
    with caplog.at_level(logging.WARNING, "ftp_hf"):
        optimizer = FTPAdamW(trained(model), lr=5e-3, **adapter_options(model, "factors"))
    # A head that PEFT trains with the adapter may be new, which this model cannot tell.
    has_head = any("classifier" in name for name in start)
    assert [record.getMessage().partition(" of")[0] for record in caplog.records] == (
        ["Nothing tells which parameters"] if has_head else []
    )
    *_, _ = steps(model, optimizer, bert_loss, 4)
    radii = optimizer.radii()
    assert radii.keys() == {name for name, parameter in trained(model) if parameter.grad is not None}
    for name, parameter in trained(model):
        if name in radii:
            distance = (parameter - start[name]).detach()
            norms = distance.flatten(1).abs().sum(1) if distance.ndim > 1 else distance.abs().sum()
            assert norms.max() <= radii[name].radius * (1 + 1e-6)


def inside_another(model):
    return nn.ModuleDict({"inner": model})


@pytest.mark.parametrize(
    ("init", "make", "place"),
    [
        ("pissa", bert, nn.Identity()),
        ("pissa_niter_2", bert, nn.Identity()),
        ("olora", bert, nn.Identity()),
        ("pissa", gpt2, nn.Identity()),
        ("pissa", bert, inside_another),
    ],
)
def test_a_product_taken_out_of_the_base_is_refused_until_it_is_put_back(init, make, place, tmp_path):
    targets = LINEAR if make is bert else ["attn.c_proj"]
    config = lora(target_modules=targets, init_lora_weights=init, fan_in_fan_out=make is gpt2)
    model = peft.get_peft_model(make().float(), config)
    whole = place(model)
    with pytest.raises(
        ValueError, match=f"init_lora_weights='{init}' takes .* restore_base_weights.* set ftp_adapters"
    ):
        adapter_options(whole)
    assert adapter_options(whole, "factors")["low_rank"] == ()

    start, first = make().float(), {name: value.clone() for name, value in model.state_dict().items()}
    restore_base_weights(whole)
    for name, value in model.state_dict().items():
        assert torch.equal(value, torch.zeros_like(value) if "lora_B" in name else first[name]) or "base_layer" in name
    for name, weight in merged(model).items():
        torch.testing.assert_close(weight, dict(start.named_parameters())[name].detach(), rtol=0, atol=1e-6)
    loss = bert_loss if make is bert else gpt2_loss
    optimizer = FTPAdamW(trained(whole), lr=5e-3, **adapter_options(whole))
    *_, _ = steps(model, optimizer, loss, 5)
    assert max(radius.radius for radius in optimizer.radii().values()) > 1e-3
    model.save_pretrained(tmp_path)
    loaded = peft.PeftModel.from_pretrained(start, tmp_path)
    torch.testing.assert_close(loss(loaded.eval()), loss(model.eval()), rtol=1e-5, atol=0)


def test_what_was_taken_out_of_a_quantised_weight_cannot_be_put_back():
    model = peft.get_peft_model(bert().float(), lora(target_modules=LINEAR, init_lora_weights="olora"))
    layer = model.base_model.model.bert.encoder.layer[0].attention.self.query
    layer.base_layer.weight = nn.Parameter(layer.base_layer.weight.to(torch.int8), requires_grad=False)
    with pytest.raises(ValueError, match=r"query is quantised \(torch.int8\).*'olora'"):
        restore_base_weights(model)


@pytest.mark.parametrize("place", [nn.Identity(), inside_another])
def test_trained_experts_of_xlora_are_left_to_the_plain_optimizer(place, caplog, tmp_path):
    # X-LoRA takes no adapters of models whose layers are elsewhere than Llama's.
    def llama():
        sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
        return LlamaForCausalLM(tiny_llama_config(vocab_size=30, use_cache=False, **sizes))

    peft.get_peft_model(llama(), lora(target_modules=["q_proj"])).save_pretrained(tmp_path)
    config = peft.XLoraConfig("CAUSAL_LM", hidden_size=8, adapters={"0": str(tmp_path)}, use_trainable_adapters=True)
    options = adapter_options(place(peft.get_peft_model(llama(), config)))
    assert options["low_rank"] == ()
    assert any("lora_B" in name for name in options["exclude"])
    assert "xlora, which weighs its adapters anew for each token (parameters: 2)" in caplog.text


def test_biases_that_a_loaded_adapter_overwrote_are_anchored_where_the_user_says(tmp_path):
    bert().float().save_pretrained(tmp_path / "base")
    first = peft.get_peft_model(bert().float(), lora(target_modules=LINEAR, bias="lora_only", task_type="SEQ_CLS"))
    name = "base_model.model.bert.encoder.layer.0.attention.self.query.base_layer.bias"
    with torch.no_grad():
        first.get_parameter(name).add_(0.5)
    first.save_pretrained(tmp_path / "adapter")
    base = BertForSequenceClassification.from_pretrained(tmp_path / "base")
    model = peft.PeftModel.from_pretrained(base, tmp_path / "adapter", is_trainable=True)
    options = adapter_options(model, anchors=tmp_path / "base")
    before = bert().float().get_parameter("bert.encoder.layer.0.attention.self.query.bias")
    assert torch.equal(options["anchors"][name], before)
    assert not torch.equal(model.get_parameter(name), before)


def test_the_table_names_every_method_of_peft():
    table = (Path(__file__).parents[2] / "docs" / "adapters.md").read_text()
    assert [kind.name for kind in peft.PeftType if f"`{kind.name}`" not in table] == []


def test_refusals():
    model = peft.get_peft_model(bert(), lora(target_modules=LINEAR))
    with pytest.raises(ValueError, match=r"^adapters= .*must be one of 'product', 'factors', 'none', got 'rows'"):
        adapter_options(model, "rows")
    weight = model.base_model.model.bert.encoder.layer[0].attention.self.query.base_layer.weight
    weight.requires_grad_(True)
    with pytest.raises(ValueError, match=r"query\.weight is trained together with its adapter"):
        adapter_options(model)


def test_adapters_that_share_memory_are_refused():
    model = gpt2()
    config = lora(target_modules=["wte", "lm_head"], ensure_weight_tying=True)
    model = peft.get_peft_model(model, config)
    with pytest.raises(ValueError, match="share memory"):
        adapter_options(model)


def test_adapters_are_found_in_a_sharded_model(mesh):
    radii = []
    for shard in (False, True):
        model, loss, _ = adapted("linear")
        if shard:
            fully_shard(model, mesh=mesh)
        optimizer = FTPAdamW(trained(model), lr=5e-3, **adapter_options(model))
        all(steps(model, optimizer, loss, 3))
        radii.append({name: radius.radius for name, radius in optimizer.radii().items()})
    assert radii[1] == pytest.approx(radii[0], rel=1e-12)


def test_active_adapters_are_projected_together_and_the_others_stay():
    model = peft.get_peft_model(bert(), lora(target_modules=LINEAR), adapter_name="one").double()
    model.add_adapter("two", lora(target_modules=["value", "key"], r=3, lora_alpha=5))
    model.add_adapter("three", lora(target_modules=LINEAR))
    model.base_model.set_adapter(["one", "two"])
    model.double()
    start = dict(bert().named_parameters())
    third = {name: parameter.detach().clone() for name, parameter in model.named_parameters() if ".three." in name}
    optimizer = FTPAdamW(trained(model), lr=5e-3, **adapter_options(model))
    for _ in steps(model, optimizer, bert_loss, 15):
        radii = optimizer.radii()
        merger = copy.deepcopy(model)
        weights = dict(merger.merge_and_unload(adapter_names=["one", "two"]).named_parameters())
        for name, radius in radii.items():
            norms = (weights[name] - start[name]).detach().abs().sum(dim=1)
            assert norms.max() <= radius.radius * (1 + 1e-6)
    assert sum("value" in name for name in radii) == 2
    assert len(radii) == 6
    assert any(radius.on_boundary > 0 for name, radius in radii.items() if "value" in name)
    for name, parameter in model.named_parameters():
        assert name not in third or torch.equal(parameter, third[name])


def test_a_frozen_adapter_is_part_of_the_model_that_training_starts_from():
    model = peft.get_peft_model(bert(), lora(target_modules=LINEAR, init_lora_weights=False), adapter_name="one")
    model.add_adapter("two", lora(target_modules=LINEAR))
    model.base_model.set_adapter(["one", "two"])
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".two." in name)
    updates = adapter_options(model)["low_rank"]
    assert [len(update.products) for update in updates] == [1] * 4
    assert all(".two." in update.products[0].rows for update in updates)


def test_copies_of_weights_are_projected_around_the_base_weights():
    config = lora(
        target_modules=LINEAR, modules_to_save=["pooler"], trainable_token_indices={"word_embeddings": [3, 7]}
    )
    model = peft.get_peft_model(bert(), config).double()
    copies = {
        "base_model.model.bert.pooler.modules_to_save.default.dense.weight": "bert.pooler.dense.weight",
        "base_model.model.bert.embeddings.word_embeddings.token_adapter.trainable_tokens_delta.default": (
            "bert.embeddings.word_embeddings.weight"
        ),
    }
    start = dict(bert().named_parameters())
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name in copies:
            # As if a trained adapter was loaded.
            parameters[name].add_(torch.randn_like(parameters[name]) * 0.1)
    optimizer = FTPAdamW(trained(model), lr=5e-3, **adapter_options(model))
    *_, _ = steps(model, optimizer, bert_loss, 5)
    for name, original in copies.items():
        anchor = start[original][[3, 7]] if "token" in name else start[original]
        assert torch.equal(optimizer.anchors()[name], anchor)
        distance = (parameters[name] - anchor).detach().abs().sum(dim=1).max()
        assert optimizer.radii()[name].radius >= distance > 0.5
    layer_norms = peft.get_peft_model(bert(), peft.LNTuningConfig(target_modules=["LayerNorm"])).double()
    anchors = adapter_options(layer_norms)["anchors"]
    name = "base_model.model.bert.embeddings.LayerNorm.ln_tuning_layers.default.weight"
    assert torch.equal(anchors[name], start["bert.embeddings.LayerNorm.weight"])


def test_the_bias_of_lora_is_projected_around_zero():
    model, _, _ = adapted("lora_bias")
    name = "base_model.model.bert.encoder.layer.0.attention.self.query.lora_B.default.bias"
    with torch.no_grad():
        # As if a trained adapter was loaded.
        dict(model.named_parameters())[name].fill_(0.5)
    assert torch.equal(adapter_options(model)["anchors"][name], torch.zeros(16).double())
    assert name not in adapter_options(model)["exclude"]


def test_the_base_weights_are_never_read():
    # As those of a quantised base, which cannot be read as what they mean.
    model, _, _ = adapted("linear")
    for module in model.modules():
        if hasattr(module, "lora_A"):
            module.base_layer.to("meta")
    options = adapter_options(model)
    optimizer = FTP(torch.optim.AdamW(trained(model)), **options)
    for _ in range(3):
        for _, parameter in trained(model):
            parameter.grad = torch.randn_like(parameter)
        optimizer.step()
    assert all(radius.radius > 0 for radius in optimizer.radii().values())
    assert len(optimizer.radii()) == 4


@pytest.mark.parametrize("bits", [{"load_in_8bit": True}, {"load_in_4bit": True}], ids=["8 bits", "4 bits"])
def test_a_quantised_base_is_trained_through_and_stays(bits, tmp_path):
    pytest.importorskip("bitsandbytes")
    # The 4-bit kernels of some CPUs want sizes that 64 divides (bitsandbytes 0.50).
    bert(hidden_size=64).float().save_pretrained(tmp_path)
    quantised = BitsAndBytesConfig(**bits, llm_int8_skip_modules=["classifier"])
    base = BertForSequenceClassification.from_pretrained(tmp_path, quantization_config=quantised, device_map="cpu")
    model = peft.get_peft_model(peft.prepare_model_for_kbit_training(base, False), lora(target_modules=LINEAR))
    layers = {
        f"{name.removeprefix('base_model.model.')}.weight": layer
        for name, layer in model.named_modules()
        if hasattr(layer, "lora_A")
    }
    assert not any(layer.base_layer.weight.is_floating_point() for layer in layers.values())
    # In training mode: after an evaluation, bitsandbytes packs 4-bit weights so that CPUs cannot train through them.
    with model.disable_adapter():
        before = bert_loss(model.train())
    optimizer = FTPAdamW(trained(model), lr=1e-2, **adapter_options(model))
    losses = []
    for value in steps(model, optimizer, bert_loss, 12):
        losses.append(value)
        radii = optimizer.radii()
        assert radii.keys() == layers.keys()
        for name, layer in layers.items():
            update = layer.lora_B["default"].weight.double() @ layer.lora_A["default"].weight.double()
            largest = (layer.scaling["default"] * update).abs().sum(dim=1).max().item()
            assert largest <= radii[name].radius * (1 + 1e-6)
    assert losses[-1] < losses[0]
    assert max(radius.radius for radius in radii.values()) > 1e-3
    with model.disable_adapter():
        assert torch.equal(bert_loss(model), before)


def test_adapters_of_transformers_are_seen_without_a_peft_model():
    model = bert()
    model.add_adapter(lora(target_modules=LINEAR))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)
    options = adapter_options(model)
    assert {update.name for update in options["low_rank"]} == {
        f"bert.encoder.layer.{layer}.attention.self.{kind}.weight" for layer in (0, 1) for kind in LINEAR
    }
