"""Models of sentence-transformers on the Hub: with their modules, and with no others."""

import json
import shutil

import numpy as np
import pytest
import torch
from huggingface_hub import HfApi

from ftp_hf.hub import push_run
from ftp_hf.hub.files import list_run_files
from tests.support.hub.models import make_text_base, text
from tests.support.hub.runs import hashes, pushed

sentence_transformers = pytest.importorskip("sentence_transformers")
models = pytest.importorskip("sentence_transformers.models")


def save_encoder(folder, *modules):
    """With pooling that is not what sentence-transformers takes without being told."""
    torch.manual_seed(0)
    body = models.Transformer(str(make_text_base(folder.with_name("base"))), max_seq_length=5)
    encoder = sentence_transformers.SentenceTransformer(
        modules=[body, models.Pooling(16, pooling_mode="cls"), *modules], prompts={"query": "a poor "}, device="cpu"
    )
    encoder.save_pretrained(str(folder))
    return encoder


def with_dense(folder):
    return save_encoder(folder, models.Dense(16, 8), models.Normalize())


def test_what_is_pushed_gives_the_same_embeddings(tmp_path):
    encoder = with_dense(tmp_path / "run")
    for name in list_run_files(tmp_path / "run"):
        (tmp_path / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tmp_path / "run" / name, tmp_path / "copy" / name)
    loaded = sentence_transformers.SentenceTransformer(str(tmp_path / "copy"), device="cpu")
    assert [type(module) for module in loaded] == [type(module) for module in encoder]
    assert loaded.max_seq_length == 5
    for prompt in (None, "query"):
        assert np.array_equal(loaded.encode(text(), prompt_name=prompt), encoder.encode(text(), prompt_name=prompt))


def test_the_next_run_replaces_the_modules_but_not_what_people_added(hub, tmp_path):
    run = tmp_path / "run"
    with_dense(run)
    push_run(run, "me/model")
    assert {"modules.json", "1_Pooling/config.json", "2_Dense/model.safetensors"} <= pushed(hub).keys()
    HfApi().upload_file(repo_id="me/model", path_in_repo="onnx/config.json", path_or_fileobj=b"{}")

    save_encoder(run)  # the folder of the other model's Dense stays here
    push_run(run, "me/model")
    assert {name for name in pushed(hub) if "/" in name} == {"1_Pooling/config.json", "onnx/config.json"}
    assert pushed(hub)["modules.json"] == hashes(run)["modules.json"]


@pytest.mark.parametrize("path", ["../other", "2_Dense/../../other", "{folder}/other", "2_Link", "3_Absent"])
def test_modules_that_are_not_in_the_folder_are_refused(hub, run, path):
    other = run.parent / "other"
    other.mkdir()
    (other / "config.json").write_text("{}")
    (run / "2_Dense").mkdir()
    (run / "2_Link").symlink_to(other, target_is_directory=True)
    modules = [{"name": "0", "path": ""}, {"name": "1", "path": path.format(folder=run.parent)}]
    (run / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ValueError, match=r"is not whole: modules\.json names .*, which is no folder in it: save it"):
        push_run(run, "me/model")
    assert not hub.faults.requests
