"""What `Trainer` itself pushes, with FTPTrainer."""

import io

import huggingface_hub.constants
import pytest
import torch
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from ftp_hf import FTPTrainer, FTPTrainingArguments
from ftp_hf.hub import push_run
from tests.support.hub.faults import answer, drop
from tests.support.hub.models import make_text_base, text_model
from tests.support.hub.runs import TOKENS, hashes, pushed, titles
from tests.support.trainers import arguments

MODEL = {
    "README.md",
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "training_args.bin",
}
RESUMABLE = {"optimizer.pt", "scheduler.pt", "trainer_state.json", "training_args.bin", "checksums.json"}


@pytest.fixture
def make_trainer(hub, tmp_path, monkeypatch):  # noqa: ARG001 - before the environment is changed
    # The token comes from the arguments alone here, so that nothing else can hide it.
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    model, tokenizer, data = text_model(make_text_base(tmp_path / "base"))

    def make(output_dir=tmp_path / "run", **options):
        args = arguments(
            output_dir,
            max_steps=4,
            save_strategy="steps",
            save_steps=2,
            eval_steps=2,
            eval_strategy="steps",
            load_best_model_at_end=True,
            learning_rate=1e-2,
            hub_model_id="me/model",
            hub_token=TOKENS["writer"],
            **options,
        )
        return FTPTrainer(model, args, train_dataset=data, eval_dataset=data, processing_class=tokenizer)

    return make


def check_public(hub, tmp_path, revision="main"):
    """No file holds the token or a path of this machine, and the arguments can be loaded."""
    for path, file in hub.store.get("me/model").resolve(revision).files.items():
        content = hub.store.objects.path(file.key).read_bytes()
        assert TOKENS["writer"].encode() not in content, path
        assert str(tmp_path).encode() not in content, path
        if path.endswith("training_args.bin"):
            args = torch.load(io.BytesIO(content), weights_only=False)
            assert type(args) is FTPTrainingArguments
            assert args.hub_token is None
            assert args.learning_rate == 1e-2


@pytest.mark.parametrize("strategy", ["end", "every_save", "checkpoint", "all_checkpoints"])
def test_every_strategy(hub, make_trainer, tmp_path, monkeypatch, strategy):
    monkeypatch.chdir(tmp_path)
    trainer = make_trainer("run", push_to_hub=True, hub_strategy=strategy, hub_private_repo=True, hub_always_push=True)
    trainer.train()
    trainer.push_to_hub()
    assert hub.store.get("me/model").private
    files = pushed(hub).keys()
    assert files >= MODEL | {"results.json"}
    saves = [title for title in titles(hub) if title.startswith("Training in progress")]
    folders = {"end": set(), "every_save": set(), "checkpoint": {"last-checkpoint"}}.get(
        strategy, {"checkpoint-2", "checkpoint-4"}
    )
    models = [title for title in saves if not title.endswith("checkpoint")]
    assert len(models) == (0 if strategy == "end" else 2)
    assert {name.split("/")[0] for name in files if "checkpoint" in name} == folders
    for folder in folders:
        assert files >= {f"{folder}/{name}" for name in RESUMABLE}
    check_public(hub, tmp_path)


@pytest.mark.parametrize("strategy", ["checkpoint", "all_checkpoints"])
@pytest.mark.slow
def test_pushed_checkpoints_of_an_absolute_output_dir(hub, make_trainer, tmp_path, strategy):
    options = {"push_to_hub": True, "hub_strategy": strategy, "hub_always_push": True}
    trainer = make_trainer(**options)
    trainer.train()
    trainer.push_to_hub()
    check_public(hub, tmp_path)
    best = trainer.state.best_model_checkpoint
    assert best in (str(tmp_path / "run" / "checkpoint-2"), str(tmp_path / "run" / "checkpoint-4"))
    again = make_trainer(**options)
    again.train(resume_from_checkpoint=True)
    assert again.state.best_model_checkpoint == best


def test_push_to_hub_alone(hub, make_trainer, tmp_path):
    trainer = make_trainer(hub_private_repo=True)
    trainer.train()
    trainer.push_to_hub("two words")
    assert titles(hub) == ["two words"]
    assert hub.store.get("me/model").private
    assert not any("checkpoint" in name for name in pushed(hub))
    assert trainer.args.hub_token == TOKENS["writer"], "the trainer keeps it"
    check_public(hub, tmp_path)


def test_hub_revision(hub, make_trainer, tmp_path):
    api = HfApi(token=TOKENS["writer"])
    api.create_repo("me/model")
    api.create_branch("me/model", branch="trial")
    trainer = make_trainer(push_to_hub=True, hub_revision="trial", hub_strategy="every_save")
    trainer.train()
    trainer.push_to_hub()
    assert pushed(hub) == {}
    assert pushed(hub, revision="trial").keys() >= MODEL
    check_public(hub, tmp_path, "trial")


@pytest.mark.parametrize(
    ("request_", "action"),
    [
        (("POST", "/commit/"), answer(403)),
        (("POST", "/commit/"), drop),
        (("PUT", "/lfs/upload/"), answer(500)),
        (("POST", "/commit/"), answer(404)),
    ],
)
@pytest.mark.usefixtures("waits")
@pytest.mark.slow
def test_push_that_fails_loses_nothing(hub, make_trainer, tmp_path, request_, action):
    trainer = make_trainer()
    trainer.train()
    trainer.init_hf_repo()
    hub.faults.add(*request_, action, times=1000)
    with pytest.raises(Exception) as raised:  # noqa: PT011 - whatever huggingface_hub makes of it
        trainer.push_to_hub()
    assert not isinstance(raised.value, AssertionError)
    assert pushed(hub) == {}
    before = hashes(tmp_path / "run")
    hub.faults.clear()
    trainer.push_to_hub()
    assert pushed(hub).keys() >= MODEL
    assert {name: hashes(tmp_path / "run")[name] for name in MODEL - {"README.md"}} == {
        name: before[name] for name in MODEL - {"README.md"}
    }


def test_push_run_after_the_trainer_has_pushed(make_trainer, tmp_path):
    trainer = make_trainer(push_to_hub=True)
    trainer.train()
    trainer.push_to_hub()
    version = push_run(tmp_path / "run", "me/model", token=TOKENS["writer"])
    assert version.tag == "v1"


def test_token_without_rights(hub, make_trainer):
    with pytest.raises(HfHubHTTPError, match="403"):
        make_trainer(push_to_hub=True, hub_strategy="end").push_to_hub(token=TOKENS["reader"])
    assert pushed(hub) == {}


@pytest.mark.parametrize("during", [True, False], ids=["while training", "afterwards"])
def test_adapter_of_a_local_base_is_refused(hub, make_trainer, tmp_path, during):
    peft = pytest.importorskip("peft")
    trainer = make_trainer(push_to_hub=during, ftp_exclude_new=False)
    adapted = peft.get_peft_model(trainer.model, peft.LoraConfig(r=2, target_modules=["query"]))
    data = trainer.train_dataset
    trainer = FTPTrainer(adapted, trainer.args, train_dataset=data, eval_dataset=data)
    with pytest.raises(ValueError, match=r"base model is '.*base', a path of this machine.*Hub name"):
        trainer.train() if during else trainer.push_to_hub()
    assert not any("adapter" in name for name in (pushed(hub) if hub.store.ids() else ()))
    assert not list((tmp_path / "run").glob("checkpoint-*"))
