"""Options of the projection that are not those of the checkpoint that a run is resumed from."""

import json
import logging
import shutil

import pytest

from ftp_hf import FTPTrainer, projected_optimizer
from ftp_hf.cards.sections import sections
from ftp_hf.common.folder import MANIFEST, OPTIONS
from tests.support.equal import assert_equal, weights
from tests.support.models import save_bert
from tests.support.trainers import arguments, load

STEPS = {"save_strategy": "steps", "save_steps": 2}


@pytest.fixture(scope="module")
def begun(pretrained, dataset, tmp_path_factory):
    """Checkpoints of two steps, by the options of the run."""
    runs = {}

    def checkpoint(**options):
        key = json.dumps(options)
        if key not in runs:
            folder = runs[key] = tmp_path_factory.mktemp("begun")
            make(pretrained, dataset, folder, max_steps=2, **options).train()
        return runs[key] / "checkpoint-2"

    return checkpoint


def make(model, dataset, output_dir, **options):
    return FTPTrainer(load(model), arguments(output_dir, **{**STEPS, "max_steps": 4, **options}), train_dataset=dataset)


@pytest.mark.slow
def test_what_may_change_takes_effect_and_is_told(pretrained, dataset, begun, tmp_path, caplog):
    changed = {"ftp_kappa": 0.0, "ftp_radius_lr": 0.05, "ftp_radius_beta2": 0.99}
    trainer = make(pretrained, dataset, tmp_path, **changed)
    with caplog.at_level(logging.WARNING, logger="ftp_hf"):
        trainer.train(resume_from_checkpoint=str(begun(ftp_kappa=1.0)))
    for group in projected_optimizer(trainer.optimizer).param_groups:
        assert (group["kappa"], group["radius_lr"], group["radius_betas"]) == (0.0, 0.05, (0.9, 0.99))
    assert "kappa 1.0 → 0.0, radius_lr 0.01 → 0.05" in caplog.text
    facts = trainer.run_summary().projection
    assert facts.kappa == 0.0
    assert [(options.until, options.kappa, options.radius_lr) for options in facts.earlier] == [(2, 1.0, 0.01)]
    assert "1 until step 2, then 0" in sections(trainer.run_summary(), "me/model")["projection"]

    again = make(pretrained, dataset, tmp_path, max_steps=5, **{**changed, "ftp_kappa": 0.5})
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert [(options.until, options.kappa) for options in again.run_summary().projection.earlier] == [
        (2, 1.0),
        (4, 0.0),
    ]


@pytest.mark.slow
def test_a_share_takes_the_place_of_a_rate_and_gives_it_back(pretrained, dataset, begun, tmp_path, caplog):
    trainer = make(pretrained, dataset, tmp_path, ftp_radius_share=0.03)
    with caplog.at_level(logging.WARNING, logger="ftp_hf"):
        trainer.train(resume_from_checkpoint=str(begun(ftp_radius_lr=0.05)))
    assert "radius_lr 0.05 → 0.01, radius_share None → 0.03" in caplog.text
    for group in projected_optimizer(trainer.optimizer).param_groups:
        assert (group["radius_lr"], group["radius_share"]) == (0.01, 0.03)
    facts = trainer.run_summary().projection
    assert facts.radius_share == 0.03
    assert [(options.radius_lr, options.radius_share) for options in facts.earlier] == [(0.05, None)]
    told = sections(trainer.run_summary(), "me/model")["projection"]
    assert "0.05, betas 0.9, 0.999 until step 2, then ρ = 0.03 of what a step can move a row by" in told

    back = make(pretrained, dataset, tmp_path, max_steps=5)
    back.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert all("radius_share" not in group for group in projected_optimizer(back.optimizer).param_groups)
    earlier = back.run_summary().projection.earlier
    assert [(options.until, options.radius_share) for options in earlier] == [(2, None), (4, 0.03)]


@pytest.mark.slow
def test_resumed_with_a_share_is_uninterrupted_bit_for_bit(pretrained, dataset, tmp_path):
    whole, resumed = (
        make(pretrained, dataset, tmp_path / name, ftp_radius_share=0.03) for name in ("whole", "resumed")
    )
    whole.train()
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    radii = projected_optimizer(whole.optimizer).radii()
    assert projected_optimizer(resumed.optimizer).radii() == radii
    assert max(value.radius for value in radii.values()) > 1e-6
    assert_equal(weights(resumed.model), weights(whole.model))


