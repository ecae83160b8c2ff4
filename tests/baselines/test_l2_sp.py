"""L2-SP against values worked out by hand."""

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW

from ftp_hf.baselines import attach_l2_sp, l2_sp_penalty
from ftp_hf.trainer.plain import PlainTrainer
from tests.support.baselines import L2SPTrainer, load, train
from tests.support.equal import assert_equal, weights

ANCHORS = {"body": torch.tensor([1.0, 2.0])}


def parameters():
    return {
        "body": nn.Parameter(torch.tensor([1.5, 1.0])),
        "head": nn.Parameter(torch.tensor([2.0, -4.0])),
    }


def test_penalty():
    # 0.4/2 · (0.5² + 1²) + 0.1/2 · (2² + 4²) = 0.2 · 1.25 + 0.05 · 20
    assert l2_sp_penalty(parameters(), ANCHORS, alpha=0.4, beta=0.1).item() == pytest.approx(0.25 + 1.0)
    # The authors' strengths: 0.1/2 · 1.25 + 0.01/2 · 20
    assert l2_sp_penalty(parameters(), ANCHORS).item() == pytest.approx(0.0625 + 0.1)


def test_a_step_along_the_penalty_and_the_loss():
    weight = parameters()
    optimizer = SGD(weight.values(), lr=0.5)
    attach_l2_sp(optimizer, weight, ANCHORS, alpha=0.4, beta=0.1)
    weight["body"].grad = torch.tensor([1.0, -2.0])
    weight["head"].grad = torch.tensor([0.5, 0.5])
    optimizer.step()
    # body: g + 0.4 · (0.5, −1) = (1.2, −2.4), times 0.5; head: g + 0.1 · (2, −4) = (0.7, 0.1), times 0.5
    assert weight["body"].tolist() == pytest.approx([1.5 - 0.6, 1.0 + 1.2])
    assert weight["head"].tolist() == pytest.approx([2.0 - 0.35, -4.0 - 0.05])


def test_a_parameter_without_a_gradient_is_pulled_all_the_same():
    weight = parameters()
    optimizer = SGD(weight.values(), lr=0.5)
    attach_l2_sp(optimizer, weight, ANCHORS, alpha=0.4, beta=0.0)
    optimizer.step()
    assert weight["body"].tolist() == pytest.approx([1.5 - 0.1, 1.0 + 0.2])
    assert weight["head"].tolist() == [2.0, -4.0]


def test_it_is_the_penalty_in_the_loss(normalized):
    def loss(model):
        return model(torch.arange(12.0, dtype=torch.float64).view(4, 3)).square().mean()

    anchors = {name: p.detach() + 0.1 for name, p in normalized.named_parameters() if not name.startswith("2.")}
    start = weights(normalized)
    results = []
    for attached in (True, False):
        normalized.load_state_dict(start)
        named = dict(normalized.named_parameters())
        optimizer = AdamW(named.values(), lr=1e-2, weight_decay=0.0)
        if attached:
            attach_l2_sp(optimizer, named, anchors, alpha=0.3, beta=0.2)
        for _ in range(5):
            optimizer.zero_grad()
            objective = loss(normalized)
            if not attached:
                objective = objective + l2_sp_penalty(named, anchors, alpha=0.3, beta=0.2)
            objective.backward()
            optimizer.step()
        results.append(weights(normalized))
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("fused", [True, False])
def test_float16_gradient_scaling_does_not_scale_the_penalty(fused):
    results = []
    for scaled in (True, False):
        weight = parameters()
        optimizer = SGD(weight.values(), lr=0.5, fused=fused)
        attach_l2_sp(optimizer, weight, ANCHORS, alpha=0.4, beta=0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, enabled=scaled)
        scaler.scale((weight["body"] * weight["head"]).sum()).backward()
        scaler.step(optimizer)
        results.append({name: p.detach() for name, p in weight.items()})
    torch.testing.assert_close(*results)


def test_without_strength_it_is_the_plain_trainer_bit_for_bit(checkpoint, dataset, tmp_path):
    plain = train(PlainTrainer, load(checkpoint), dataset, tmp_path)
    trainer = train(L2SPTrainer, load(checkpoint), dataset, tmp_path, {"alpha": 0.0, "beta": 0.0})
    assert_equal(weights(trainer.model), weights(plain.model))


def test_each_strength_acts_on_its_own_parameters(checkpoint, dataset, tmp_path):
    def first_step(alpha, beta):
        method = {"alpha": alpha, "beta": beta}
        overrides = {"max_steps": 1, "optim": "sgd", "max_grad_norm": 0.0}
        return weights(train(L2SPTrainer, load(checkpoint), dataset, tmp_path, method, **overrides).model)

    plain, held = first_step(0.0, 0.0), first_step(0.0, 5.0)
    # The body starts at its anchors and the head's bias at 0, so only the head's weight feels the penalty at first.
    assert {name for name, tensor in plain.items() if not torch.equal(tensor, held[name])} == {"classifier.weight"}
    head = load(checkpoint).classifier.weight
    torch.testing.assert_close(held["classifier.weight"], plain["classifier.weight"] - 1e-2 * 5.0 * head.detach())


def test_a_closure_is_refused():
    weight = parameters()
    optimizer = SGD(weight.values(), lr=0.5)
    attach_l2_sp(optimizer, weight, ANCHORS)
    with pytest.raises(ValueError, match="too late"):
        optimizer.step(lambda: torch.zeros(()))


def test_an_anchor_of_another_shape_is_refused():
    weight = parameters()
    with pytest.raises(ValueError, match=r"the anchor of body has the shape \(3,\), the parameter \(2,\)"):
        attach_l2_sp(SGD(weight.values(), lr=0.5), weight, {"body": torch.zeros(3)})
