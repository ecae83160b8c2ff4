"""The KL divergence from the pre-trained model's answers, under each kind of Trainer."""

import copy
import math

import pytest
import torch
from datasets import Dataset
from torch import nn
from transformers import AutoTokenizer, LlamaForCausalLM, Seq2SeqTrainer, Trainer, WhisperForConditionalGeneration
from transformers.training_args_seq2seq import Seq2SeqTrainingArguments

from ftp_hf.baselines import KLTrainerMixin
from ftp_hf.baselines._answers import both_answers
from ftp_hf.baselines._beside import adapters_off, frozen_copy
from ftp_hf.function_distance import answers_kl
from ftp_hf.tasks.whisper_windows import WindowsTrainerMixin, hearing
from tests.support import trainers
from tests.support.baselines import KLTrainer, load, load_whole, make, nudge, train
from tests.support.equal import assert_equal, weights
from tests.support.models import tiny_llama_config
from tests.support.tiny_language import save_llama

peft = pytest.importorskip("peft")
trl = pytest.importorskip("trl")


class SFTKLTrainer(KLTrainerMixin, trl.SFTTrainer):
    pass


class SpeechKLTrainer(KLTrainerMixin, WindowsTrainerMixin, Seq2SeqTrainer):
    pass


TOKENS = {
    "input_ids": torch.tensor([[3, 4, 5, 6, 7, 8], [9, 5, 6, 7, 0, 0]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]]),
    "labels": torch.tensor([[-100, -100, 5, 6, 7, 8], [-100, 5, 6, 7, -100, -100]]),
}


def llama():
    torch.manual_seed(3)
    return LlamaForCausalLM(tiny_llama_config())


def lora(model, **options):
    return peft.get_peft_model(model, peft.LoraConfig(r=2, init_lora_weights=False, **options))


def divergence(before, after):
    """Of each answer, written as its definition."""
    p, q = before.softmax(-1), after.softmax(-1)
    return (p * (p.log() - q.log())).sum(-1)


def sft(model, folder, cls=SFTKLTrainer, rows=None, **options):
    method = {"lambda_": options.pop("lambda_")} if "lambda_" in options else {}
    given = Dataset.from_dict({"input_ids": [[3, 4]], "labels": [[3, 4]]}) if rows is None else rows
    tokens = {"dataset_kwargs": {"skip_prepare_dataset": True}, "max_length": None, "bf16": False}
    args = trainers.arguments(folder, trl.SFTConfig, **{**tokens, **options})
    return cls(model=model, args=args, train_dataset=given, processing_class=tokenizer(folder), **method)


def tokenizer(folder):
    return AutoTokenizer.from_pretrained(save_llama(folder / "tokenizer"))


def test_a_divergence_by_hand():
    before = torch.tensor([[0.0, 0.0], [1.0, 2.0]])
    after = torch.tensor([[0.0, math.log(3)], [1.0, 2.0]], requires_grad=True)
    found = answers_kl(before, after)
    # ½ ln(½ / ¼) + ½ ln(½ / ¾) = ½ ln 4/3
    torch.testing.assert_close(found, torch.tensor([0.5 * math.log(4 / 3), 0.0]))
    found.sum().backward()
    torch.testing.assert_close(after.grad, torch.tensor([[0.25 - 0.5, 0.75 - 0.5], [0.0, 0.0]]))
    assert answers_kl(before.bfloat16(), after.bfloat16()).dtype == torch.float32


def test_what_counts_is_what_the_loss_counts():
    logits = torch.arange(24.0).view(2, 4, 3)
    labels = torch.tensor([[1, 2, -100, 0], [-100, -100, 1, 2]])
    same = both_answers("kl", logits, logits, labels, shifted=False)
    assert same.labels[same.counted].tolist() == [1, 2, 0, 1, 2]
    assert same.counted.sum(1).tolist() == [3, 2]
    shifted = both_answers("kl", logits, logits, labels, shifted=True)  # the answer before each label
    assert shifted.labels[shifted.counted].tolist() == [2, 0, 1, 2]
    assert shifted.trained[shifted.counted][:, 0].tolist() == [0.0, 6.0, 15.0, 18.0]
    assert torch.equal(shifted.pretrained, shifted.trained)
    whole = both_answers("kl", logits, logits, None, shifted=True)
    assert len(whole.trained[whole.counted]) == 8
    with pytest.raises(ValueError, match=r"kl needs a class for each answer, but labels are torch\.float32"):
        both_answers("kl", logits, logits, labels.float(), shifted=False)
    with pytest.raises(ValueError, match=r"the outputs are \(2, 4, 3\) of the pre-trained model and \(2, 3, 3\)"):
        both_answers("kl", logits, logits[:, 1:], labels, shifted=False)


