"""Runs of models that are saved as other tensors than they hold: resumed, and ended with their best weights."""

import pytest
import torch
from transformers import MixtralConfig, MixtralForCausalLM, NomicBertConfig, NomicBertForMaskedLM

from ftp_hf import FTPTrainer, projected_optimizer
from tests.support.equal import assert_equal, weights
from tests.support.models import SIZES
from tests.support.trainers import arguments

VOCABULARY = 37
MODELS = {
    MixtralForCausalLM: MixtralConfig(**SIZES, num_key_value_heads=2, num_local_experts=3, vocab_size=VOCABULARY),
    NomicBertForMaskedLM: NomicBertConfig(**SIZES, vocab_size=VOCABULARY, max_position_embeddings=16, pad_token_id=0),
}


@pytest.fixture(params=MODELS, ids=lambda model_class: model_class.__name__, scope="module")
def pretrained(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrained")
    torch.manual_seed(0)
    request.param(MODELS[request.param]).save_pretrained(folder)
    return request.param, folder


def trainer_of(pretrained, output_dir, **options):
    model_class, folder = pretrained
    rows = torch.randint(2, VOCABULARY, (32, 6), generator=torch.Generator().manual_seed(3))
    data = [{"input_ids": row, "labels": row} for row in rows]
    options = {"learning_rate": 1e-2, "max_steps": 6, "save_strategy": "steps", "save_steps": 2, **options}
    return FTPTrainer(
        model_class.from_pretrained(folder), arguments(output_dir, **options), train_dataset=data, eval_dataset=data[:8]
    )


@pytest.mark.slow
@pytest.mark.parametrize("step", [4, 6])
def test_a_resumed_run_ends_where_the_whole_one_does(pretrained, tmp_path, step):
    whole = trainer_of(pretrained, tmp_path)
    whole.train()
    assert whole.state.epoch < 1, "a run that ended with an epoch is none that could go on"
    resumed = trainer_of(pretrained, tmp_path)
    resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
    assert resumed.state.global_step == whole.state.global_step
    assert_equal(weights(resumed.model), weights(whole.model))
    assert projected_optimizer(resumed.optimizer).radii() == projected_optimizer(whole.optimizer).radii()


def test_the_best_model_is_loaded_at_the_end(pretrained, tmp_path):
    best = {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 2, "greater_is_better": True}
    trainer = trainer_of(pretrained, tmp_path, metric_for_best_model="eval_loss", **best)
    trainer.train()
    assert trainer.state.best_global_step < trainer.state.global_step
    model_class, _ = pretrained
    best = model_class.from_pretrained(trainer.state.best_model_checkpoint)
    assert_equal(weights(trainer.model), weights(best))


@pytest.mark.slow
def test_without_optimizer_state_the_anchors_are_the_pre_trained_tensors(pretrained, tmp_path):
    trainer_of(pretrained, tmp_path, save_only_model=True).train()
    resumed = trainer_of(pretrained, tmp_path, save_only_model=True)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    model_class, folder = pretrained
    expected = dict(model_class.from_pretrained(folder).named_parameters())
    anchors = projected_optimizer(resumed.optimizer).anchors()
    assert_equal(anchors, expected)
