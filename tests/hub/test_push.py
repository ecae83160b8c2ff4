import json
import re
from itertools import pairwise

import pytest
from huggingface_hub import HfApi

from ftp_hf.common.privacy import secrets_of_environment
from ftp_hf.hub import HubError, history, push_run, rollback
from tests.support.hub.runs import PUSHED, TOKENS, hashes, pushed, titles, write_results, write_run


def test_push_is_one_commit_of_the_listed_files_and_a_tag(hub, run):
    before = hashes(run)
    version = push_run(run, "me/model")
    assert (version.tag, version.repo_id, version.title) == ("v1", "me/model", "Fine-tuned for 20 steps")
    assert pushed(hub) == {name: before[name] for name in PUSHED}
    assert titles(hub) == [version.title]
    assert hub.store.get("me/model").refs("tags") == {"v1": version.commit}
    assert hashes(run) == before


def test_results_give_the_title(hub, run):
    write_results(run)
    assert push_run(run, "me/model").title == "ID 97.4, OOD mean 93.7"
    assert "results.json" in pushed(hub)


def test_a_model_that_breaks_a_rule_is_not_pushed(hub, run):
    write_results(run)
    rules = ["id/test >= 0.97", "ood/blur >= 0.95", "forgetting <= 0.05"]
    with pytest.raises(
        ValueError, match=r"breaks ood/blur >= 0.95 \(it is 0.937, against 0.95\); forgetting"
    ) as refused:
        push_run(run, "me/model", rules=rules)
    assert "id/test" not in str(refused.value)
    with pytest.raises(ValueError, match="is not understood"):
        push_run(run, "me/model", rules=["id/test = 1"])
    assert not hub.faults.requests
    assert push_run(run, "me/model", rules=rules[:1]).tag == "v1"


def test_rules_need_results(hub, run):
    with pytest.raises(FileNotFoundError, match=r"results\.json does not exist"):
        push_run(run, "me/model", rules=["id/test >= 0"])
    assert not hub.faults.requests


def test_results_of_something_else_do_not(hub, run):
    (run / "results.json").write_text('{"loss": 1}')
    (run / "trainer_state.json").unlink()
    push_run(run, "me/model")
    assert titles(hub) == ["Fine-tuned"]


def test_same_run_again_is_the_same_version(hub, run):
    first = push_run(run, "me/model")
    assert push_run(run, "me/model") == first
    assert titles(hub) == [first.title]


def test_next_run_replaces_the_model_but_not_what_people_added(hub, run):
    for name in ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"):
        (run / name).write_bytes(b"shard" * 50)
    (run / "model.safetensors").unlink()
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (run / "model.safetensors.index.json").write_text(json.dumps(index))
    push_run(run, "me/model")
    HfApi().upload_file(repo_id="me/model", path_in_repo="LICENSE", path_or_fileobj=b"MIT")

    other = write_run(run.parent / "other", seed=1)
    assert push_run(other, "me/model").tag == "v2"
    assert pushed(hub).keys() == PUSHED | {"LICENSE"}


def test_run_without_a_card_keeps_the_card(hub, run):
    push_run(run, "me/model")
    (run / "README.md").unlink()
    (run / "config.json").write_text("{}")
    push_run(run, "me/model")
    assert "README.md" in pushed(hub)
    assert "pictures/logs.svg" in pushed(hub)


def test_private_repository(hub, run):
    push_run(run, "me/model", private=True)
    assert hub.store.get("me/model").private
    with pytest.raises(HubError, match=r"401.*HF_TOKEN"):
        history("me/model", token=TOKENS["unknown"])


def test_private_is_not_pushed_to_what_is_public(hub, run):
    HfApi().create_repo("me/model")
    with pytest.raises(HubError, match="me/model exists and is public"):
        push_run(run, "me/model", private=True)
    assert pushed(hub) == {}


def test_branch(hub, run):
    version = push_run(run, "me/model", revision="trial/1")
    assert pushed(hub) == {}
    assert pushed(hub, revision="trial/1").keys() == PUSHED
    assert [(listed.tag, listed.commit) for listed in history("me/model")] == [("v1", version.commit)]
    rollback("me/model", "main", revision="trial/1")
    assert pushed(hub, revision="trial/1") == {}


@pytest.mark.usefixtures("hub")
def test_name_without_namespace(run):
    assert push_run(run, "model").repo_id == "me/model"


