"""Checkpoints of sentence-transformers: a list of modules, each with a folder of its own."""

import copy
import json
import shutil
from pathlib import Path

import torch
from huggingface_hub.utils import filter_repo_objects
from safetensors.torch import save_file
from torch import nn
from transformers import BertModel

from ftp_hf import FTPAdamW
from ftp_hf.pretrained import origin
from ftp_hf.pretrained.anchors import CheckpointAnchors
from ftp_hf.pretrained.origin import local_checkpoint, new_parameters
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


def fetched_to(target):
    """`snapshot_download` of a folder that is named after `hub:`."""

    def fetch(name, allow_patterns):
        source = Path(name.removeprefix("hub:"))
        files = [path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()]
        for file in filter_repo_objects(files, allow_patterns=allow_patterns):
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / file, target / file)
        return str(target)

    return fetch


def test_modules_with_tensors_of_one_name_are_told_apart(tmp_path):
    for body in ("", "0_Transformer"):
        folder = tmp_path / f"saved{body}"
        model = saved(folder, body)
        found = CheckpointAnchors(folder, model)
        for name, parameter in model.named_parameters():
            assert torch.equal(found[name], parameter), name
            assert found.shape(name) == parameter.shape
        FTPAdamW(model.named_parameters(), anchors=found)


class Router(nn.Module):
    def __init__(self):
        super().__init__()
        routes = {"query": nn.Sequential(Dense()), "document": nn.Sequential(Transformer(), Dense())}
        self.sub_modules = nn.ModuleDict(routes)


def saved_router(folder, path=""):
    model = nn.Sequential(Router(), nn.Identity())
    listed = [{"idx": 0, "name": "0", "path": path}, {"idx": 1, "name": "1", "path": "1_Pooling"}]
    structure = {"query": ["query_0_Dense"], "document": ["document_0_Transformer", "document_1_Dense"]}
    for route, names in structure.items():
        for module, name in zip(model[0].sub_modules[route], names, strict=True):
            if isinstance(module, Transformer):
                module.model.save_pretrained(folder / path / name)
            else:
                (folder / path / name).mkdir(parents=True)
                save_file(module.state_dict(), folder / path / name / "model.safetensors")
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / path / "router_config.json").write_text(json.dumps({"structure": structure}))
    return model


def test_those_of_a_router_lie_a_level_below(monkeypatch, tmp_path):
    for path in ("", "0_Router"):
        folder = tmp_path / f"saved{path}"
        model = saved_router(folder, path)
        monkeypatch.setattr(origin, "snapshot_download", fetched_to(tmp_path / f"fetched{path}"))
        for found in (CheckpointAnchors(folder, model), CheckpointAnchors(local_checkpoint(f"hub:{folder}"), model)):
            for name, parameter in model.named_parameters():
                assert torch.equal(found[name], parameter), name
            FTPAdamW(model.named_parameters(), anchors=found)


def loaded(folder, like):
    """As sentence-transformers loads: by `from_pretrained` what is of transformers, and the rest without a mark."""
    model = copy.deepcopy(like)
    for part in [part for part in model.modules() if isinstance(part, Transformer)]:
        part.model = BertModel.from_pretrained(folder)
    return model


def test_a_model_that_cannot_tell_what_is_new_is_said_once(caplog):
    for _ in range(2):
        assert new_parameters(Dense()) == set()
    assert [record.getMessage().partition(",")[0] for record in caplog.records] == [
        "Nothing tells which parameters of this Dense are new"
    ]
    assert all(option in caplog.text for option in ("exclude,", "ftp_exclude ", " new="))


def test_modules_outside_transformers_that_the_checkpoint_holds_are_not_new(tmp_path):
    model = loaded(tmp_path, saved(tmp_path))
    assert new_parameters(model) == set()
    model[3].linear = nn.Linear(16, 5)
    assert new_parameters(model) == {"3.linear.weight", "3.linear.bias"}
    model.append(Dense())
    assert new_parameters(model) == {f"{number}.linear.{kind}" for number in (3, 4) for kind in ("weight", "bias")}


def test_those_of_a_checkpoint_that_is_no_list_of_modules_are(tmp_path):
    like = saved(tmp_path)
    (tmp_path / "modules.json").unlink()
    assert new_parameters(loaded(tmp_path, like)) == {
        f"{number}.linear.{kind}" for number in (2, 3) for kind in ("weight", "bias")
    }


def test_the_folder_is_that_of_a_bare_model_too(tmp_path):
    model = saved(tmp_path)[0].model
    for given in (model, None):
        found = CheckpointAnchors(tmp_path, given)
        assert all(torch.equal(found[name], parameter) for name, parameter in model.named_parameters())


def test_the_folders_of_the_modules_are_fetched_from_the_hub(monkeypatch, tmp_path):
    model = saved(tmp_path / "hub", "0_Transformer")
    (tmp_path / "hub" / "onnx").mkdir()
    (tmp_path / "hub" / "onnx" / "model.safetensors").touch()

    monkeypatch.setattr(origin, "snapshot_download", fetched_to(tmp_path / "fetched"))
    found = CheckpointAnchors(local_checkpoint(f"hub:{tmp_path / 'hub'}"), model)
    for name, parameter in model.named_parameters():
        assert torch.equal(found[name], parameter), name
    assert not (tmp_path / "fetched" / "onnx").exists()
