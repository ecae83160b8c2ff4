import json
import logging
import os
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, BertForSequenceClassification, Trainer

from ftp_hf import CompleteLoadingMixin, CompleteSavingMixin, FTPTrainer
from ftp_hf.checkpoints.lock import run_lock
from ftp_hf.checkpoints.whole import (
    begin_checkpoint,
    find_damage,
    finish_checkpoint,
    has_optimizer_state,
    list_checkpoints,
    newest_whole,
    restore_replaced,
)
from ftp_hf.common.files import move_files, replacing
from ftp_hf.common.folder import MANIFEST
from tests.support.models import tiny_bert_config
from tests.support.workers.finetune_tiny import make_trainer, resume

MARKER = "checkpoint-is-incomplete.txt"


class SavingTrainer(CompleteSavingMixin, CompleteLoadingMixin, Trainer):
    """Without projection."""


def write_checkpoint(folder, content="first"):
    (folder / "optimizer_0").mkdir(parents=True, exist_ok=True)
    (folder / "optimizer_0" / "shard.distcp").write_text(content * 1000)
    (folder / "trainer_state.json").write_text(json.dumps({"content": content}))
    (folder / "empty").touch()


def save_checkpoint(folder, content="first"):
    begin_checkpoint(folder)
    write_checkpoint(folder, content)
    finish_checkpoint(folder)
    return folder


def flip_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path):
    os.truncate(path, path.stat().st_size - 1)


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


def test_every_file_of_a_whole_checkpoint_is_listed(tmp_path):
    begin_checkpoint(tmp_path)
    (tmp_path / "optimizer_0").mkdir()
    (tmp_path / "optimizer_0" / "shard.distcp").write_text("123456789")  # whose CRC-32 is in every table of them
    (tmp_path / "empty").touch()
    finish_checkpoint(tmp_path)
    assert json.loads((tmp_path / MANIFEST).read_text()) == {
        "files": {
            "empty": {"size": 0, "crc32": "00000000"},
            "optimizer_0/shard.distcp": {"size": 9, "crc32": "cbf43926"},
        }
    }
    assert {path.name for path in tmp_path.iterdir()} == {"empty", "optimizer_0", MANIFEST}
    assert find_damage(tmp_path) is None


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (flip_byte, "the checksum of optimizer_0/shard.distcp differs"),
        (cut, "optimizer_0/shard.distcp has 4999 bytes instead of 5000"),
        (Path.unlink, "optimizer_0/shard.distcp is missing"),
    ],
)
def test_damage_is_found_and_named(tmp_path, damage, found):
    checkpoint = save_checkpoint(tmp_path / "checkpoint-1")
    damage(checkpoint / "optimizer_0" / "shard.distcp")
    assert find_damage(checkpoint) == found


def test_all_damaged_files_are_named(tmp_path):
    checkpoint = save_checkpoint(tmp_path / "checkpoint-1")
    flip_byte(checkpoint / "trainer_state.json")
    (checkpoint / "empty").unlink()
    assert find_damage(checkpoint) == "empty is missing, the checksum of trainer_state.json differs"


def test_damaged_checksums_are_found(tmp_path):
    checkpoint = save_checkpoint(tmp_path / "checkpoint-1")
    for content in ("", "{", "[]", "{}", '{"files": {"empty": {"size": 0}}}', '{"files": [1]}'):
        (checkpoint / MANIFEST).write_text(content)
        assert find_damage(checkpoint) == f"{MANIFEST} cannot be read", content


def test_a_save_that_was_cut_short_is_told_from_a_checkpoint_of_a_plain_trainer(tmp_path):
    begin_checkpoint(tmp_path / "checkpoint-1")
    assert find_damage(tmp_path / "checkpoint-1") == f"its save was cut short ({MANIFEST} is missing)"
    write_checkpoint(tmp_path / "checkpoint-1")
    assert find_damage(tmp_path / "checkpoint-1") == f"its save was cut short ({MANIFEST} is missing)"

    write_checkpoint(tmp_path / "checkpoint-2")
    assert find_damage(tmp_path / "checkpoint-2") is None
    (tmp_path / "checkpoint-2" / "trainer_state.json").unlink()
    assert find_damage(tmp_path / "checkpoint-2") == "trainer_state.json is missing"
    assert find_damage(tmp_path / "checkpoint-3") == "there is no such folder"


def test_newest_whole_checkpoint(tmp_path):
    for step in (9, 10, 2):
        save_checkpoint(tmp_path / f"checkpoint-{step}")
    (tmp_path / "checkpoint-11").touch()
    (tmp_path / "checkpoint-12-old").mkdir()
    assert [path.name for path in list_checkpoints(tmp_path)] == ["checkpoint-10", "checkpoint-9", "checkpoint-2"]
    assert newest_whole(list_checkpoints(tmp_path)) == tmp_path / "checkpoint-10"
    cut(tmp_path / "checkpoint-10" / "trainer_state.json")
    assert newest_whole(list_checkpoints(tmp_path)) == tmp_path / "checkpoint-9"
    assert newest_whole([tmp_path / "checkpoint-10"]) is None
    assert list_checkpoints(tmp_path / "missing") == []


