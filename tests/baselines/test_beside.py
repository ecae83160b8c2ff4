"""What holds for every method that has the pre-trained model beside the trained one."""

import pytest
import torch
from torch import nn
from transformers import Trainer

from ftp_hf.baselines import KLTrainerMixin
from ftp_hf.trainer.plain import PlainTrainer
from tests.support import trainers
from tests.support.baselines import BESIDE, load_whole, make, train
from tests.support.equal import assert_equal, weights

NEUTRAL = {"kl": {"lambda_": 0.0}, "ldifs": {"lambda_": 0.0}}
OF_LOGITS = [name for name in BESIDE if name != "ldifs"]
every = pytest.mark.parametrize("name", BESIDE)


@pytest.mark.slow
@pytest.mark.parametrize("name", NEUTRAL)
def test_the_neutral_setting_is_plain_training(checkpoint, dataset, tmp_path, name):
    method = train(BESIDE[name][0], load_whole(checkpoint), dataset, tmp_path / "method", NEUTRAL[name])
    plain = train(PlainTrainer, load_whole(checkpoint), dataset, tmp_path / "plain")
    assert_equal(weights(method.model), weights(plain.model))


@every
def test_the_pretrained_model_stays_and_is_in_no_checkpoint(checkpoint, dataset, tmp_path, name):
    method, options = BESIDE[name]
    model = load_whole(checkpoint)
    start, names = weights(model), {name for name, _ in model.named_modules()}
    trainer = make(method, model, dataset, tmp_path, options, max_steps=2, bf16=True, save_strategy="no")
    kept = weights(trainer._frozen)
    trainer.train()
    assert_equal(weights(trainer._frozen), kept)
    assert {name for name, _ in model.named_modules()} == names
    after = weights(model)
    assert after.keys() == start.keys()
    assert all(tensor.isfinite().all() for tensor in after.values() if tensor.is_floating_point())
    assert not torch.equal(after["classifier.weight"], start["classifier.weight"])


@pytest.mark.parametrize(
    ("accepts", "items", "expected"),
    [
        (False, None, 2.0),  # the mean, which the Trainer divides by its 4 batches
        (False, 10, 2.0),
        (True, None, 2.0),
        (True, 10, 0.6 * 2),  # a sixth of all items, over 2 processes whose gradients are averaged
    ],
)
def test_a_share_is_handled_as_losses_are(tmp_path, monkeypatch, accepts, items, expected):
    class Any(KLTrainerMixin, Trainer):
        pass

    trainer = Any(model=Linear(), args=trainers.arguments(tmp_path))
    trainer.model_accepts_loss_kwargs, trainer.current_gradient_accumulation_steps = accepts, 4
    monkeypatch.setattr(type(trainer.accelerator), "num_processes", 2)
    assert trainer.share(torch.tensor(6.0), 3, items) == pytest.approx(expected)
    trainer.compute_loss_func = object()
    assert trainer.share(torch.tensor(6.0), 3, None) == pytest.approx(0.5)
    assert trainer.share(torch.tensor(0.0), 0, None) == 0


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 2)

    def forward(self, x, labels):
        logits = self.head(x)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


@pytest.mark.parametrize("name", OF_LOGITS)
def test_any_model_with_logits_will_do(tmp_path, name):
    method, options = BESIDE[name]
    rows = [{"x": torch.eye(3)[i % 3], "labels": i % 2} for i in range(8)]
    model = Linear()
    start = weights(model)
    train(method, model, rows, tmp_path, options, max_steps=2)
    assert not torch.equal(weights(model)["head.weight"], start["head.weight"])
