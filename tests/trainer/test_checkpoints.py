"""Trainers save whole checkpoints, and resume from the newest that is whole."""

import json
import logging
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from transformers import AutoModelForSequenceClassification, Trainer

from ftp_hf import CompleteLoadingMixin, CompleteSavingMixin, FTPTrainer
from ftp_hf.checkpoints.whole import find_damage, list_checkpoints
from ftp_hf.common.folder import MANIFEST
from tests.support.damage import cut, flip_byte
from tests.support.equal import assert_equal, weights
from tests.support.workers.finetune_tiny import make_trainer, resume

MARKER = "checkpoint-is-incomplete.txt"


class SavingTrainer(CompleteSavingMixin, CompleteLoadingMixin, Trainer):
    """Without projection."""


@pytest.fixture(scope="module")
def finished(pretrained, tmp_path_factory):
    """A run with checkpoints 2, 4 and 6."""
    folder = tmp_path_factory.mktemp("finished")
    make_trainer(pretrained, folder).train()
    return folder


@pytest.fixture
def run(finished, tmp_path):
    """The same, to damage."""
    return shutil.copytree(finished, tmp_path / "run")


def test_a_trainer_saves_whole_checkpoints_and_deletes_older_ones_last(pretrained, tmp_path):
    seen = []

    class Watched(Trainer):
        def _save_checkpoint(self, model, trial):
            super()._save_checkpoint(model, trial)
            seen.append({path.name: find_damage(path) for path in list_checkpoints(tmp_path)})

    class WatchedSaving(CompleteSavingMixin, Watched):
        pass

    make_trainer(pretrained, tmp_path, WatchedSaving, save_total_limit=1).train()
    cut_short = f"its save was cut short ({MANIFEST} is missing)"
    assert seen == [
        {"checkpoint-2": cut_short},
        {"checkpoint-4": cut_short, "checkpoint-2": None},
        {"checkpoint-6": cut_short, "checkpoint-4": None},
    ]
    assert [path.name for path in tmp_path.glob("*checkpoint*")] == ["checkpoint-6"]
    listed = json.loads((tmp_path / "checkpoint-6" / MANIFEST).read_text())["files"]
    assert set(listed) | {MANIFEST} == {path.name for path in (tmp_path / "checkpoint-6").iterdir()}
    assert find_damage(tmp_path / "checkpoint-6") is None
    args = torch.load(tmp_path / "checkpoint-6" / "training_args.bin", weights_only=False)
    assert args.save_total_limit == 1


def test_the_newest_whole_checkpoint_is_resumed_and_the_damaged_ones_are_named(pretrained, run, caplog):
    flip_byte(run / "checkpoint-6" / "optimizer.pt")
    cut(run / "checkpoint-4" / "model.safetensors")
    size = (run / "checkpoint-4" / "model.safetensors").stat().st_size
    assert resume(make_trainer(pretrained, run, max_steps=3)) == 2
    assert f"{run / 'checkpoint-6'} (the checksum of optimizer.pt differs)" in caplog.text
    assert f"{run / 'checkpoint-4'} (model.safetensors has {size} bytes instead of {size + 1})" in caplog.text
    assert f"Resuming from {run / 'checkpoint-2'}" in caplog.text


def test_resuming_from_a_damaged_checkpoint_names_the_one_before_it(pretrained, run):
    (run / "checkpoint-4" / "scheduler.pt").unlink()
    trainer = make_trainer(pretrained, run)
    before = weights(trainer.model)
    with pytest.raises(ValueError, match=r"scheduler\.pt is missing") as refused:
        trainer.train(resume_from_checkpoint=str(run / "checkpoint-4"))
    assert f"whole checkpoint before it is {run / 'checkpoint-2'}." in str(refused.value)
    assert_equal(weights(trainer.model), before)

    (run / "checkpoint-2" / "scheduler.pt").unlink()
    with pytest.raises(ValueError, match="No whole checkpoint is before it"):
        trainer.train(resume_from_checkpoint=run / "checkpoint-4")
    (run / "checkpoint-6" / MANIFEST).unlink()
    (run / "checkpoint-6" / MARKER).touch()
    with pytest.raises(ValueError, match=r"every checkpoint is damaged: .*checkpoint-6.*checkpoint-4.*checkpoint-2"):
        trainer.train(resume_from_checkpoint=True)


def test_a_checkpoint_that_was_changed_on_purpose_can_be_resumed(pretrained, run, caplog):
    state = run / "checkpoint-6" / "trainer_state.json"
    state.write_text(state.read_text() + "\n")
    trainer = make_trainer(pretrained, run, max_steps=7)
    with pytest.raises(ValueError, match=f"If you changed it yourself, delete its {MANIFEST}"):
        trainer.train(resume_from_checkpoint=str(run / "checkpoint-6"))
    (run / "checkpoint-6" / MANIFEST).unlink()
    assert resume(trainer, str(run / "checkpoint-6")) == 6
    assert f"{run / 'checkpoint-6'} holds no {MANIFEST}" in caplog.text


def test_a_folder_without_checkpoints_is_refused_as_by_trainer(pretrained, tmp_path):
    with pytest.raises(ValueError, match="No valid checkpoint found"):
        make_trainer(pretrained, tmp_path).train(resume_from_checkpoint=True)


