"""The mean of the last weights against values worked out by hand."""

import pytest
import torch
from safetensors.torch import load_file

from ftp_hf.baselines import average, average_checkpoints
from ftp_hf.checkpoints.whole import list_checkpoints
from ftp_hf.trainer.plain import PlainTrainer
from tests.support.baselines import load, train
from tests.support.equal import assert_equal, weights


def state(*values, variance=1.0, count=0):
    return {"w": torch.tensor(values), "norm.running_var": torch.tensor([variance]), "count": torch.tensor(count)}


def test_the_mean_of_three():
    mean = average([state(1.0, -2.0, count=4), state(3.0, 0.0, variance=4.0, count=8), state(2.0, 8.0, count=12)])
    assert mean["w"].tolist() == [2.0, 2.0]  # (1 + 3 + 2) / 3 and (−2 + 0 + 8) / 3
    assert mean["norm.running_var"].tolist() == [2.0]  # (1 + 4 + 1) / 3
    assert mean["count"].item() == 12


def test_of_one_and_of_equal_ones_it_is_exact():
    one = {"w": torch.randn(1000), "half": torch.randn(1000).bfloat16()}
    for times in (1, 3, 7):
        mean = average([one] * times)
        assert_equal(mean, one)


def test_half_precision_is_summed_in_full():
    states = [{"w": torch.tensor([value]).bfloat16()} for value in (256.0, 1.0, 1.0)]
    assert average(states)["w"].item() == 86.0, "258 / 3, where 256 + 1 is 256 in bfloat16"


def test_it_shares_no_memory_and_reads_each_once():
    kept = {"w": torch.ones(2), "count": torch.tensor(1)}

    def in_place():
        for value in (1.0, 2.0, 6.0):
            kept["w"].fill_(value)
            yield kept

    mean = average(in_place())
    assert mean["w"].tolist() == [3.0, 3.0]
    for tensor in mean.values():
        tensor.zero_()
    assert kept["w"].tolist() == [6.0, 6.0]
    assert kept["count"].item() == 1


def test_what_is_not_of_one_model_is_refused():
    with pytest.raises(ValueError, match="nothing to average"):
        average([])
    with pytest.raises(ValueError, match=r"w is not in all of the state dicts in one shape \(see number 2\)"):
        average([state(1.0, 2.0), state(1.0)])
    with pytest.raises(ValueError, match="bias is not in all of the state dicts"):
        average([state(1.0), {**state(1.0), "bias": torch.zeros(1)}])


def test_the_checkpoints_of_a_trainer(checkpoint, dataset, tmp_path):
    saved = {"save_strategy": "steps", "save_steps": 1, "save_only_model": True}
    model = train(PlainTrainer, load(checkpoint), dataset, tmp_path, max_steps=3, **saved).model
    newest = list_checkpoints(tmp_path)[:2]
    average_checkpoints(model, reversed(newest))
    third, second = (load_file(folder / "model.safetensors") for folder in newest)
    for name, tensor in weights(model).items():
        if name in third:
            torch.testing.assert_close(tensor, (second[name] + third[name]) / 2)
    assert not torch.equal(second["classifier.weight"], third["classifier.weight"])


def test_adapters_are_not_taken_for_checkpoints_of_the_model(checkpoint, tmp_path):
    (tmp_path / "adapter_model.safetensors").touch()
    with pytest.raises(ValueError, match="holds no safetensors weights of the whole model"):
        average_checkpoints(load(checkpoint), [tmp_path])
