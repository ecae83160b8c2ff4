"""Where anchors come from, and what is said when they do not fit."""

import copy
import logging
import weakref

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    ASTConfig,
    ASTForAudioClassification,
    ASTModel,
    BertForSequenceClassification,
    BertModel,
    CLIPConfig,
    CLIPModel,
    GPT2LMHeadModel,
    ViTForImageClassification,
)

from ftp_hf import FTP, FTPSGD, FTPAdamW
from ftp_hf.common.names import canonical_name
from ftp_hf.distance import model_distance
from ftp_hf.pretrained import anchors, new_parameters
from ftp_hf.pretrained.anchors import CheckpointAnchors, open_anchors
from tests.support.equal import assert_equal, weights
from tests.support.models import SIZES, tiny_bert_config, tiny_gpt2_config, tiny_vit_config
from tests.support.problems import clone, make_gradients, make_parameters, train, values


def bert(**options):
    return BertForSequenceClassification(tiny_bert_config(**options))


def nudge(model):
    """Fine-tune: no parameter keeps its pre-trained value."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)


def step(optimizer, model):
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()


MAKE = {
    "FTPAdamW": FTPAdamW,
    "FTPSGD": FTPSGD,
    "FTP": lambda params, **ours: FTP(torch.optim.AdamW(params), **ours),
}
every_class = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)


@every_class
def test_by_default_a_parameters_value_just_before_its_first_step(make):
    parameters = make_parameters()
    optimizer = make(parameters.items())
    with torch.no_grad():  # loaded after the optimizer was built
        for parameter in parameters.values():
            parameter.add_(1.0)
    first = values(parameters)
    gradients = make_gradients(parameters, 6)
    train(
        optimizer,
        parameters,
        [{name: g for name, g in gradient.items() if name != "scale"} for gradient in gradients[:3]],
    )
    assert "scale" not in optimizer.anchors()
    with torch.no_grad():
        parameters["scale"].add_(1.0)
    train(optimizer, parameters, gradients[3:])
    for name, anchor in optimizer.anchors().items():
        assert np.array_equal(anchor, first[name] + (name == "scale"))


@every_class
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_mapping_is_copied_in_the_parameters_precision(make, dtype):
    parameters = make_parameters(torch.float32)
    given = {f"module.{name}": (parameter.detach() + 0.5).to(dtype) for name, parameter in parameters.items()}
    optimizer = make(parameters.items(), anchors=given)
    train(optimizer, parameters, make_gradients(parameters, 3))
    for name, anchor in optimizer.anchors().items():
        assert anchor.dtype == torch.float32
        assert torch.equal(anchor, given[f"module.{name}"].float())
        assert anchor is not given[f"module.{name}"]


@every_class
def test_a_model_away_from_its_anchors_keeps_its_distance_as_the_first_radius(make):
    parameters = make_parameters()
    anchor = clone(parameters)
    with torch.no_grad():
        for parameter in parameters.values():
            parameter.add_(0.25)
    optimizer = make(parameters.items(), anchors=anchor)
    before = values(parameters)
    for parameter in parameters.values():
        parameter.grad = torch.zeros_like(parameter)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    optimizer.step()
    for name, parameter in parameters.items():
        assert np.array_equal(parameter.detach(), before[name])
        row = parameter.numel() / parameter.shape[0] if parameter.ndim > 1 else parameter.numel()
        np.testing.assert_allclose(optimizer.radii()[name], (0.25 * row, 0.25 * row, 0.0), rtol=1e-6)


@every_class
@pytest.mark.parametrize("max_shard_size", ["1GB", "1KB"], ids=["one file", "shards"])
def test_a_folder_written_by_save_pretrained(make, max_shard_size, tmp_path):
    model = bert()
    pretrained = weights(model)
    model.save_pretrained(tmp_path, max_shard_size=max_shard_size)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (max_shard_size == "1KB")
    nudge(model)
    optimizer = make(model.named_parameters(), anchors=tmp_path)
    step(optimizer, model)
    assert_equal(optimizer.anchors(), pretrained)


def test_a_safetensors_file_and_a_path_as_text(tmp_path, monkeypatch):
    model = torch.nn.Linear(3, 2)
    pretrained = weights(model)
    save_file(pretrained, tmp_path / "weights.safetensors")
    nudge(model)
    monkeypatch.chdir(tmp_path)
    optimizer = FTPAdamW(model.named_parameters(), anchors="weights.safetensors")
    monkeypatch.chdir("/")  # before the anchors are read
    step(optimizer, model)
    assert_equal(optimizer.anchors(), pretrained)


def test_a_task_model_finds_its_tensors_in_the_checkpoint_of_the_base_model_and_the_reverse(tmp_path):
    task = bert()
    task.bert.save_pretrained(tmp_path / "base")
    task.save_pretrained(tmp_path / "task")
    pretrained = weights(task)
    base = BertModel(tiny_bert_config())

    optimizer = FTPAdamW(task.named_parameters(), anchors=tmp_path / "base", exclude=["classifier.*"])
    step(optimizer, task)
    assert len(optimizer.anchors()) == len(pretrained) - 2
    for name, anchor in optimizer.anchors().items():
        assert torch.equal(anchor, pretrained[name])

    optimizer = FTPAdamW(base.named_parameters(), anchors=tmp_path / "task")
    step(optimizer, base)
    assert len(optimizer.anchors()) == len(pretrained) - 2
    for name, anchor in optimizer.anchors().items():
        assert torch.equal(anchor, pretrained[f"bert.{name}"])


def test_the_norm_of_a_head_is_not_that_of_the_base_model(tmp_path, caplog):
    config = ASTConfig(**SIZES, patch_size=4, frequency_stride=4, time_stride=4, max_length=8, num_mel_bins=8)
    base = ASTModel(config)
    base.save_pretrained(tmp_path / "as-initialised")
    nudge(base)
    base.save_pretrained(tmp_path / "trained")
    for folder in tmp_path.iterdir():
        model = ASTForAudioClassification.from_pretrained(folder)
        head = {name for name, _ in model.named_parameters() if name.startswith("classifier.")}
        assert "classifier.layernorm.weight" in head
        assert head.isdisjoint(found := CheckpointAnchors(folder, model))
        assert found.keys() > {f"audio_spectrogram_transformer.{name}" for name, _ in base.named_parameters()}
        with caplog.at_level(logging.WARNING, "ftp_hf"):
            for each in (model, copy.deepcopy(model)):
                assert new_parameters(each) == new_parameters(each, found) == head
                assert {*model_distance(each, folder).new} == head
    assert "holds other values" not in caplog.text


def test_a_shortened_name_that_two_tensors_share_is_nobodys(tmp_path):
    save_file({"encoder.weight": torch.zeros(2), "decoder.weight": torch.ones(2)}, tmp_path / "model.safetensors")
    found = CheckpointAnchors(tmp_path)
    assert torch.equal(found["decoder.weight"], torch.ones(2))
    with pytest.raises(KeyError):
        found["weight"]


@pytest.mark.parametrize(
    "model",
    [
        lambda: ViTForImageClassification(tiny_vit_config()),
        lambda: CLIPModel(CLIPConfig(text_config=SIZES, vision_config={**SIZES, "image_size": 8, "patch_size": 4})),
        lambda: GPT2LMHeadModel(tiny_gpt2_config()),
    ],
    ids=["ViT", "CLIP", "GPT-2"],
)
def test_tensors_that_save_pretrained_renames_are_found(model, tmp_path):
    model = model()
    model.save_pretrained(tmp_path)
    found = CheckpointAnchors(tmp_path)
    for name, parameter in model.named_parameters():
        assert torch.equal(found[name], parameter), name


def test_the_old_spelling_of_layer_norms_is_found(tmp_path):
    model = BertModel(tiny_bert_config())
    model.save_pretrained(tmp_path)
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in load_file(tmp_path / "model.safetensors").items()
    }
    save_file(old, tmp_path / "model.safetensors")
    found = CheckpointAnchors(tmp_path)
    for name, parameter in model.named_parameters():
        assert torch.equal(found[f"bert.{name}"], parameter), name


def test_tied_weights_are_found_under_the_name_that_was_saved(tmp_path):
    model = GPT2LMHeadModel(tiny_gpt2_config())
    model.save_pretrained(tmp_path)
    pretrained = weights(model)
    nudge(model)
    optimizer = FTPAdamW(model.named_parameters(), anchors=tmp_path, transposed=["*.c_attn.weight", "*.c_fc.weight"])
    step(optimizer, model)
    assert_equal(optimizer.anchors(), {name: pretrained[name] for name, _ in model.named_parameters()})


@every_class
def test_everything_that_does_not_fit_is_listed_and_the_model_untouched(make, tmp_path):
    model = bert()
    before = weights(model)
    bad = weights(model)
    for name in ("bert.pooler.dense.weight", "classifier.bias"):
        del bad[name]
    bad["classifier.weight"] = torch.zeros(5, 16)
    bad["bert.embeddings.LayerNorm.weight"][1] = torch.nan
    bad["bert.embeddings.LayerNorm.bias"][2] = torch.inf
    save_file(bad, tmp_path / "model.safetensors")
    for given in (bad, tmp_path):
        with pytest.raises(ValueError, match="anchors do not fit the model") as error:
            make(model.named_parameters(), anchors=given)
        message = str(error.value)
        assert "no anchor: bert.pooler.dense.weight, classifier.bias;" in message
        assert "wrong shape: classifier.weight (anchor (5, 16), parameter (2, 16));" in message
        assert "values: bert.embeddings.LayerNorm.weight, bert.embeddings.LayerNorm.bias." in message
        assert_equal(weights(model), before)
        excluded = ["classifier.*", "bert.pooler.dense.weight", "bert.embeddings.LayerNorm.*"]
        make(model.named_parameters(), anchors=given, exclude=excluded)


@every_class
def test_anchors_that_share_memory_with_the_model_do_not_follow_it(make):
    model = bert()
    pretrained = weights(model)
    optimizer = make(model.named_parameters(), anchors=model.state_dict())
    nudge(model)
    step(optimizer, model)
    assert_equal(optimizer.anchors(), pretrained)


@every_class
def test_anchors_need_names(make):
    parameter = torch.nn.Parameter(torch.zeros(2))
    with pytest.raises(ValueError, match=r"anchors= needs parameter names: pass model\.named_parameters"):
        make([parameter], anchors={"a": torch.zeros(2)})


@every_class
@pytest.mark.parametrize("content", ["nothing", "pytorch_model.bin", "a text file"])
def test_a_path_without_safetensors_weights(make, content, tmp_path):
    path = tmp_path / "checkpoint"
    if content == "a text file":
        path.write_text("no weights")
    else:
        path.mkdir()
        (path / content).touch()
    with pytest.raises(FileNotFoundError, match=r"checkpoint' holds no safetensors weights.*save_pretrained"):
        make([("a", torch.nn.Parameter(torch.zeros(2)))], anchors=path)


@pytest.mark.parametrize("content", [b"", b"nonsense", "cut"])
def test_a_damaged_file_of_weights_is_named(content, tmp_path):
    file = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(2)}, file)
    file.write_bytes(file.read_bytes()[:-1] if content == "cut" else content)
    with pytest.raises(ValueError, match=rf"^{file} is cut short or damaged \(.+\): save or download it again"):
        CheckpointAnchors(tmp_path)


@every_class
def test_anchors_of_another_type(make):
    with pytest.raises(TypeError, match=r"anchors must be a mapping from name to tensor or the path.*got list"):
        make([("a", torch.nn.Parameter(torch.zeros(2)))], anchors=[torch.zeros(2)])


def test_tensors_are_read_one_at_a_time(monkeypatch, tmp_path):
    model = bert()
    model.save_pretrained(tmp_path, max_shard_size="1KB")
    read, alive, largest = [], 0, 0
    safe_open = anchors.safe_open

    class Spy:
        def __init__(self, *args, **kwargs):
            self.file = safe_open(*args, **kwargs)

        def __enter__(self):
            self.file.__enter__()
            return self

        def __exit__(self, *error):
            return self.file.__exit__(*error)

        def keys(self):
            return self.file.keys()

        def get_tensor(self, name):
            nonlocal alive, largest
            read.append(name)
            tensor = self.file.get_tensor(name)
            alive += 1
            largest = max(largest, alive)
            weakref.finalize(tensor, release)
            return tensor

    def release():
        nonlocal alive
        alive -= 1

    monkeypatch.setattr(anchors, "safe_open", Spy)
    optimizer = FTPAdamW(model.named_parameters(), anchors=tmp_path)
    names = [name for name, _ in model.named_parameters()]
    assert read == names
    step(optimizer, model)
    assert read == names * 2
    # The loop variable of the check still holds one tensor while the next is read.
    assert largest <= 2


def test_an_opened_checkpoint_stays_closed_until_it_is_asked(tmp_path):
    save_file({"base.weight": torch.ones(2)}, tmp_path / "model.safetensors")
    found = CheckpointAnchors(tmp_path)
    assert open_anchors(found) is found
    assert (list(found), len(found)) == (["base.weight"], 1)
    assert torch.equal(found["weight"], torch.ones(2))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bert.pooler.weight", "bert.pooler.weight"),
        ("module.bert.pooler.weight", "bert.pooler.weight"),
        ("_orig_mod.module.bert.pooler.weight", "bert.pooler.weight"),
        ("module._orig_mod.bert.layer._orig_mod.weight", "bert.layer.weight"),
        ("bert.module.weight", "bert.module.weight"),
    ],
)
def test_canonical_name(name, expected):
    assert canonical_name(name) == expected