def test_a_save_that_was_cut_short_does_not_lose_the_checkpoint_that_it_replaces(pretrained, run, caplog):
    class FullDisk(FTPTrainer):
        def _save_rng_state(self, output_dir):
            raise OSError(f"No space left on device: {output_dir}")

    with pytest.raises(OSError, match="No space left on device") as failed:
        make_trainer(pretrained, run, FullDisk, max_steps=2).train()
    assert f"{run / 'checkpoint-2'} could not be saved" in str(failed.value)
    assert f"goes on from {run / 'checkpoint-6'}" in str(failed.value)
    assert "started again, a comparison or stream" in str(failed.value)
    assert find_damage(run / "checkpoint-2").startswith("its save was cut short")

    shutil.rmtree(run / "checkpoint-6")
    shutil.rmtree(run / "checkpoint-4")
    trainer = make_trainer(pretrained, run, max_steps=3)
    with caplog.at_level(logging.WARNING, logger="ftp_hf"):
        assert resume(trainer, True) == 2
    assert "the earlier one is back" in caplog.text


@pytest.mark.parametrize(
    ("error", "kind"),
    [("shared tensors", RuntimeError), ("[enforce fail at inline_container.cc:672] . unexpected pos 704", OSError)],
)
def test_of_runtime_errors_only_those_of_a_full_disk_are_told_as_such(pretrained, tmp_path, monkeypatch, error, kind):
    def fail(*_):
        raise RuntimeError(error)

    trainer = make_trainer(pretrained, tmp_path, save_strategy="no")
    monkeypatch.setattr(trainer, "_save", fail)
    with pytest.raises(kind, match=re.escape(error)):
        trainer.save_model()


@pytest.mark.parametrize("kind", [OSError, SafetensorError])
def test_a_model_is_replaced_only_by_a_whole_one(pretrained, tmp_path, kind):
    class FullDisk(FTPTrainer):
        def _save(self, output_dir=None, state_dict=None):
            super()._save(output_dir, state_dict)
            cut(Path(output_dir) / "model.safetensors")
            raise kind("No space left on device")

    trainer = make_trainer(pretrained, tmp_path, save_strategy="no")
    trainer.save_model()
    saved = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(saved) == {"config.json", "model.safetensors", "training_args.bin"}
    with pytest.raises(OSError, match=f"^{tmp_path} could not be saved: No space left .*make room: .* no whole check"):
        make_trainer(pretrained, tmp_path, FullDisk).save_model()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == saved

    trainer.model.classifier.bias.data += 1
    (tmp_path / "earlier").hardlink_to(tmp_path / "model.safetensors")
    trainer.save_model(str(tmp_path))
    assert (tmp_path / "earlier").read_bytes() == saved["model.safetensors"], "written over, not replaced"
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert torch.equal(loaded.classifier.bias, trainer.model.classifier.bias)


def test_a_model_that_cannot_be_saved_names_the_checkpoint_to_go_on_from(pretrained, run):
    class FullDisk(FTPTrainer):
        def _save(self, *_, **__):
            raise SafetensorError("No space left on device")

    with pytest.raises(OSError, match=f"make room: started again, .*, goes on from {run / 'checkpoint-6'}$"):
        make_trainer(pretrained, run, FullDisk).save_model()


def test_the_model_card_in_the_folder_is_found_by_who_adds_to_it(pretrained, tmp_path):
    class AddingTrainer(FTPTrainer):
        def _save(self, output_dir=None, state_dict=None):
            super()._save(output_dir, state_dict)
            with (Path(output_dir) / "README.md").open("a") as card:  # as PEFT does
                card.write("More.")

    (tmp_path / "README.md").write_text("A model card. ")
    make_trainer(pretrained, tmp_path, AddingTrainer).save_model()
    assert (tmp_path / "README.md").read_text() == "A model card. More."


def test_the_state_is_saved_as_by_trainer(pretrained, tmp_path):
    trainer = make_trainer(pretrained, tmp_path, max_steps=2)
    trainer.train()
    trainer.save_state()
    state = json.loads((tmp_path / "trainer_state.json").read_text())
    assert state["global_step"] == 2
    assert "train_runtime" in state["log_history"][-1]


def test_only_whole_checkpoints_are_pushed(pretrained, tmp_path):
    pushed = []

    class Hub(Trainer):
        def _push_from_checkpoint(self, checkpoint_folder):
            pushed.append((Path(checkpoint_folder).name, find_damage(Path(checkpoint_folder))))

        def push_to_hub(self, **options):
            self.save_model(_internal_call=True)
            pushed.append(options | {"files": sorted(path.name for path in tmp_path.glob("[!_]*") if path.is_file())})

    class PushingTrainer(CompleteSavingMixin, Hub):
        pass

    trainer = make_trainer(pretrained, tmp_path, PushingTrainer, max_steps=4)
    trainer.args.push_to_hub = True
    trainer.train()
    trainer.save_model()
    assert pushed == [
        ("checkpoint-2", None),
        ("checkpoint-4", None),
        {
            "commit_message": "Model save",
            "revision": None,
            "files": ["config.json", "model.safetensors", "training_args.bin"],
        },
    ]


def test_any_trainer_resumes_from_the_newest_whole_checkpoint(pretrained, tmp_path):
    whole = make_trainer(pretrained, tmp_path, SavingTrainer)
    whole.train()
    flip_byte(tmp_path / "checkpoint-6" / "model.safetensors")
    resumed = make_trainer(pretrained, tmp_path, SavingTrainer)
    assert resume(resumed) == 4
    assert_equal(weights(resumed.model), weights(whole.model))