@pytest.mark.parametrize("precise", [False, True])
def test_a_classifier(checkpoint, dataset, tmp_path, precise):
    options = {"bf16": True} if precise else {}
    model = load_whole(checkpoint, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    trainer = make(KLTrainer, model, dataset, tmp_path, {"lambda_": 2.0}, **options)
    before = copy.deepcopy(model)
    nudge(model.train(), 0.3)
    batch = {name: torch.tensor(dataset[:4][name]) for name in ("input_ids", "labels")}
    with trainer.accelerator.autocast():
        loss = trainer.compute_loss(model, dict(batch))
        kl = divergence(before(**batch).logits.float(), model(**batch).logits.float()).mean()
        torch.testing.assert_close(loss, model(**batch).loss + 2.0 * kl, rtol=1e-5 if not precise else 1e-2, atol=1e-6)
    assert kl > 1e-3
    evaluated, outputs = trainer.compute_loss(model.eval(), dict(batch), return_outputs=True)
    assert evaluated == outputs.loss == model(**batch).loss


@pytest.mark.parametrize("count", [None, 14])
@pytest.mark.parametrize("adapter", [False, True, "head"])
def test_a_language_model_of_trl(tmp_path, adapter, count):
    """Whose labels are shifted, and whose loss is made without logits in newer versions of TRL."""
    plain = llama()
    model = llama()
    if adapter:
        heads = {"modules_to_save": ["lm_head"]} if adapter == "head" else {}
        model = lora(model, target_modules=["q_proj", "up_proj"], **heads)
    trainer = sft(model, tmp_path, lambda_=2.0)
    nudge(model.train(), 0.3)
    assert (trainer._frozen is None) == bool(adapter)
    loss = trainer.compute_loss(model, dict(TOKENS), num_items_in_batch=count)
    logits, counted = model(**TOKENS).logits[:, :-1], TOKENS["labels"][:, 1:] != -100
    tokens = int(counted.sum())
    assert tokens == 7
    answers = logits[counted], TOKENS["labels"][:, 1:][counted]
    expected = nn.functional.cross_entropy(*answers, reduction="sum")
    kl = divergence(plain(**TOKENS).logits[:, :-1][counted], logits[counted]).sum()
    assert kl > 1e-2
    torch.testing.assert_close(loss, (expected + 2.0 * kl) / (count or tokens), rtol=1e-5, atol=1e-6)
    gradients = torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad])
    wanted = torch.autograd.grad(
        (expected + 2.0 * kl) / (count or tokens), [p for p in model.parameters() if p.requires_grad]
    )
    torch.testing.assert_close(gradients, wanted, rtol=1e-4, atol=1e-6)
    assert trainer._metrics["train"]["mean_token_accuracy"]
    assert model.training


def test_a_recogniser_in_windows_of_the_batch(tmp_path):
    speech = pytest.importorskip("tests.support.speech")
    model = WhisperForConditionalGeneration.from_pretrained(speech.save_whisper(tmp_path / "whisper"))
    args = trainers.arguments(tmp_path, Seq2SeqTrainingArguments)
    trainer = SpeechKLTrainer(model=model, args=args, lambda_=2.0)
    before = copy.deepcopy(model)
    nudge(model.train(), 0.3)
    batch = {
        "input_features": torch.randn(2, 8, 100, generator=torch.Generator().manual_seed(0)),
        "labels": torch.tensor([[3, 4, 26], [5, 26, -100]]),
    }
    loss = trainer.compute_loss(model, dict(batch))
    with hearing(model, batch), hearing(before, batch):
        outputs, counted = model(**batch), batch["labels"] != -100
        kl = divergence(before(**batch).logits[counted], outputs.logits[counted])
    assert kl.mean() > 1e-3
    torch.testing.assert_close(loss, outputs.loss + 2.0 * kl.mean(), rtol=1e-5, atol=1e-6)
    assert trainer._frozen.config.max_source_positions == 150


