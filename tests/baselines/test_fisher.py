"""The Fisher information of small models against what their equations say."""

import pytest
import torch
from torch import nn
from transformers import GPT2LMHeadModel, WhisperForConditionalGeneration

from ftp_hf.baselines import class_answers, fisher_diagonal
from tests.support.equal import assert_equal
from tests.support.models import tiny_gpt2_config
from tests.support.speech import save_whisper


class Logistic(nn.Module):
    """Two classes: of `log p(y|x)` the derivatives by `W_kj` and `b_k` are `(1[y=k] − p_k) x_j` and `1[y=k] − p_k`."""

    def __init__(self, bias=(0.0, 0.0)):
        super().__init__()
        self.linear = nn.Linear(2, 2).double()
        self.drop = nn.Dropout()
        with torch.no_grad():
            self.linear.weight.zero_()
            self.linear.bias.copy_(torch.tensor(bias))

    def forward(self, x, labels=None):  # noqa: ARG002 - as models of transformers
        return {"logits": self.linear(self.drop(x))}


def row(*x, **others):
    return {"x": torch.tensor([x], dtype=torch.float64), **others}


def test_where_both_classes_are_as_likely():
    # (1[y=k] − 1/2)² = 1/4 whatever is drawn: F of W is the mean of x²/4, (1 + 4 + 0)/12 and (0 + 1 + 9)/12.
    fisher = fisher_diagonal(Logistic(), [row(1.0, 0.0), row(2.0, 1.0), row(0.0, 3.0)])
    torch.testing.assert_close(fisher["linear.weight"], torch.tensor([[5 / 12, 10 / 12]] * 2, dtype=torch.float64))
    torch.testing.assert_close(fisher["linear.bias"], torch.tensor([0.25, 0.25], dtype=torch.float64))


def test_answers_are_drawn_and_are_not_the_labels_of_the_data():
    # p = (0.8, 0.2): E (1[y=k] − p_k)² = p (1 − p) = 0.16. With labels 0 it would be 0.2² = 0.04.
    model = Logistic((torch.tensor(4.0).log().item(), 0.0))
    rows = [row(1.0, 1.0, labels=torch.tensor([0]))] * 400
    fisher = fisher_diagonal(model, rows)
    assert fisher["linear.bias"].tolist() == pytest.approx([0.16, 0.16], abs=0.025)  # two standard deviations
    assert_equal(fisher_diagonal(model, rows), fisher)
    other = fisher_diagonal(model, rows, ["linear.bias"], seed=1000)
    assert other.keys() == {"linear.bias"}
    assert not torch.equal(other["linear.bias"], fisher["linear.bias"])


def test_all_answers_of_a_row_that_count():
    # Two answers that count, ±1/2 each: the square of their sum, 0 or 1, has the mean 1/2, which is 1/4 an answer.
    labels = torch.tensor([[0, -100, 1]])
    rows = [{"x": torch.tensor([[[1.0, 0.0], [7.0, 7.0], [1.0, 0.0]]], dtype=torch.float64), "labels": labels}] * 400
    fisher = fisher_diagonal(Logistic(), rows)
    assert fisher["linear.weight"][0, 0].item() == pytest.approx(0.25, abs=0.025)
    assert fisher["linear.weight"][:, 1].tolist() == [0.0, 0.0]


def test_it_leaves_gradients_modes_and_random_numbers_as_they_are():
    model = Logistic()
    model.linear.bias.grad = torch.ones(2, dtype=torch.float64)
    state = torch.get_rng_state()
    fisher_diagonal(model, [row(1.0, 2.0)])
    assert torch.equal(torch.get_rng_state(), state)
    assert model.drop.training
    assert model.linear.weight.grad is None
    assert model.linear.bias.grad.tolist() == [1.0, 1.0]


def test_what_answers_do_not_depend_on_has_none():
    model = Logistic()
    model.unused, model.linear.bias.requires_grad = nn.Parameter(torch.ones(3)), False
    fisher = fisher_diagonal(model, [row(1.0, 2.0)])
    assert fisher.keys() == {"unused", "linear.weight"}
    assert fisher["unused"].tolist() == [0.0, 0.0, 0.0]


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"a batch has 2 rows, .* pass one at a time"):
        fisher_diagonal(Logistic(), [{"x": torch.ones(2, 2, dtype=torch.float64)}])
    with pytest.raises(ValueError, match="no answer counts"):
        fisher_diagonal(Logistic(), [row(1.0, 2.0, labels=torch.tensor([-100]))])
    with pytest.raises(ValueError, match=r"labels are torch.float32 of the shape \(1, 2\) for logits of \(1, 2\)"):
        fisher_diagonal(Logistic(), [row(1.0, 2.0, labels=torch.zeros(1, 2))])
    number = Logistic()
    number.linear = nn.Linear(2, 1).double()
    with pytest.raises(ValueError, match="Logistic does not answer with distributions over classes"):
        fisher_diagonal(number, [row(1.0, 2.0)])


def test_a_language_model_answers_for_the_next_token():
    model = GPT2LMHeadModel(tiny_gpt2_config()).eval()
    tokens = torch.tensor([[1, 2, 3, 4]])
    logits, counted = class_answers(model, {"input_ids": tokens, "labels": torch.tensor([[-100, -100, 3, 4]])})
    torch.testing.assert_close(logits, model(input_ids=tokens).logits[:, :3])
    assert counted.tolist() == [[False, True, True]]


def test_a_decoder_is_given_the_labels_as_the_tokens_before(tmp_path):
    model = WhisperForConditionalGeneration.from_pretrained(save_whisper(tmp_path)).eval()
    config = model.config
    features = torch.randn(1, config.num_mel_bins, 2 * config.max_source_positions)
    labels = torch.tensor([[5, 6, -100]])
    logits, counted = class_answers(model, {"input_features": features, "labels": labels})
    before = torch.tensor([[config.decoder_start_token_id, 5, 6]])
    torch.testing.assert_close(logits, model(input_features=features, decoder_input_ids=before).logits)
    assert counted.tolist() == [[True, True, False]]