def test_rollback_and_history(hub, run):
    first, second = hashes(run), write_run(run.parent / "second", seed=1)
    (second / "vocab.txt").write_text("only here")
    (second / "radii.png").unlink()
    push_run(run, "me/model")
    push_run(second, "me/model")
    assert pushed(hub)["vocab.txt"]
    assert "radii.png" not in pushed(hub)

    version = rollback("me/model", "v1")
    assert (version.tag, version.title) == ("v3", "Roll back to v1: Fine-tuned for 20 steps")
    assert pushed(hub) == {name: first[name] for name in PUSHED}
    assert pushed(hub, revision="v2")["vocab.txt"], "nothing is lost"
    assert rollback("me/model", "v3").tag == "v3", "it is there already"
    assert rollback("me/model", "v2").title == "Roll back to v2: Fine-tuned for 21 steps"
    assert rollback("me/model", "v3").title == "Roll back to v3: Fine-tuned for 20 steps"

    listed = history("me/model")
    assert [entry.tag for entry in listed] == ["v1", "v2", "v3", "v4", "v5"]
    assert [entry.title for entry in listed] == titles(hub)
    assert all(earlier.date < later.date for earlier, later in pairwise(listed))


@pytest.mark.usefixtures("hub")
def test_rollback_to_what_is_not_there(run):
    push_run(run, "me/model")
    with pytest.raises(HubError, match="has no version v7: its versions are v1"):
        rollback("me/model", "v7")
    with pytest.raises(HubError, match=r"404.*no such branch, tag or commit"):
        rollback("me/model", "nowhere")


@pytest.mark.usefixtures("hub")
def test_history_is_in_the_order_of_numbers(run):
    push_run(run, "me/model")
    for number in (10, 2, 9):
        HfApi().create_tag("me/model", tag=f"v{number}")
    HfApi().create_tag("me/model", tag="v1-beta")
    assert [version.tag for version in history("me/model")] == ["v1", "v2", "v9", "v10"]
    (run / "config.json").write_text("{}")
    assert push_run(run, "me/model").tag == "v11"


@pytest.mark.usefixtures("hub")
def test_history_of_nothing():
    HfApi().create_repo("me/empty")
    assert history("me/empty") == []
    with pytest.raises(HubError, match=r"me/absent.*404.*does not exist"):
        history("me/absent")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("README.md", f"use {TOKENS['unknown']}"),
        ("model.safetensors", f"\0\1 token={TOKENS['writer']}\0"),
        ("config.json", '{"key": "wandb-0123456789"}'),
    ],
)
def test_secrets_are_refused_and_not_shown(hub, run, monkeypatch, name, content):
    monkeypatch.setenv("WANDB_API_KEY", "wandb-0123456789")
    (run / name).write_text(content)
    with pytest.raises(ValueError, match=f"{name} holds (the value of|a token)") as refused:
        push_run(run, "me/model")
    assert not re.search("hf_www|hf_uuu|0123456789", str(refused.value))
    assert not hub.faults.requests


@pytest.mark.parametrize("name", ["README.md", "config.json", "tokenizer_config.json"])
def test_paths_of_this_machine_are_refused(hub, run, name):
    (run / name).write_text(json.dumps({"name_or_path": str(run / "checkpoint-20")}))
    with pytest.raises(ValueError, match=f"{name} names .*checkpoint-20'.*Hub name"):
        push_run(run, "me/model")
    assert not hub.faults.requests


@pytest.mark.usefixtures("hub")
def test_other_slashes_are_not_paths(run):
    text = "10/100 and/or https://huggingface.co/tmp/x ./tmp/a /usr/bin/env /no/such/file"
    (run / "README.md").write_text(text)
    assert push_run(run, "me/model").tag == "v1"


def test_secrets_of_environment():
    environment = {"TOKENIZERS_PARALLELISM": "false", "HF_TOKEN": "hf_1234567890", "PATH": "/usr/bin:/usr/local/bin"}
    assert secrets_of_environment(environment) == {"HF_TOKEN": "hf_1234567890"}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda run: (run / "model.safetensors").unlink(), "holds no finished model"),
        (lambda run: (run / "config.json").unlink(), "holds no finished model"),
        (
            lambda run: (run / "model.safetensors.index.json").write_text(
                '{"weight_map": {"a": "model-1.safetensors"}}'
            ),
            "names model-1.safetensors: save it again",
        ),
    ],
)
def test_unfinished_runs_are_refused(hub, run, spoil, message):
    spoil(run)
    with pytest.raises(ValueError, match=message):
        push_run(run, "me/model")
    assert not hub.faults.requests


def test_folder_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="is not a folder"):
        push_run(tmp_path / "absent", "me/model")
