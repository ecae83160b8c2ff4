"""TPGM against values worked out by hand, and under a Trainer."""

import math
from itertools import chain
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers import GPT2LMHeadModel

from ftp_hf.baselines import TPGM
from ftp_hf.baselines.tpgm_trainer import held_out_rows
from ftp_hf.trainer.plain import PlainTrainer
from tests.support.baselines import TPGMTrainer, load, make, train
from tests.support.equal import assert_equal, weights
from tests.support.models import tiny_gpt2_config


class Linear(nn.Module):
    """The loss `⟨direction, weight⟩`, whose gradient is the direction, and a bias that the loss does not read."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight, dtype=torch.float64))

    def forward(self, direction):
        return SimpleNamespace(loss=(self.weight * direction).sum())


def tensor(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def moved(to=((3.0, 1.0), (0.5, -0.5)), **options):
    """Anchored at zero, then moved to rows of L1 norms 4 and 1."""
    model = Linear([[0.0, 0.0], [0.0, 0.0]])
    tpgm = TPGM(model, ["weight"], **options)
    model.weight.data.copy_(tensor(*to))
    return model, tpgm


def test_radii_start_at_half_the_smallest_row_norm():
    model, tpgm = moved()
    tpgm.update([])
    assert tpgm.radii.tolist() == pytest.approx([0.5])
    # Rows of norms 4 and 1, each scaled to 0.5
    torch.testing.assert_close(model.weight.data, tensor((3 / 8, 1 / 8), (1 / 4, -1 / 4)), rtol=1e-7, atol=0)


def test_one_update_of_the_radius():
    model, tpgm = moved(lr=0.2)
    # ∂loss/∂γ = Σ_rows ⟨g, c⟩ / ‖c‖₁ = (−4·3 + 0·1)/4 + (2·0.5)/1 = −2; Adam's first step is lr against its sign
    tpgm.update([[{"direction": tensor((-4.0, 0.0), (2.0, 0.0))}]])
    assert tpgm.radii.grad.tolist() == pytest.approx([-2.0])
    assert tpgm.radii.tolist() == pytest.approx([0.5 + 0.2])
    torch.testing.assert_close(model.weight.data, 0.7 * tensor((3 / 4, 1 / 4), (1 / 2, -1 / 2)), rtol=1e-6, atol=0)


def test_two_iterations_keep_adams_moments():
    _, tpgm = moved(lr=0.1)
    gradients = [-2.0, -0.5]
    tpgm.update(
        [[{"direction": tensor((-8 / 3, 0.0), (0.0, 0.0))}], [{"direction": tensor((-2 / 3, 0.0), (0.0, 0.0))}]]
    )
    first = sum(0.1 * 0.9 ** (1 - t) * g for t, g in enumerate(gradients)) / (1 - 0.9**2)
    second = sum(0.001 * 0.999 ** (1 - t) * g**2 for t, g in enumerate(gradients)) / (1 - 0.999**2)
    assert tpgm.radii.tolist() == pytest.approx([0.5 + 0.1 - 0.1 * first / math.sqrt(second)], rel=1e-6)


def test_rows_inside_the_ball_have_no_say_and_keep_their_bits():
    model, tpgm = moved(lr=0.25)
    tpgm.load_state_dict({**tpgm.state_dict(), "radii": tensor(2.0)})
    before = model.weight.data[1].clone()
    # Only the first row, of norm 4, is outside the radius 2: ∂loss/∂γ = (3·1 + 1·1)/4
    tpgm.update([[{"direction": tensor((1.0, 1.0), (100.0, 0.0))}]])
    assert tpgm.radii.grad.tolist() == pytest.approx([1.0])
    assert tpgm.radii.tolist() == pytest.approx([1.75])
    assert torch.equal(model.weight.data[1], before)


def test_radii_are_clipped_to_the_largest_row_norm_and_can_come_back():
    model, tpgm = moved(lr=0.25)
    tpgm.load_state_dict({**tpgm.state_dict(), "radii": tensor(9.0)})
    tpgm.update([])
    assert tpgm.radii.tolist() == pytest.approx([4.0])
    assert torch.equal(model.weight.data, tensor((3.0, 1.0), (0.5, -0.5)))
    tpgm.update([[{"direction": tensor((1.0, 0.0), (0.0, 0.0))}]])  # ∂loss/∂γ = 3/4 at the row that bounds the radius
    assert tpgm.radii.tolist() == pytest.approx([3.75])


def test_radii_stay_above_the_floor():
    _, tpgm = moved(lr=2.0)
    tpgm.update([[{"direction": tensor((1.0, 0.0), (0.0, 0.0))}]])
    assert tpgm.radii.tolist() == [1e-8]


def test_elements_of_a_vector_are_rows():
    model = Linear([0.0, 0.0, 0.0])
    tpgm = TPGM(model, ["weight"])
    model.weight.data.copy_(tensor(4.0, -1.0, 0.5))
    tpgm.load_state_dict({**tpgm.state_dict(), "radii": tensor(0.75)})
    tpgm.update([])
    torch.testing.assert_close(model.weight.data, tensor(0.75, -0.75, 0.5))


def test_rows_of_a_transposed_weight_are_its_columns():
    model, tpgm = moved(rows={"weight": 1})
    tpgm.update([])
    # Columns of norms 3.5 and 1.5, so γ = 0.75
    torch.testing.assert_close(model.weight.data, tensor((3 / 3.5, 1 / 1.5), (0.5 / 3.5, -0.5 / 1.5)) * 0.75)


def test_parts_of_a_batch_are_averaged():
    parts = [{"direction": tensor((8.0, 0.0), (0.0, 0.0))}, {"direction": tensor((0.0, 0.0), (6.0, 0.0))}]
    _, tpgm = moved()
    tpgm.update([parts])
    assert tpgm.radii.grad.tolist() == pytest.approx([(8 * 3 / 4 + 6 * 0.5) / 2])


def test_a_batch_that_overflows_does_not_end_the_learning():
    model, tpgm = moved(lr=0.1)
    tpgm.update([[{"direction": tensor((math.inf, 0.0), (0.0, 0.0))}]])
    assert tpgm.radii.tolist() == pytest.approx([0.5])
    assert model.weight.isfinite().all()


def test_the_held_out_loss_is_that_of_the_model_in_evaluation_mode(normalized):
    normalized[0].eval()
    statistics = normalized[1].running_mean.clone()
    modes = []

    def loss(model, batch):
        modes.append([module.training for module in model])
        return model(batch["x"]).square().mean()

    tpgm = TPGM(normalized, ["0.weight"], loss=loss)
    normalized[0].weight.data.add_(0.1)
    tpgm.update([[{"x": torch.ones(4, 3, dtype=torch.float64)}]])
    assert modes == [[False, False, False]]
    assert [module.training for module in normalized] == [False, True, True]
    assert torch.equal(normalized[1].running_mean, statistics)
    assert all(parameter.grad is None for parameter in normalized.parameters())


def test_the_promise_is_checked():
    model, tpgm = moved()
    tpgm.update([])
    tpgm.check()
    model.weight.data.mul_(1.1)
    with pytest.raises(RuntimeError, match="outside its radius"):
        tpgm.check()


def test_no_parameter_to_project_is_refused():
    with pytest.raises(ValueError, match="no parameter to project"):
        TPGM(Linear([0.0]), ["classifier"])


def test_radii_of_another_model_are_refused():
    state = TPGM(nn.Linear(2, 2), ["weight"]).state_dict()
    with pytest.raises(ValueError, match="other parameters than the model's: bias"):
        TPGM(nn.Linear(2, 2), ["weight", "bias"]).load_state_dict(state)


def test_held_out_rows_pass_over_the_data_again_and_again():
    batches = [held_out_rows(number, 7, 3, seed=0) for number in range(6)]
    assert all(len(batch) == 3 for batch in batches)
    first, second = (list(chain(*batches[start : start + 3])) for start in (0, 3))
    assert sorted(first[:7]) == sorted(second[:7]) == list(range(7))
    assert first[7:] == first[:2], "the last batch is filled up with the first rows"
    assert first != second
    assert len(held_out_rows(0, 2, 5, seed=0)) == 5


def test_without_a_radius_that_binds_it_is_the_plain_trainer_bit_for_bit(checkpoint, dataset, held_out, tmp_path):
    class Unbound(TPGMTrainer):
        def training_step(self, *args, **kwargs):
            self.tpgm.radii.data.fill_(math.inf)
            return super().training_step(*args, **kwargs)

    # Radii are learned at the first step of `interval` only, and there the first radius is half the smallest norm: 0.
    method = {"held_out_dataset": held_out, "radius_lr": 1e-30, "interval": 10**6}
    plain = train(PlainTrainer, load(checkpoint), dataset, tmp_path)
    trainer = train(Unbound, load(checkpoint), dataset, tmp_path, method)
    assert_equal(weights(trainer.model), weights(plain.model))


def test_radii_are_learned_at_every_so_many_steps_and_projected_at_all(checkpoint, dataset, held_out, tmp_path):
    class Watched(TPGMTrainer):
        learned = ()

        def _held_out_batches(self):
            batches = list(super()._held_out_batches())
            self.learned += (len(batches),)
            return batches

        def training_step(self, *args, **kwargs):
            if self.state.global_step:
                self.tpgm.check()
            return super().training_step(*args, **kwargs)

    method = {"held_out_dataset": held_out, "iterations": 2, "interval": 3}
    trainer = train(Watched, load(checkpoint), dataset, tmp_path, method, max_steps=7)
    trainer.tpgm.check()
    assert trainer.learned == (2, 0, 0, 2, 0, 0, 2)


def test_held_out_batches_are_as_large_as_training_batches(checkpoint, dataset, held_out, tmp_path):
    trainer = make(
        TPGMTrainer, load(checkpoint), dataset, tmp_path, {"held_out_dataset": held_out}, gradient_accumulation_steps=3
    )
    trainer.create_optimizer()
    (parts,) = trainer._held_out_batches()
    assert [len(part["labels"]) for part in parts] == [4, 4, 4]
    rows = [row for part in parts for row in part["input_ids"].tolist()]
    assert rows == [held_out[row]["input_ids"] for row in held_out_rows(0, len(held_out), 12, trainer.args.seed)]


@pytest.mark.slow
def test_radii_and_their_adam_resume(checkpoint, dataset, held_out, tmp_path):
    method, save = {"held_out_dataset": held_out}, {"save_strategy": "steps", "save_steps": 3, "max_steps": 6}
    whole = train(TPGMTrainer, load(checkpoint), dataset, tmp_path / "whole", method, **save)
    resumed = make(TPGMTrainer, load(checkpoint), dataset, tmp_path / "resumed", method, **save)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    assert whole.tpgm.optimizer.state_dict()["state"][0]["step"] == 6
    assert torch.equal(resumed.tpgm.radii, whole.tpgm.radii)
    moments, expected = (run.tpgm.optimizer.state_dict()["state"][0] for run in (resumed, whole))
    assert_equal(moments, expected)


def test_resuming_without_radii_is_refused(checkpoint, dataset, held_out, tmp_path):
    method = {"held_out_dataset": held_out}
    save = {"save_strategy": "steps", "save_steps": 3, "save_only_model": True}
    train(TPGMTrainer, load(checkpoint), dataset, tmp_path, method, **save)
    resumed = make(TPGMTrainer, load(checkpoint), dataset, tmp_path, method, **save)
    with pytest.raises(ValueError, match=r"checkpoint-3 holds no tpgm\.pt"):
        resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))


def test_conv1d_of_gpt2_is_transposed(tmp_path):
    GPT2LMHeadModel(tiny_gpt2_config()).save_pretrained(tmp_path)
    model = GPT2LMHeadModel.from_pretrained(tmp_path)
    data = [{"input_ids": torch.arange(5), "labels": torch.arange(5)}] * 8
    trainer = train(TPGMTrainer, model, data, tmp_path / "run", {"held_out_dataset": data}, max_steps=1)
    (radius,) = (
        radius
        for name, radius in zip(trainer.tpgm.parameters, trainer.tpgm.radii.tolist(), strict=True)
        if name == "transformer.h.0.mlp.c_fc.weight"
    )
    columns = (model.transformer.h[0].mlp.c_fc.weight - trainer.anchors["transformer.h.0.mlp.c_fc.weight"]).abs().sum(0)
    assert columns.max().item() == pytest.approx(radius, rel=1e-4)


def test_unfit_held_out_data_and_precision_are_refused(checkpoint, dataset, held_out, tmp_path):
    with pytest.raises(ValueError, match="held_out_dataset is empty"):
        make(TPGMTrainer, load(checkpoint), dataset, tmp_path, {"held_out_dataset": held_out.select([])})
