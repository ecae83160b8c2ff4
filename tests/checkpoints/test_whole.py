"""Checkpoints are whole, or what they lack is said."""

import json
import shutil
from pathlib import Path

import pytest

from ftp_hf.checkpoints.whole import (
    begin_checkpoint,
    find_damage,
    finish_checkpoint,
    has_optimizer_state,
    list_checkpoints,
    newest_whole,
    restore_replaced,
)
from ftp_hf.common.folder import MANIFEST
from tests.support.damage import cut, flip_byte

MARKER = "checkpoint-is-incomplete.txt"


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
