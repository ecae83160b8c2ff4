import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, BertForSequenceClassification, BertModel

from ftp_hf.common.files import move_files, replacing
from tests.support.equal import assert_equal
from tests.support.models import tiny_bert_config
from tests.support.trainers import load


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
    assert_equal(loaded, model.state_dict())


def save(kind, folder, base):
    """A whole model, or an adapter of the one in `base`, in `folder`; what it answers."""
    model = load(base)
    if kind == "adapter":
        peft = pytest.importorskip("peft")
        model = peft.get_peft_model(model, peft.LoraConfig("SEQ_CLS", r=2, target_modules=["query", "value"]))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if kind == "whole" or "lora_B" in name:
                parameter.add_(torch.randn_like(parameter) / 10)
    model.save_pretrained(folder)
    return answer(model)


def answer(model):
    with torch.no_grad():
        return model.eval()(torch.tensor([[5, 6, 7]])).logits


def loaded_answer(folder):
    torch.manual_seed(1)  # of the head, which the adapter's base has none of
    return answer(AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2))


class CrashError(OSError):
    pass


def crash_at(step, monkeypatch):
    """Nothing is moved or removed any more from the `step`-th time on."""
    left = iter(range(step))
    for name in ("replace", "unlink"):
        change = getattr(Path, name)

        def changed(path, *args, change=change, **options):
            if next(left, None) is None:
                raise CrashError
            return change(path, *args, **options)

        monkeypatch.setattr(Path, name, changed)


@pytest.mark.parametrize("kinds", [("adapter", "whole"), ("whole", "adapter")], ids=" then ".join)
def test_adapter_and_whole_model_replace_one_another(pretrained, tmp_path, kinds):
    for kind in kinds:
        expected = save(kind, tmp_path / "staging", pretrained)
        saved = {path.name for path in (tmp_path / "staging").iterdir()}
        (tmp_path / "model").mkdir(exist_ok=True)
        move_files(tmp_path / "staging", tmp_path / "model")
        shutil.rmtree(tmp_path / "staging")
    weights = {
        "adapter": {"adapter_config.json", "adapter_model.safetensors"},
        "whole": {"config.json", "model.safetensors"},
    }
    found = {path.name for path in (tmp_path / "model").iterdir()}
    assert saved <= found
    assert found.isdisjoint(weights[kinds[0]])
    assert torch.equal(loaded_answer(tmp_path / "model"), expected)


@pytest.mark.parametrize("kinds", [("adapter", "whole"), ("whole", "adapter")], ids=" then ".join)
def test_a_crash_between_the_two_leaves_one_of_them_or_none(pretrained, tmp_path, kinds):
    earlier, later = (save(kind, tmp_path / kind, pretrained) for kind in kinds)
    outcomes = []
    while not outcomes or outcomes[-1] != "done":
        source, target = (
            shutil.copytree(tmp_path / kind, tmp_path / f"{kind}-{len(outcomes)}") for kind in reversed(kinds)
        )
        with pytest.MonkeyPatch.context() as monkeypatch:
            crash_at(len(outcomes), monkeypatch)
            try:
                move_files(source, target)
                outcomes.append("done")
            except CrashError:
                outcomes.append("crashed")
        try:
            found = loaded_answer(target)
        except (OSError, ValueError):
            assert outcomes[-1] == "crashed"
            continue
        assert torch.equal(found, earlier) or torch.equal(found, later)
    assert torch.equal(found, later)
    assert len(outcomes) > 3


def test_an_adapter_beside_its_own_base_model_leaves_it(tmp_path):
    run = tmp_path / "model"
    BertModel(tiny_bert_config(num_hidden_layers=1)).save_pretrained(run)
    whole = {path.name: path.read_bytes() for path in run.iterdir()}
    expected = save("adapter", tmp_path / "staging", run)
    move_files(tmp_path / "staging", run)
    assert whole.items() <= {path.name: path.read_bytes() for path in run.iterdir()}.items()
    assert torch.equal(loaded_answer(run), expected)
