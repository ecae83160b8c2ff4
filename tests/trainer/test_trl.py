"""TRL's `SFTTrainer` with the projection: the two lines of the README, with LoRA and without."""

from dataclasses import dataclass

import pytest
import torch
from datasets import Dataset
from huggingface_hub import HfApi
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from ftp_hf import FTPAdamW, FTPArguments, FTPTrainerMixin, RunSummary, adapter_options, projected_optimizer
from tests.support.equal import assert_equal, weights
from tests.support.models import tiny_llama_config
from tests.support.trainers import arguments

peft = pytest.importorskip("peft")
trl = pytest.importorskip("trl")

pytestmark = pytest.mark.slow


class FTPSFTTrainer(FTPTrainerMixin, trl.SFTTrainer):
    pass


@dataclass
class FTPSFTConfig(FTPArguments, trl.SFTConfig):
    pass


SPECIAL = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>"}
WORDS = [*SPECIAL.values(), *(f"w{number}" for number in range(20))]


def tokenizer():
    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, SPECIAL["unk_token"]))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, **SPECIAL)


def llama():
    torch.manual_seed(0)
    return LlamaForCausalLM(
        tiny_llama_config(
            vocab_size=len(WORDS), max_position_embeddings=32, pad_token_id=0, bos_token_id=1, eos_token_id=1
        )
    )


def trainer_of(output_dir, config=None):
    args = sft_arguments(output_dir, FTPSFTConfig, ftp_kappa=0.5)
    return FTPSFTTrainer(llama(), args, train_dataset=dataset(), processing_class=tokenizer(), peft_config=config)


def dataset():
    return Dataset.from_dict(
        {"text": [" ".join(f"w{(start + step) % 20}" for step in range(8)) for start in range(40)]}
    )


def sft_arguments(output_dir, cls, **options):
    saves = {"save_strategy": "steps", "save_steps": 4}
    return arguments(output_dir, cls, learning_rate=1e-2, max_length=16, bf16=False, **saves, **options)


LORA = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")


@pytest.mark.parametrize("config", [LORA, None], ids=["lora", "full"])
def test_sft_is_projected_saved_and_resumed(tmp_path, config):
    trainer = trainer_of(tmp_path, config)
    trainer.train()
    optimizer = projected_optimizer(trainer.optimizer)
    assert optimizer.param_groups[0]["kappa"] == 0.5
    radii = optimizer.radii()
    names = {f"model.layers.{layer}.self_attn.{kind}_proj.weight" for layer in (0, 1) for kind in "qv"}
    assert radii.keys() >= names
    assert (radii.keys() == names) == (config is not None)
    model = trainer.model if config is None else trainer.model.merge_and_unload()
    start, after = dict(llama().named_parameters()), dict(model.named_parameters())
    for name in names:
        norms = (after[name].double() - start[name].double()).abs().sum(dim=1)
        assert 1e-3 < norms.max() <= radii[name].radius + 1e-6
    resumed = trainer_of(tmp_path, config)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert projected_optimizer(resumed.optimizer).radii() == radii
    file = "model" if config is None else "adapter_model"
    saved = load_file(tmp_path / "checkpoint-8" / f"{file}.safetensors")
    mine = dict(resumed.model.named_parameters())
    for name, weight in saved.items():
        adapted = name.replace("lora_A.", "lora_A.default.").replace("lora_B.", "lora_B.default.")
        assert torch.equal(weight, mine[adapted]), name


def test_trls_own_trainer_takes_the_same_steps_with_the_helper(tmp_path):
    constant = {"lr_scheduler_type": "constant"}
    torch.manual_seed(2)
    ours = FTPSFTTrainer(
        peft.get_peft_model(llama(), LORA),
        sft_arguments(tmp_path / "ours", FTPSFTConfig, **constant),
        train_dataset=dataset(),
        processing_class=tokenizer(),
    )
    ours.train()
    torch.manual_seed(2)
    model = peft.get_peft_model(llama(), LORA)
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    optimizer = FTPAdamW(named, lr=1e-2, fused=True, **adapter_options(model))
    theirs = trl.SFTTrainer(
        model,
        sft_arguments(tmp_path / "theirs", trl.SFTConfig, **constant),
        train_dataset=dataset(),
        processing_class=tokenizer(),
        optimizers=(optimizer, None),
    )
    theirs.train()
    assert optimizer.radii() == projected_optimizer(ours.optimizer).radii()
    assert_equal(weights(model), weights(ours.model))


def test_the_last_line_of_trls_scripts(tmp_path, monkeypatch):
    monkeypatch.setattr(HfApi, "upload_folder", lambda *_, **__: "pushed")
    trainer = trainer_of(tmp_path)
    trainer.train()
    # TRL writes a card with each checkpoint, of what there is to tell until then.
    summary = RunSummary.load(tmp_path)
    assert (summary.steps, [row.step for row in summary.log]) == (8, [2, 4, 6, 8])
    trainer.hub_model_id = "someone/model"
    assert trainer.push_to_hub(dataset_name="trl-lib/Capybara") == "pushed"
    assert RunSummary.load(tmp_path).data[0].source == "trl-lib/Capybara"
    assert "trl-lib/Capybara" in (tmp_path / "README.md").read_text()