@pytest.mark.parametrize("earlier", [save_checkpoint, write_checkpoint], ids=["ours", "of a plain Trainer"])
@pytest.mark.parametrize("cut_short", ["before its folder is made", "at the first file", "at the last file", "never"])
def test_a_whole_checkpoint_is_replaced_only_by_a_whole_one(tmp_path, earlier, cut_short):
    checkpoint = tmp_path / "checkpoint-1"
    earlier(checkpoint, "first")
    begin_checkpoint(checkpoint)
    if cut_short == "before its folder is made":
        shutil.rmtree(checkpoint)
    if cut_short in ("at the last file", "never"):
        write_checkpoint(checkpoint, "second")
    if cut_short == "never":
        finish_checkpoint(checkpoint)
    restore_replaced(tmp_path)
    assert find_damage(checkpoint) is None
    content = "second" if cut_short == "never" else "first"
    assert json.loads((checkpoint / "trainer_state.json").read_text()) == {"content": content}
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]


def test_what_was_cut_short_is_not_kept_aside(tmp_path):
    begin_checkpoint(tmp_path / "checkpoint-1")
    (tmp_path / "checkpoint-1" / "leftover").touch()
    begin_checkpoint(tmp_path / "checkpoint-1")
    assert [path.name for path in tmp_path.rglob("*")] == ["checkpoint-1", MARKER]


def test_a_replacement_that_was_whole_before_the_crash_stays(tmp_path):
    checkpoint = save_checkpoint(tmp_path / "checkpoint-1", "first")
    shutil.copytree(checkpoint, tmp_path / "first")
    save_checkpoint(checkpoint, "second")
    (tmp_path / "first").rename(tmp_path / "_replaced-checkpoint-1")  # the crash came before it was deleted
    restore_replaced(tmp_path)
    assert json.loads((checkpoint / "trainer_state.json").read_text()) == {"content": "second"}
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["optimizer.pt", "scheduler.pt"], True),
        (["optimizer.bin", "scheduler.pt"], True),
        (["optimizer_0/shard.distcp", "scheduler.pt"], True),
        (["optimizer.pt"], False),
        (["optimizer_0.txt", "scheduler.pt"], False),
        (["model.safetensors"], False),
    ],
)
def test_optimizer_state_is_recognised(tmp_path, names, expected):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert has_optimizer_state(tmp_path) is expected


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "results.json"
    with replacing(path) as part:
        part.write_text("first")
    with replacing(path) as part:
        part.write_text("second")
    with pytest.raises(TypeError), replacing(path) as part, part.open("w") as file:
        json.dump({"half": object()}, file)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"results.json": "second"}


@pytest.mark.parametrize("sizes", [(None, 10_000), (10_000, None), (10_000, 10_000), (10_000, 20_000)])
def test_shards_of_an_earlier_model_are_not_left(tmp_path, sizes):
    """`None` saves one file; the last model that was saved is the one that is loaded."""
    for seed, size in enumerate(sizes):
        torch.manual_seed(seed)
        model = BertForSequenceClassification(tiny_bert_config(num_hidden_layers=1))
        options = {} if size is None else {"max_shard_size": size}
        model.save_pretrained(tmp_path / "staging", **options)
        saved = {path.name for path in (tmp_path / "staging").iterdir()}
        (tmp_path / "model").mkdir(exist_ok=True)
        move_files(tmp_path / "staging", tmp_path / "model")
        shutil.rmtree(tmp_path / "staging")
        assert {path.name for path in (tmp_path / "model").iterdir()} == saved
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in model.state_dict().items())


def test_one_run_at_a_time(tmp_path):
    with run_lock(tmp_path / "run"):
        with pytest.raises(OSError, match=r"another run is training in .*give this run another output_dir"):
            run_lock(tmp_path / "run").__enter__()
        with run_lock(tmp_path / "other"):
            pass
    with run_lock(tmp_path / "run"):
        pass


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
    before = {name: weight.clone() for name, weight in trainer.model.state_dict().items()}
    with pytest.raises(ValueError, match=r"scheduler\.pt is missing") as refused:
        trainer.train(resume_from_checkpoint=str(run / "checkpoint-4"))
    assert f"whole checkpoint before it is {run / 'checkpoint-2'}." in str(refused.value)
    assert all(torch.equal(weight, before[name]) for name, weight in trainer.model.state_dict().items())

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
    assert find_damage(run / "checkpoint-2").startswith("its save was cut short")

    shutil.rmtree(run / "checkpoint-6")
    shutil.rmtree(run / "checkpoint-4")
    trainer = make_trainer(pretrained, run, max_steps=3)
    with caplog.at_level(logging.WARNING, logger="ftp_hf"):
        assert resume(trainer, True) == 2
    assert "the earlier one is back" in caplog.text


def test_a_model_is_replaced_only_by_a_whole_one(pretrained, tmp_path):
    class FullDisk(FTPTrainer):
        def _save(self, output_dir=None, state_dict=None):
            super()._save(output_dir, state_dict)
            cut(Path(output_dir) / "model.safetensors")
            raise OSError("No space left on device")

    trainer = make_trainer(pretrained, tmp_path, save_strategy="no")
    trainer.save_model()
    saved = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(saved) == {"config.json", "model.safetensors", "training_args.bin"}
    with pytest.raises(OSError, match="No space left"):
        make_trainer(pretrained, tmp_path, FullDisk).save_model()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == saved

    trainer.model.classifier.bias.data += 1
    (tmp_path / "earlier").hardlink_to(tmp_path / "model.safetensors")
    trainer.save_model(str(tmp_path))
    assert (tmp_path / "earlier").read_bytes() == saved["model.safetensors"], "written over, not replaced"
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert torch.equal(loaded.classifier.bias, trainer.model.classifier.bias)


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
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, resumed.model.state_dict()[name]), name
