"""Push, load in a process of its own without ftp_hf, and get the same logits, bit for bit."""

import re
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi

from ftp_hf import FTPTrainer
from ftp_hf.hub import push_run
from tests.support.hub.models import image, make_text_base, text, text_model, vision_model
from tests.support.hub.runs import hashes, pushed
from tests.support.trainers import arguments

LOADER = Path(__file__).parents[1] / "support" / "hub" / "load_fresh.py"
RUN_ONLY = {"training_args.bin", "trainer_state.json", "checkpoint-2", "runs"}


def finetune(output, model, processor, data, **options):
    args = arguments(output, max_steps=2, save_strategy="steps", save_steps=2, learning_rate=1e-2, **options)
    trainer = FTPTrainer(model, args, train_dataset=data, processing_class=processor)
    trainer.train()
    trainer.save_model()
    trainer.save_state()
    trainer.create_model_card()
    return trainer


def logits(model, inputs):
    with torch.no_grad():
        return model.eval()(**inputs).logits


def check_loaded_elsewhere(python, kind, expected, output):
    loaded = python(LOADER, kind, "me/model", output, user=None if kind == "vision" else "writer")
    assert loaded.returncode == 0, loaded.stderr
    result = torch.load(output)
    assert torch.equal(result["logits"], expected)
    # An adapter's labels have the names that the base model gives them, which gives none.
    names = ["LABEL_0", "LABEL_1"] if kind == "adapter" else ["bad", "good"]
    assert result["label"] == names[int(expected.argmax())]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["text", "vision"])
def test_dense_model(hub, python, tmp_path, kind):
    if kind == "text":
        model, processor, data = text_model(make_text_base(tmp_path / "base"))
        inputs = processor(text(), return_tensors="pt")
    else:
        model, processor, data = vision_model()
        inputs = processor(image(), return_tensors="pt")
    run = tmp_path / "run"
    finetune(run, model, processor, data)
    before = hashes(run)
    push_run(run, "me/model", private=kind == "text")
    assert hashes(run) == before
    assert pushed(hub).keys() >= {"config.json", "model.safetensors", "README.md", "results.json", "radii.png"}
    assert not any(name.split("/")[0] in RUN_ONLY for name in pushed(hub))
    check_loaded_elsewhere(python, kind, logits(model, inputs), tmp_path / "loaded.pt")


@pytest.mark.slow
def test_adapter(hub, python, tmp_path):
    peft = pytest.importorskip("peft")
    base = make_text_base(tmp_path / "base")
    HfApi().create_repo("me/base")
    HfApi().upload_folder(repo_id="me/base", folder_path=base)
    model, processor, data = text_model(base)
    model.name_or_path = "me/base"  # as if it had been loaded from there
    lora = peft.LoraConfig(
        peft.TaskType.SEQ_CLS, r=2, target_modules=["query", "value"], modules_to_save=["classifier"]
    )
    model = peft.get_peft_model(model, lora)
    run = tmp_path / "run"
    finetune(run, model, processor, data, ftp_exclude_new=False, hub_model_id="me/model")
    push_run(run, "me/model")
    assert "adapter_model.safetensors" in pushed(hub)
    assert "model.safetensors" not in pushed(hub)
    check_loaded_elsewhere(
        python, "adapter", logits(model, processor(text(), return_tensors="pt")), tmp_path / "loaded.pt"
    )
    snippet = tmp_path / "snippet.py"
    snippet.write_text(re.search(r"```python\n(.*?)```", (run / "README.md").read_text(), re.DOTALL)[1])
    ran = python(snippet)
    assert ran.returncode == 0, ran.stderr
    assert "not supported" not in ran.stderr
    assert re.search(r"'label': '(bad|good)'", ran.stdout)


def test_adapter_of_a_local_base_is_refused(tmp_path, hub):
    peft = pytest.importorskip("peft")
    base = make_text_base(tmp_path / "base")
    model, processor, _ = text_model(base)
    model = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["query"]))
    model.save_pretrained(tmp_path / "run")
    processor.save_pretrained(tmp_path / "run")
    (tmp_path / "run" / "README.md").unlink()
    with pytest.raises(ValueError, match=r"adapter_config.json names '.*base', a path of this machine.*Hub name"):
        push_run(tmp_path / "run", "me/model")
    assert not hub.store.ids()
