"""Checkpoints of sentence-transformers: a list of modules, each with a folder of its own."""

import json
import shutil

import torch
from huggingface_hub.utils import filter_repo_objects
from safetensors.torch import save_file
from torch import nn
from transformers import BertModel

from ftp_hf import FTPAdamW
from ftp_hf.pretrained import origin
from ftp_hf.pretrained.anchors import CheckpointAnchors
from ftp_hf.pretrained.origin import local_checkpoint
from tests.support.models import tiny_bert_config


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = BertModel(tiny_bert_config())


class Dense(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(16, 8)


def saved(folder, body=""):
    model = nn.Sequential(Transformer(), nn.Identity(), Dense(), Dense())
    model[0].model.save_pretrained(folder / body)
    modules = [body, "1_Pooling", "2_Dense", "3_Dense"]
    for number in (2, 3):
        (folder / modules[number]).mkdir()
        save_file(model[number].state_dict(), folder / modules[number] / "model.safetensors")
    listed = [{"idx": number, "name": str(number), "path": path} for number, path in enumerate(modules)]
    (folder / "modules.json").write_text(json.dumps(listed))
    return model


def test_modules_with_tensors_of_one_name_are_told_apart(tmp_path):
    for body in ("", "0_Transformer"):
        folder = tmp_path / f"saved{body}"
        model = saved(folder, body)
        found = CheckpointAnchors(folder, model)
        for name, parameter in model.named_parameters():
            assert torch.equal(found[name], parameter), name
            assert found.shape(name) == parameter.shape
        FTPAdamW(model.named_parameters(), anchors=found)


def test_the_folder_is_that_of_a_bare_model_too(tmp_path):
    model = saved(tmp_path)[0].model
    for given in (model, None):
        found = CheckpointAnchors(tmp_path, given)
        assert all(torch.equal(found[name], parameter) for name, parameter in model.named_parameters())


def test_the_folders_of_the_modules_are_fetched_from_the_hub(monkeypatch, tmp_path):
    model = saved(tmp_path / "hub", "0_Transformer")
    (tmp_path / "hub" / "onnx").mkdir()
    (tmp_path / "hub" / "onnx" / "model.safetensors").touch()

    def fetch(name, allow_patterns):
        files = [str(path.relative_to(tmp_path / name)) for path in (tmp_path / name).rglob("*") if path.is_file()]
        for file in filter_repo_objects(files, allow_patterns=allow_patterns):
            (tmp_path / "fetched" / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(tmp_path / name / file, tmp_path / "fetched" / file)
        return str(tmp_path / "fetched")

    monkeypatch.setattr(origin, "snapshot_download", fetch)
    found = CheckpointAnchors(local_checkpoint("hub"), model)
    for name, parameter in model.named_parameters():
        assert torch.equal(found[name], parameter), name
    assert not (tmp_path / "fetched" / "onnx").exists()
