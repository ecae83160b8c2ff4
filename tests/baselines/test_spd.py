"""Selective projection decay against values worked out by hand."""

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW

from ftp_hf.baselines import attach_spd
from ftp_hf.baselines.spd import condition, decay
from ftp_hf.trainer.plain import PlainTrainer
from tests.support.baselines import SPDTrainer, load, train
from tests.support.equal import assert_equal, weights

ANCHOR = torch.tensor([1.0, 1.0], dtype=torch.float64)
BEFORE = torch.tensor([4.0, 5.0], dtype=torch.float64)  # 5 from the anchor
AFTER = torch.tensor([7.0, 9.0], dtype=torch.float64)  # 10 from it, so that r = (10 − 5) / 10


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_condition():
    # −⟨g, (3, 4)⟩
    assert condition(tensor(1.0, -2.0), BEFORE, ANCHOR).item() == 5.0
    assert condition(tensor(1.0, 1.0), BEFORE, ANCHOR).item() == -7.0


@pytest.mark.parametrize(
    ("lambda_", "expected"),
    [
        (1.0, [4.0, 5.0]),  # (7, 9) − 1/2 · (6, 8): back on the sphere of radius 5
        (0.5, [5.5, 7.0]),  # (7, 9) − 1/4 · (6, 8)
        (2.0, [1.0, 1.0]),  # (7, 9) − 1 · (6, 8)
    ],
)
def test_decay_of_a_selected_tensor(lambda_, expected):
    assert decay(AFTER, ANCHOR, tensor(-7.0)[0], tensor(5.0)[0], lambda_).tolist() == expected


@pytest.mark.parametrize(
    ("selection", "deviation"),
    [(5.0, 5.0), (0.0, 5.0), (-7.0, 12.0), (float("nan"), 5.0)],
    ids=["along the way it went", "at the anchor", "the step led back", "overflow"],
)
def test_what_is_not_selected_keeps_its_bits(selection, deviation):
    weight = torch.randn(100, dtype=torch.float64)
    weight = weight + (AFTER.norm() - weight.norm()) * weight / weight.norm()
    kept = decay(weight, torch.zeros_like(weight), tensor(selection)[0], tensor(deviation)[0])
    assert torch.equal(kept, weight)


def test_a_tensor_that_came_back_to_its_anchor_stays_there():
    assert decay(ANCHOR, ANCHOR, tensor(-1.0)[0], tensor(5.0)[0]).tolist() == [1.0, 1.0]


def test_steps_with_momentum():
    weight = nn.Parameter(tensor(0.0, 0.0))
    optimizer = SGD([weight], lr=1.0, momentum=0.5)
    attach_spd(optimizer, {"weight": weight}, {"weight": tensor(0.0, 0.0)}, lambda_=0.5)

    def step(*gradient):
        weight.grad = tensor(*gradient)
        optimizer.step()
        return weight.tolist()

    assert step(-3.0, -4.0) == [3.0, 4.0]  # at the anchor the condition is 0, which does not select
    # c = 7 > 0; momentum 0.5 · (−3, −4) + (−1, −1) = (−2.5, −3)
    assert step(-1.0, -1.0) == [5.5, 7.0]
    # c = −5.5 − 7 < 0, and the momentum, 0.5 · (−2.5, −3) + (1, 1) = (−0.25, −0.5), leads further away, to (5.75, 7.5)
    ratio = 1 - (5.5**2 + 7.0**2) ** 0.5 / (5.75**2 + 7.5**2) ** 0.5
    assert step(1.0, 1.0) == pytest.approx([5.75 * (1 - ratio / 2), 7.5 * (1 - ratio / 2)])


def test_parameters_without_gradient_or_anchor_are_left_alone():
    weight = {name: nn.Parameter(tensor(4.0, 5.0)) for name in ("held", "idle", "new")}
    optimizer = SGD(weight.values(), lr=1.0, momentum=0.9)
    for p in weight.values():
        p.grad = tensor(-3.0, -4.0)
    optimizer.step()
    attach_spd(optimizer, weight, {"held": ANCHOR, "idle": ANCHOR})
    before = {name: p.detach().clone() for name, p in weight.items()}
    for p in weight.values():
        p.grad = tensor(0.1, 0.1)
    weight["idle"].grad = None
    optimizer.step()
    assert torch.equal(weight["idle"], before["idle"])
    # momentum: 0.9 · (−3, −4) + 0.1
    torch.testing.assert_close(weight["new"], before["new"] + tensor(2.6, 3.5))
    torch.testing.assert_close((weight["held"] - ANCHOR).norm(), (before["held"] - ANCHOR).norm())


def test_bfloat16_weights_are_measured_in_float32():
    anchor = torch.zeros(4096, dtype=torch.bfloat16)
    weight = nn.Parameter(torch.ones(4096, dtype=torch.bfloat16))
    optimizer = SGD([weight], lr=1.0, momentum=1.0)
    weight.grad = -torch.ones_like(weight)
    optimizer.step()  # to 2
    attach_spd(optimizer, {"weight": weight}, {"weight": anchor})
    weight.grad = torch.full_like(weight, 0.5)
    optimizer.step()  # to 2.5, and back to the sphere
    torch.testing.assert_close(weight, torch.full_like(weight, 2.0))


@pytest.mark.slow
def test_without_strength_it_is_the_plain_trainer_bit_for_bit(checkpoint, dataset, tmp_path):
    plain = train(PlainTrainer, load(checkpoint), dataset, tmp_path)
    trainer = train(SPDTrainer, load(checkpoint), dataset, tmp_path, {"lambda_": 0.0})
    assert_equal(weights(trainer.model), weights(plain.model))


def test_a_closure_is_refused():
    weight = nn.Parameter(tensor(4.0, 5.0))
    optimizer = AdamW([weight], weight_decay=0.0)
    attach_spd(optimizer, {"weight": weight}, {"weight": ANCHOR})
    with pytest.raises(ValueError, match="too late"):
        optimizer.step(lambda: torch.zeros(()))