def test_adapters_are_off_in_the_block_alone():
    plain, model = llama(), lora(llama(), target_modules=["q_proj"], modules_to_save=["lm_head"])
    nudge(model, 0.3)
    frozen = [name for name, p in model.named_parameters() if "lora_A" in name]
    for name, parameter in model.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)  # as in LoRA-FA
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    on = model.train()(**TOKENS).logits
    with adapters_off(model) as pretrained:
        assert not pretrained.training
        assert_equal(pretrained(**TOKENS).logits, plain(**TOKENS).logits)
    assert model.training
    assert [name for name, p in model.named_parameters() if p.requires_grad] == trained
    assert_equal(model(**TOKENS).logits, on)


def test_a_frozen_copy_answers_for_itself(tmp_path):
    model = sft(llama(), tmp_path, trl.SFTTrainer).model
    copied, before = frozen_copy(model), model(**TOKENS).logits.detach()
    nudge(model, 0.3)
    assert not torch.allclose(model(**TOKENS).logits, before)
    assert_equal(copied(**TOKENS).logits, before)
    assert not any(parameter.requires_grad for parameter in copied.parameters())


def test_what_has_no_answers_is_refused(checkpoint, dataset, tmp_path):
    with pytest.raises(ValueError, match=r"kl: classifier.bias, classifier.weight are new.*: use 'ldifs'"):
        make(KLTrainer, load(checkpoint), dataset, tmp_path)
    with pytest.raises(
        ValueError, match=r"distributions over classes, which BertModel does not give here: use 'ldifs'"
    ):
        make(KLTrainer, load_whole(checkpoint).bert, dataset, tmp_path)
    for options in ({"problem_type": "multi_label_classification"}, {"problem_type": "regression"}):
        with pytest.raises(ValueError, match="distributions over classes"):
            make(KLTrainer, load_whole(checkpoint, **options), dataset, tmp_path)
    with pytest.raises(ValueError, match="lambda_ must be finite and not negative, got -1"):
        make(KLTrainer, load_whole(checkpoint), dataset, tmp_path, {"lambda_": -1.0})
    with pytest.raises(ValueError, match="set torch_compile=False"):
        make(KLTrainer, load_whole(checkpoint), dataset, tmp_path, torch_compile=True)


def test_adapters_without_which_the_model_is_another_are_refused(tmp_path):
    taken = peft.get_peft_model(llama(), peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights="pissa"))
    with pytest.raises(ValueError, match="because init_lora_weights='pissa' took a product out of its weights"):
        sft(taken, tmp_path)
    beside = lora(llama(), target_modules=["q_proj"])
    beside.base_model.model.model.norm.weight.requires_grad_(True)
    with pytest.raises(ValueError, match=r"because base_model\.model\.model\.norm\.weight is trained beside them"):
        sft(beside, tmp_path)
    injected = llama()
    injected.add_adapter(peft.LoraConfig(r=2, target_modules=["q_proj"]))
    with pytest.raises(ValueError, match="with those of get_peft_model"):
        make_any(injected, tmp_path)


def make_any(model, folder):
    class AnyTrainer(KLTrainerMixin, Trainer):
        pass

    return AnyTrainer(model=model, args=trainers.arguments(folder))


@pytest.mark.slow
def test_tokens_weigh_alike_however_batches_are_made(tmp_path):
    rows = Dataset.from_dict({name: [row[:6] for row in TOKENS[name].tolist()] * 4 for name in ("input_ids", "labels")})
    results = []
    for size, accumulated in ((4, 1), (1, 4)):
        model = llama()
        start = weights(model)
        batch = {"per_device_train_batch_size": size, "gradient_accumulation_steps": accumulated, "optim": "sgd"}
        options = {"learning_rate": 0.5, "max_grad_norm": 0.0, "max_steps": 4, "lr_scheduler_type": "constant"}
        trainer = sft(model, tmp_path, rows=rows, lambda_=2.0, **batch, **options)
        nudge(model, 0.3)
        trainer.train()
        results.append(weights(model))
    assert not torch.allclose(results[0]["lm_head.weight"], start["lm_head.weight"])
    torch.testing.assert_close(*results, rtol=1e-4, atol=2e-6)


@pytest.mark.slow
def test_a_strong_anchor_keeps_the_answers(checkpoint, dataset, tmp_path):
    batch = {"input_ids": torch.tensor(dataset["input_ids"])}
    found = []
    for strength in (0.0, 10.0):
        model = load_whole(checkpoint)
        before = model.eval()(**batch).logits
        train(KLTrainer, model, dataset, tmp_path, {"lambda_": strength}, max_steps=20)
        found.append(float(divergence(before, model.eval()(**batch).logits).mean()))
    assert found[1] < 0.2 * found[0]
