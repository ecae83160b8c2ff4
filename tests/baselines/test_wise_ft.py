"""WiSE-FT against values worked out by hand."""

import pytest
import torch
from transformers import MobileNetV2ForSemanticSegmentation, MobileNetV2Model

from ftp_hf.baselines import ALPHAS, interpolate
from ftp_hf.pretrained import new_parameters, new_tensors
from ftp_hf.trainer.plain import PlainTrainer
from tests.support.baselines import HEAD, load, train
from tests.support.equal import assert_equal, weights
from tests.support.models import tiny_mobilenet_config

START = {"w": torch.tensor([1.0, -2.0]), "norm.running_var": torch.tensor([4.0]), "count": torch.tensor(3)}
TUNED = {"w": torch.tensor([3.0, 2.0]), "norm.running_var": torch.tensor([1.0]), "count": torch.tensor(9)}


def test_a_quarter_of_the_way():
    mixed = interpolate(START, TUNED, 0.25)
    assert mixed["w"].tolist() == [1.5, -1.0]  # 0.75 · (1, −2) + 0.25 · (3, 2)
    assert mixed["norm.running_var"].tolist() == [3.25]  # 0.75 · 4 + 0.25 · 1
    assert mixed["count"].item() == 9


def test_statistics_of_a_new_head_stay_as_they_were_found(tmp_path):
    MobileNetV2Model(tiny_mobilenet_config()).save_pretrained(tmp_path)
    model = MobileNetV2ForSemanticSegmentation.from_pretrained(tmp_path, num_labels=2)
    new = new_tensors(model)
    assert new_parameters(model) < new
    start = weights(model)
    for norm in filter(lambda module: isinstance(module, torch.nn.BatchNorm2d), model.modules()):
        norm.running_mean.normal_()
        norm.running_var.uniform_(2, 3)
    tuned = model.state_dict()
    mixed = interpolate(start, tuned, 0.5, new=new)
    for name in (name for name in mixed if name.endswith(("running_mean", "running_var"))):
        assert torch.equal(mixed[name], tuned[name]) == name.startswith("segmentation_head."), name


def test_half_of_the_way_is_the_default():
    assert interpolate(START, TUNED)["w"].tolist() == [2.0, 0.0]


def test_both_ends_are_exact():
    start, tuned = {"w": torch.randn(1000)}, {"w": torch.randn(1000)}
    assert torch.equal(interpolate(start, tuned, 0.0)["w"], start["w"])
    assert torch.equal(interpolate(start, tuned, 1.0)["w"], tuned["w"])
    assert ALPHAS[0] == 0.0
    assert ALPHAS[-1] == 1.0


def test_a_new_head_is_kept_as_it_was_fine_tuned(checkpoint, dataset, tmp_path):
    model = load(checkpoint)
    new, start = new_parameters(model), weights(model)
    tuned = weights(train(PlainTrainer, model, dataset, tmp_path, max_steps=3).model)
    for alpha in (0.0, 0.3):
        model.load_state_dict(interpolate(start, tuned, alpha, new=new))
        for name, tensor in model.state_dict().items():
            between = tuned[name] if name in HEAD else (1 - alpha) * start[name] + alpha * tuned[name]
            torch.testing.assert_close(tensor, between)


def test_the_mixture_shares_no_memory_with_its_ends():
    tuned = {name: tensor.clone() for name, tensor in TUNED.items()}
    for tensor in interpolate(START, tuned, 1.0, new=["w"]).values():
        tensor.zero_()
    assert_equal(tuned, TUNED)


def test_wrapper_prefixes_do_not_matter():
    wrapped = {f"module.{name}": tensor for name, tensor in START.items()}
    assert interpolate(wrapped, TUNED, 0.25)["w"].tolist() == [1.5, -1.0]


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_coefficients_outside_the_range_are_refused(alpha):
    with pytest.raises(ValueError, match=r"alpha must lie in \[0, 1\]"):
        interpolate(START, TUNED, alpha)


def test_models_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"w has the shape .* the start does not hold it"):
        interpolate({}, TUNED)
    with pytest.raises(ValueError, match=r"the start has it in the shape \(3,\)"):
        interpolate({**START, "w": torch.zeros(3)}, TUNED)
    with pytest.raises(ValueError, match="the fine-tuned model has no classifier"):
        interpolate(START, TUNED, new=["classifier"])
