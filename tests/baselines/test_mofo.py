"""MoFO against values worked out by hand, and against torch's AdamW."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.optim import AdamW

from ftp_hf.baselines import MoFO
from ftp_hf.trainer.plain import PlainTrainer
from tests.support.baselines import HEAD, MoFOTrainer, load, make, train
from tests.support.equal import assert_equal, weights


def vector(*values):
    return torch.tensor(values, dtype=torch.float64)


def stepping(optimizer, weight):
    def step(*gradient):
        weight.grad = vector(*gradient)
        optimizer.step()
        return weight.tolist()

    return step


def test_two_steps():
    weight = nn.Parameter(vector(1.0, 1.0, 1.0, 1.0))
    step = stepping(MoFO([weight], lr=0.1, betas=(0.9, 0.99), eps=0.0, fraction=0.5), weight)
    # m = 0.1 · g = (0.4, −0.3, 0.1, 0.2): the first two move, and a first step of Adam is lr · sign(g).
    assert step(4.0, -3.0, 1.0, 2.0) == pytest.approx([0.9, 1.1, 1.0, 1.0])
    # m = 0.9 · m + 0.1 · g = (0.36, −0.27, 0.09 − 0.5, 0.18 + 0.1) = (0.36, −0.27, −0.41, 0.28): the first and the third.
    # v = 0.99 · 0.01 · g₁² + 0.01 · g₂² = (0.1584, …, 0.0099 + 0.25, …); corrections 1 − 0.9² = 0.19, 1 − 0.99² = 0.0199.
    first, third = (0.36 / 0.19) / (0.1584 / 0.0199) ** 0.5, (-0.41 / 0.19) / (0.2599 / 0.0199) ** 0.5
    assert step(0.0, 0.0, -5.0, 1.0) == pytest.approx([0.9 - 0.1 * first, 1.1, 1.0 - 0.1 * third, 1.0])


@pytest.mark.parametrize(("fraction", "moved"), [(0.001, 1), (0.01, 1), (0.29, 28), (0.999, 99)])
def test_how_many_move(fraction, moved):
    weight = nn.Parameter(torch.zeros(100))
    weight.grad = torch.ones(100)  # all alike: no more than so many
    MoFO([weight], fraction=fraction).step()
    assert int((weight != 0).sum()) == moved


def test_what_does_not_move_does_not_decay():
    weight = nn.Parameter(vector(1.0, 2.0))
    step = stepping(MoFO([weight], lr=0.1, eps=0.0, weight_decay=0.5, fraction=0.5), weight)
    assert step(3.0, 1.0) == pytest.approx([1.0 - 0.1 * 0.5 - 0.1, 2.0])  # the second keeps its bits:
    assert weight[1].item() == 2.0


SHAPES = [(7, 5), (6,), (2, 3, 3, 3), (), (0, 4)]


def parameters(dtype=torch.float32):
    torch.manual_seed(0)
    made = [nn.Parameter(torch.randn(shape).to(dtype)) for shape in SHAPES]
    made[2].data = made[2].data.to(memory_format=torch.channels_last)
    return [*made, nn.Parameter(torch.randn(4).to(dtype))]  # the last one never has a gradient


def give_gradients(tensors, seed):
    generator = torch.Generator().manual_seed(seed)
    for p in tensors[:-1]:
        p.grad = torch.randn(p.shape, generator=generator).to(p.dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("how", [{"fused": True}, {"foreach": True}, {"foreach": False}, {"amsgrad": True}])
def test_moments_are_those_of_adamw_and_so_are_the_entries_that_move(how, dtype):
    ours, theirs = parameters(dtype), parameters(dtype)
    filtered = MoFO(ours, lr=0.1, weight_decay=0.1, fraction=0.3, **how)
    plain = AdamW(theirs, lr=0.1, weight_decay=0.1, **how)
    for seed in range(5):
        before = [p.detach().clone() for p in ours]
        for p, q in zip(ours, theirs, strict=True):
            q.data.copy_(p.data)
        give_gradients(ours, seed)
        give_gradients(theirs, seed)
        filtered.step()
        plain.step()
        for p, q, old in zip(ours, theirs, before, strict=True):
            assert_equal(filtered.state[p], plain.state[q])
            assert bool(((p == q) | (p == old)).all())
            if p.numel() and p.grad is not None:
                momentum, moved = plain.state[q]["exp_avg"].abs(), p != old
                assert int(moved.sum()) <= max(1, int(0.3 * p.numel()))
                if moved.any() and not moved.all():
                    assert momentum[moved].min() >= momentum[~moved & (q != old)].amax()


def test_with_all_entries_it_is_adamw_bit_for_bit():
    results = []
    for optimizer_class, options in ((AdamW, {}), (MoFO, {"fraction": 1.0})):
        tensors = parameters()
        optimizer = optimizer_class(tensors, lr=0.1, weight_decay=0.1, **options)
        for seed in range(3):
            give_gradients(tensors, seed)
            optimizer.step()
        results.append([p.detach() for p in tensors])
    assert_equal(*results)


def test_resuming_is_bit_for_bit_and_the_fraction_is_the_optimizers_own():
    def run(tensors, optimizer, seeds):
        for seed in seeds:
            give_gradients(tensors, seed)
            optimizer.step()
        return tensors

    def make_optimizer(tensors, fraction=0.2):
        return MoFO([{"params": tensors[:2]}, {"params": tensors[2:], "fraction": 1.0}], lr=0.1, fraction=fraction)

    whole = parameters()
    optimizer = make_optimizer(whole)
    run(whole, optimizer, range(3))
    resumed, state = copy.deepcopy(whole), copy.deepcopy(optimizer.state_dict())
    run(whole, optimizer, range(3, 6))
    other = make_optimizer(resumed)
    other.load_state_dict(state)
    assert_equal(run(resumed, other, range(3, 6)), whole)
    changed = make_optimizer(parameters(), fraction=0.5)
    changed.load_state_dict(state)
    assert [group["fraction"] for group in changed.param_groups] == [0.5, 1.0]
    plain = AdamW([{"params": whole[:2]}, {"params": whole[2:]}])
    changed.load_state_dict(plain.state_dict())
    assert [group["fraction"] for group in changed.param_groups] == [0.5, 1.0]


def test_hooks_run_once_and_a_closure_is_evaluated_once():
    weight = nn.Parameter(vector(1.0, 2.0))
    AdamW([weight])  # from now on torch's own `step` runs hooks
    optimizer, seen = MoFO([weight], fraction=0.5), []
    optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
    optimizer.register_step_post_hook(lambda *_: seen.append("after"))

    def closure():
        seen.append("loss")
        loss = weight.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 5.0
    assert seen == ["before", "loss", "after"]


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("overflow", [True, False])
def test_float16_gradient_scaling(fused, overflow):
    results = []
    for scaled in (True, False):
        weight = nn.Parameter(torch.tensor([1.0, 2.0, 3.0, 4.0]))
        optimizer = MoFO([weight], fraction=0.5, fused=fused)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, enabled=scaled)
        for factor in (1.0, float("inf") if overflow else 1.0):
            optimizer.zero_grad()
            scaler.scale((weight.square() * factor).sum()).backward()
            if scaled or not overflow or factor == 1.0:
                scaler.step(optimizer)
            scaler.update()
        results.append(weight.detach())
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.5, float("nan")])
def test_fractions_out_of_range_are_refused(fraction):
    weight = nn.Parameter(torch.zeros(2))
    with pytest.raises(ValueError, match=r"fraction must lie in \(0, 1\]"):
        MoFO([weight], fraction=fraction)
    with pytest.raises(ValueError, match=r"fraction must lie in \(0, 1\]"):
        MoFO([{"params": [weight], "fraction": fraction}])


def test_sparse_gradients_and_shards_are_refused_before_anything_moves(monkeypatch):
    dense, table = nn.Parameter(torch.ones(2, 2)), nn.Embedding(3, 2, sparse=True)
    dense.grad = torch.ones(2, 2)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(ValueError, match=r"of shape \(3, 2\) is sparse: make its nn.Embedding sparse=False"):
        MoFO([dense, table.weight]).step()
    assert torch.equal(dense, torch.ones(2, 2))
    monkeypatch.setattr("ftp_hf.baselines.mofo.is_dtensor", lambda tensor: tensor is dense)
    with pytest.raises(ValueError, match=r"of shape \(2, 2\) is sharded, .* or give the group fraction=1\.0"):
        MoFO([dense]).step()
    MoFO([dense], fraction=1.0).step()


def test_the_trainers_own_options_are_taken(checkpoint, dataset, tmp_path):
    options = {"adam_beta1": 0.8, "adam_beta2": 0.95, "adam_epsilon": 1e-6, "weight_decay": 0.1, "learning_rate": 3e-3}
    trainer = make(MoFOTrainer, load(checkpoint), dataset, tmp_path, {"fraction": 0.1}, **options)
    optimizer = trainer.create_optimizer()
    assert isinstance(optimizer, MoFO)
    names = {p: name for name, p in trainer.model.named_parameters()}
    for group in optimizer.param_groups:
        assert (group["lr"], group["betas"], group["eps"]) == (3e-3, (0.8, 0.95), 1e-6)
        for p in group["params"]:
            name = names.pop(p)
            assert group["weight_decay"] == (0.1 if p.ndim == 2 else 0.0), name
            assert group["fraction"] == (1.0 if p.ndim < 2 or name in HEAD else 0.1), name
    assert not names
    assert trainer.create_optimizer() is optimizer


def test_with_all_entries_it_is_the_plain_trainer_bit_for_bit(checkpoint, dataset, tmp_path):
    plain = train(PlainTrainer, load(checkpoint), dataset, tmp_path)
    trainer = train(MoFOTrainer, load(checkpoint), dataset, tmp_path, {"fraction": 1.0})
    assert_equal(weights(trainer.model), weights(plain.model))


def test_pretrained_matrices_move_only_in_part(checkpoint, dataset, tmp_path):
    start = weights(load(checkpoint))
    trainer = train(MoFOTrainer, load(checkpoint), dataset, tmp_path, {"fraction": 0.1}, max_steps=2)
    for name, p in trainer.model.named_parameters():
        moved = int((p != start[name]).sum())
        assert moved <= (p.numel() if p.ndim < 2 or name in HEAD else 2 * max(1, int(0.1 * p.numel()))), name
        assert moved or name.endswith("key.bias"), name


def test_factors_of_lora_are_filtered_and_its_new_head_is_not(checkpoint, dataset, tmp_path):
    options = LoraConfig(r=2, target_modules=["query", "value"], modules_to_save=["classifier"])
    model = get_peft_model(load(checkpoint), options)
    trainer = train(MoFOTrainer, model, dataset, tmp_path, {"fraction": 0.25}, max_steps=1)
    names = {p: name for name, p in model.named_parameters()}
    fractions = {names[p]: group["fraction"] for group in trainer.optimizer.param_groups for p in group["params"]}
    assert fractions == {name: 0.25 if "lora_" in name else 1.0 for name in fractions}
    for name, p in model.named_parameters():
        if "lora_B" in name:  # which is 0 at first, and the only one of the two that has a gradient then
            assert int((p != 0).sum()) == p.numel() // 4


def test_other_optimizers_are_refused(checkpoint, dataset, tmp_path):
    with pytest.raises(ValueError, match="MoFO is an AdamW, and optim='sgd' asks for another"):
        make(MoFOTrainer, load(checkpoint), dataset, tmp_path, optim="sgd")
    model = load(checkpoint)
    given = {"optimizers": (AdamW(model.parameters()), None)}
    with pytest.raises(ValueError, match="Give PlainTrainer optimizers="):
        make(MoFOTrainer, model, dataset, tmp_path, given)
    chosen = {"optimizer_cls_and_kwargs": (torch.optim.SGD, {"lr": 0.1})}
    trainer = make(MoFOTrainer, model, dataset, tmp_path, chosen)
    with pytest.raises(ValueError, match="the Trainer creates a SGD"):
        trainer.train()
