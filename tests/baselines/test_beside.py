"""What holds for every method that has the pre-trained model beside the trained one."""

import pytest
import torch
from accelerate.utils import DistributedType
from torch import nn
from transformers import Trainer

from ftp_hf.baselines import KLTrainerMixin
from ftp_hf.trainer.plain import PlainTrainer
from tests.support import trainers
from tests.support.baselines import FLOWTrainer, KLTrainer, LDIFSTrainer, load_whole, make, train, weights

METHODS = {
    "kl": (KLTrainer, {"lambda_": 2.0}),
    "ldifs": (LDIFSTrainer, {"lambda_": 2.0}),
    "flow": (FLOWTrainer, {}),
}
NEUTRAL = {"kl": {"lambda_": 0.0}, "ldifs": {"lambda_": 0.0}}
OF_LOGITS = [name for name in METHODS if name != "ldifs"]
every = pytest.mark.parametrize("name", METHODS)
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def same(left, right):
    torch.testing.assert_close(left, right, rtol=0, atol=0)


@every
@pytest.mark.slow
def test_resuming_in_the_middle_of_an_epoch_is_bit_for_bit(checkpoint, dataset, tmp_path, name):
    method, options = METHODS[name]
    save = {"save_strategy": "steps", "save_steps": 3, "max_steps": 9}
    whole = train(method, load_whole(checkpoint), dataset, tmp_path / "whole", options, **save)
    resumed = make(method, load_whole(checkpoint), dataset, tmp_path / "resumed", options, **save)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    same(weights(resumed.model), weights(whole.model))


@every
@pytest.mark.slow
def test_batch_8_is_4_accumulated_twice(checkpoint, dataset, tmp_path, name):
    method, options = METHODS[name]
    results = []
    for size, accumulated in ((8, 1), (4, 2)):
        batch = {"per_device_train_batch_size": size, "gradient_accumulation_steps": accumulated, "optim": "sgd"}
        model = load_whole(checkpoint, **NO_DROPOUT)
        train(method, model, dataset, tmp_path, options, learning_rate=0.1, max_grad_norm=0.0, **batch)
        results.append(weights(model))
    torch.testing.assert_close(*results, rtol=1e-4, atol=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", NEUTRAL)
def test_the_neutral_setting_is_plain_training(checkpoint, dataset, tmp_path, name):
    method = train(METHODS[name][0], load_whole(checkpoint), dataset, tmp_path / "method", NEUTRAL[name])
    plain = train(PlainTrainer, load_whole(checkpoint), dataset, tmp_path / "plain")
    same(weights(method.model), weights(plain.model))


@every
def test_the_pretrained_model_stays_and_is_in_no_checkpoint(checkpoint, dataset, tmp_path, name):
    method, options = METHODS[name]
    model = load_whole(checkpoint)
    start, names = weights(model), {name for name, _ in model.named_modules()}
    trainer = make(method, model, dataset, tmp_path, options, max_steps=2, bf16=True, save_strategy="no")
    kept = weights(trainer._frozen)
    trainer.train()
    same(weights(trainer._frozen), kept)
    assert {name for name, _ in model.named_modules()} == names
    after = weights(model)
    assert after.keys() == start.keys()
    assert all(tensor.isfinite().all() for tensor in after.values() if tensor.is_floating_point())
    assert not torch.equal(after["classifier.weight"], start["classifier.weight"])


@every
@pytest.mark.parametrize("kind", [DistributedType.FSDP, DistributedType.DEEPSPEED])
def test_strategies_that_split_tensors_are_refused(checkpoint, dataset, tmp_path, monkeypatch, name, kind):
    method, options = METHODS[name]

    class Split(method):
        def create_accelerator_and_postprocess(self):
            super().create_accelerator_and_postprocess()
            monkeypatch.setattr(type(self.accelerator), "distributed_type", kind)

    with pytest.raises(ValueError, match=f"{name} needs whole parameters on every process, which {kind.value} splits"):
        make(Split, load_whole(checkpoint), dataset, tmp_path, options)


@every
@pytest.mark.slow
def test_a_model_made_anew_by_model_init_is_the_one_that_is_trained(checkpoint, dataset, tmp_path, name):
    method, options = METHODS[name]
    init = {"model_init": lambda: load_whole(checkpoint, **NO_DROPOUT)}
    trainer = train(method, None, dataset, tmp_path, {**options, **init})
    given = train(method, load_whole(checkpoint, **NO_DROPOUT), dataset, tmp_path, options)
    same(weights(trainer.model), weights(given.model))


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
    method, options = METHODS[name]
    rows = [{"x": torch.eye(3)[i % 3], "labels": i % 2} for i in range(8)]
    model = Linear()
    start = weights(model)
    train(method, model, rows, tmp_path, options, max_steps=2)
    assert not torch.equal(weights(model)["head.weight"], start["head.weight"])
