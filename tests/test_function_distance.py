import math

import pytest
import torch
from torch import nn

from ftp_hf.function_distance import answers_kl, distance_from, function_distance, hidden_change, measured_kl


class Logits(nn.Module):
    """Answers each input with its logarithm: softmax gives back the probabilities that the input is."""

    def __init__(self, power=1.0):
        super().__init__()
        self.power = power
        self.dropout = nn.Dropout(0.9)

    def forward(self, inputs):
        return self.dropout(inputs.log() * self.power)


def answers(model, batch):
    return model(batch["inputs"]), batch["counted"]


def test_kl_by_hand():
    before, after = torch.tensor([[0.5, 0.5], [0.9, 0.1]]).log(), torch.tensor([[0.5, 0.5], [0.6, 0.4]]).log()
    expected = 0.9 * math.log(0.9 / 0.6) + 0.1 * math.log(0.1 / 0.4)
    assert answers_kl(before, after).tolist() == pytest.approx([0.0, expected], abs=1e-6)
    # Logits that differ by a constant are the same answers.
    assert answers_kl(before, before + 7.0).tolist() == pytest.approx([0.0, 0.0], abs=1e-6)


def test_kl_of_16_bit_logits_is_taken_in_float32():
    before = torch.tensor([[12.0, 0.0, -3.0]], dtype=torch.bfloat16)
    after = torch.tensor([[11.0, 0.0, -3.0]], dtype=torch.bfloat16)
    assert answers_kl(before, after).dtype == torch.float32
    assert answers_kl(before, after).item() == pytest.approx(answers_kl(before.float(), after.float()).item(), rel=1e-4)


def test_kl_is_no_less_than_zero_as_a_distance_alone():
    before = torch.randn(100, 50, generator=torch.Generator().manual_seed(0))
    after = before + 1e-4
    assert answers_kl(before, after).min() < 0
    assert torch.equal(measured_kl(before, after), answers_kl(before, after).clamp(min=0))


def test_what_compares_may_have_a_sign():
    batch = {"inputs": torch.tensor([[0.5, 0.5]]), "counted": torch.tensor([True])}
    found = function_distance(Logits(2.0), Logits(), [batch], answers, lambda before, after: (after - before).sum(-1))
    assert found == pytest.approx(2 * math.log(0.5))


def test_hidden_change_by_hand():
    before, after = torch.tensor([[3.0, 4.0], [3.0, 4.0]]), torch.tensor([[3.0, 3.0], [3.0, 4.0]])
    assert hidden_change(before, after).tolist() == pytest.approx([0.2, 0.0])
    assert hidden_change(before.double(), after.double()).dtype == torch.float64
    assert hidden_change(before * math.nan, after).isnan().all()


@pytest.mark.parametrize("after", [[0.5, 0.0], [0.0, 0.0]], ids=["moved", "still zero"])
def test_the_change_of_a_state_that_was_zero_does_not_count(after):
    before, states = torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.tensor([[3.0, 3.0], after])

    def answers(_, batch):
        return batch["states"], torch.ones(len(batch["states"]), dtype=torch.bool)

    assert distance_from([(before, {"states": states})], nn.Identity(), answers, hidden_change) == pytest.approx(0.2)
    with pytest.raises(ValueError, match="where states are compared, some are not zero"):
        distance_from([(before[1:], {"states": states[1:]})], nn.Identity(), answers, hidden_change)


def test_only_what_counts_counts_and_batches_weigh_by_their_answers():
    rows = torch.tensor([[0.5, 0.5], [0.9, 0.1], [0.2, 0.8]])
    batches = [
        {"inputs": rows, "counted": torch.tensor([True, False, True])},
        {"inputs": rows[1:2], "counted": torch.tensor([True])},
    ]
    squared = rows**2 / (rows**2).sum(-1, keepdim=True)
    expected = (rows * (rows / squared).log()).sum(-1).mean().item()
    model, pretrained = Logits(2.0).train(), Logits().eval()
    assert function_distance(model, pretrained, batches, answers) == pytest.approx(expected, rel=1e-5)
    assert model.training
    assert not pretrained.training
    with pytest.raises(ValueError, match="no answer that counts"):
        function_distance(model, pretrained, [], answers)
