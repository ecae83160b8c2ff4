"""FAPM against values worked out by hand."""

import pytest
import torch

from ftp_hf.baselines import fapm
from ftp_hf.baselines.fapm import forgetting_aware_score
from ftp_hf.pretrained import new_parameters
from ftp_hf.trainer.plain import PlainTrainer
from tests.support.baselines import HEAD, load, train
from tests.support.equal import weights

# |W₀| has the mean 2. The scores are |ΔW| − 2 |ΔW| / |W₀|.
START = torch.tensor([1.0, -2.0, 4.0, -1.0])
TUNED = torch.tensor([1.5, -5.0, 3.0, -1.0])
SCORES = [-0.5, 0.0, 0.5, 0.0]  # 0.5 − 1; 3 − 3; 1 − 0.5; 0 − 0


def test_the_metric():
    assert forgetting_aware_score(START, TUNED).tolist() == SCORES


def test_the_best_share_of_each_tensor_keeps_its_change():
    states = {"w": START.view(2, 2), "one": torch.tensor(3.0)}, {"w": TUNED.view(2, 2), "one": torch.tensor(5.0)}
    assert fapm(*states, 0.25)["w"].tolist() == [[1.0, -2.0], [3.0, -1.0]], (
        "not the largest change, which is the second"
    )
    assert fapm(*states, 0.5)["w"].tolist() == [[1.0, -5.0], [3.0, -1.0]]
    assert fapm(*states, 0.99)["w"].tolist() == [[1.0, -5.0], [3.0, -1.0]], "⌊0.99 · 4⌋ = 3 of them"
    assert fapm(*states, 0.99)["one"].item() == 3.0, "⌊0.99 · 1⌋ = 0 of them"


def test_a_tenth_is_the_default():
    start = torch.tensor([1.0] * 10 + [3.0] * 10)  # of the mean 2: scores of −|ΔW| and |ΔW| / 3
    tuned = start + torch.tensor([50.0] * 10 + [float(change) for change in range(1, 11)])
    assert fapm({"w": start}, {"w": tuned})["w"].tolist() == [1.0] * 10 + [3.0] * 8 + [12.0, 13.0]


def test_both_ends_are_exact():
    start, tuned = {"w": torch.randn(1000)}, {"w": torch.randn(1000)}
    assert torch.equal(fapm(start, tuned, 0.0)["w"], start["w"])
    assert torch.equal(fapm(start, tuned, 1.0)["w"], tuned["w"])


def test_zeros_of_the_pretrained_model_come_last_moved_or_not():
    start, tuned = torch.tensor([0.0, 0.0, 0.1, 2.0]), torch.tensor([5.0, 0.0, 1.1, 2.0])
    assert forgetting_aware_score(start, tuned).tolist() == [-torch.inf, -torch.inf, pytest.approx(-4.25), 0.0]
    assert fapm({"w": start}, {"w": tuned}, 0.5)["w"].tolist() == [0.0, 0.0, pytest.approx(1.1), 2.0]


def test_where_all_are_zero_the_largest_change_counts():
    assert fapm({"bias": torch.zeros(3)}, {"bias": torch.tensor([0.1, -2.0, 1.0])}, 0.4)["bias"].tolist() == [0, -2, 0]


def test_equal_scores_are_taken_from_the_front():
    kept = fapm({"w": torch.ones(4096)}, {"w": torch.full((4096,), 1.5)}, 0.5)["w"]
    assert kept.tolist() == [1.5] * 2048 + [1.0] * 2048


def test_half_precision_is_scored_in_full_and_kept_in_half():
    start, tuned = START.bfloat16(), TUNED.bfloat16()
    assert forgetting_aware_score(start, tuned).dtype == torch.float32
    assert fapm({"w": start}, {"w": tuned}, 0.25)["w"].dtype == torch.bfloat16


def test_integers_and_a_new_head_are_kept_as_fine_tuned(checkpoint, dataset, tmp_path):
    assert fapm({"count": torch.tensor(3)}, {"count": torch.tensor(9)})["count"].item() == 9
    model = load(checkpoint)
    new, start = new_parameters(model), weights(model)
    tuned = weights(train(PlainTrainer, model, dataset, tmp_path, max_steps=3).model)
    model.load_state_dict(fapm(start, model.state_dict(), 0.25, new=new))
    for name, tensor in model.state_dict().items():
        if name in HEAD:
            assert torch.equal(tensor, tuned[name])
        elif tensor.is_floating_point():
            kept = (tensor != start[name]).sum()
            assert kept <= tensor.numel() // 4
            assert torch.equal(tensor, torch.where(tensor == start[name], start[name], tuned[name]))


@pytest.mark.parametrize("ratio", [-0.1, 1.1, float("nan")])
def test_shares_outside_the_range_are_refused(ratio):
    with pytest.raises(ValueError, match=r"ratio must lie in \[0, 1\]"):
        fapm({"w": START}, {"w": TUNED}, ratio)


def test_models_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"w has the shape .* the start does not hold it"):
        fapm({}, {"w": TUNED})
    with pytest.raises(ValueError, match="the fine-tuned model has no classifier"):
        fapm({"w": START}, {"w": TUNED}, new=["classifier"])