def test_what_a_callback_changed_goes_on_where_nothing_else_is_asked_for(pretrained, dataset, tmp_path):
    trainer = make(pretrained, dataset, tmp_path, max_steps=2)
    projecting = projected_optimizer(trainer.create_optimizer())
    projecting.param_groups[0]["kappa"] = 0.25
    trainer.train()
    resumed = make(pretrained, dataset, tmp_path)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert [group["kappa"] for group in projected_optimizer(resumed.optimizer).param_groups] == [0.25, 1.0]


@pytest.mark.slow
def test_a_share_takes_the_place_of_a_rate_that_a_callback_set(pretrained, dataset, tmp_path):
    trainer = make(pretrained, dataset, tmp_path, max_steps=2)
    projected_optimizer(trainer.create_optimizer()).param_groups[0]["radius_lr"] = 0.05
    trainer.train()
    resumed = make(pretrained, dataset, tmp_path, ftp_radius_share=0.03)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    for group in projected_optimizer(resumed.optimizer).param_groups:
        assert (group["radius_lr"], group["radius_share"]) == (0.01, 0.03)


@pytest.mark.parametrize(
    ("before", "now", "both"),
    [
        ({"ftp_exclude": ["*.bias"]}, {}, r"ftp_exclude was \['\*\.bias'\], and is None now"),
        ({}, {"ftp_exclude": ["*.bias"]}, r"ftp_exclude was None, and is \['\*\.bias'\] now"),
        ({}, {"ftp_exclude_new": False}, "ftp_exclude_new was True, and is False now"),
        ({}, {"ftp_adapters": "none"}, "ftp_adapters was 'product', and is 'none' now"),
    ],
)
@pytest.mark.slow
def test_what_is_projected_cannot_change(pretrained, dataset, begun, tmp_path, before, now, both):
    with pytest.raises(ValueError, match=both):
        make(pretrained, dataset, tmp_path, **now).train(resume_from_checkpoint=str(begun(**before)))


@pytest.mark.slow
def test_patterns_that_come_to_the_same_may_change(pretrained, dataset, begun, tmp_path):
    names = [name for name, _ in load(pretrained).named_parameters() if name.endswith("query.bias")]
    trainer = make(pretrained, dataset, tmp_path, ftp_exclude=names)
    trainer.train(resume_from_checkpoint=str(begun(ftp_exclude=["*.query.bias"])))
    assert not set(names) & projected_optimizer(trainer.optimizer).radii().keys()


@pytest.mark.slow
def test_anchors_cannot_change_but_their_folder_may_move(pretrained, dataset, begun, tmp_path):
    other = save_bert(tmp_path / "other", seed=5, num_hidden_layers=1)
    moved = shutil.copytree(pretrained, tmp_path / "moved")
    checkpoint = begun(ftp_anchors=str(pretrained))
    make(pretrained, dataset, tmp_path / "run", ftp_anchors=str(moved)).train(resume_from_checkpoint=str(checkpoint))
    with pytest.raises(ValueError, match=rf"was '{pretrained.name}', and is '.*other' now"):
        make(pretrained, dataset, tmp_path / "run", ftp_anchors=str(other)).train(
            resume_from_checkpoint=str(checkpoint)
        )
    with pytest.raises(ValueError, match=rf"was '{pretrained.name}', and is None now"):
        make(pretrained, dataset, tmp_path / "run").train(resume_from_checkpoint=str(checkpoint))


@pytest.mark.slow
def test_a_checkpoint_of_before_does_not_say_what_was_asked_for(pretrained, dataset, begun, tmp_path):
    checkpoint = shutil.copytree(begun(), tmp_path / "earlier")
    (checkpoint / OPTIONS).unlink()
    (checkpoint / MANIFEST).unlink()
    trainer = make(pretrained, dataset, tmp_path / "run", ftp_kappa=0.5)
    trainer.train(resume_from_checkpoint=str(checkpoint))
    assert projected_optimizer(trainer.optimizer).param_groups[0]["kappa"] == 0.5
    # The fine-tuned model does not tell that its head was new; the state of the optimizer does.
    make(checkpoint, dataset, tmp_path / "run").train(resume_from_checkpoint=str(checkpoint))
    for options in ({"ftp_exclude": ["*.bias"]}, {"ftp_exclude_new": False}):
        with pytest.raises(ValueError, match=r"leave unprojected was \['classifier\.bias', 'classifier\.weight'\]"):
            make(pretrained, dataset, tmp_path / "run", **options).train(resume_from_checkpoint=str(checkpoint))
