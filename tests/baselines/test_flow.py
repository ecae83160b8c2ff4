"""FLOW: fixed weights from the pre-trained losses, under each kind of Trainer."""

import math
import random
import statistics

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch import nn
from transformers import (
    AutoTokenizer,
    BertForTokenClassification,
    LlamaForCausalLM,
    Seq2SeqTrainer,
    WhisperForConditionalGeneration,
)
from transformers.training_args_seq2seq import Seq2SeqTrainingArguments

from ftp_hf.baselines import FLOWTrainerMixin, ProbedFLOWTrainerMixin, flow_weights
from ftp_hf.baselines._answers import AnswersMixin
from ftp_hf.tasks.whisper_windows import WindowsTrainerMixin
from ftp_hf.trainer.plain import PlainTrainer
from tests.support import trainers
from tests.support.baselines import NO_DROPOUT, FLOWTrainer, load, load_whole, make
from tests.support.models import tiny_bert_config, tiny_llama_config
from tests.support.tiny_language import save_llama

trl = pytest.importorskip("trl")


class SpeechFLOWTrainer(FLOWTrainerMixin, WindowsTrainerMixin, Seq2SeqTrainer):
    pass


class SFTFLOWTrainer(FLOWTrainerMixin, trl.SFTTrainer):
    pass


class ProbedTrainer(ProbedFLOWTrainerMixin, PlainTrainer):
    pass


class Table(nn.Module):
    """Answers with the logits of a table, of each token or of each row."""

    def __init__(self, *shape):
        super().__init__()
        self.table = nn.Parameter(torch.zeros(*shape))

    def forward(self, x, labels):
        logits = self.table[x]
        return {"loss": nn.functional.cross_entropy(logits.flatten(0, -2), labels.flatten()), "logits": logits}


def test_weights_by_hand():
    weights = flow_weights(torch.tensor([0.0, 0.5, 1.0]), 0.5)
    torch.testing.assert_close(weights, torch.tensor([1.0, math.exp(-1), math.exp(-2)]))
    assert flow_weights(torch.tensor([0.0, 7.0]), math.inf).tolist() == [1.0, 1.0]


def test_a_loss_by_hand(tmp_path):
    """Three rows of one answer: the pre-trained model gives their classes ½, ¼ and ¾."""
    model = Table(3, 2)
    with torch.no_grad():
        model.table.copy_(torch.tensor([[0.0, 0.0], [0.0, math.log(3)], [0.0, math.log(3)]]))
    rows = [{"x": torch.tensor(row), "labels": torch.tensor(label)} for row, label in [(0, 0), (1, 0), (2, 1)]]
    trainer = FLOWTrainer(model=model, args=trainers.arguments(tmp_path), train_dataset=rows)
    with torch.no_grad():
        model.table.zero_()  # every class ½ now, so that each loss is ln 2
    batch = {"x": torch.tensor([0, 1, 2]), "labels": torch.tensor([0, 0, 1])}
    loss = trainer.compute_loss(model.train(), dict(batch))
    assert trainer.temperature == pytest.approx(math.log(2))  # of ln 2, ln 4 and ln 4/3
    # exp(−ln 2 / ln 2) = 1/e, exp(−ln 4 / ln 2) = 1/e², exp(−ln(4/3) / ln 2)
    weights = math.exp(-1) + math.exp(-2) + math.exp(-math.log(4 / 3) / math.log(2))
    assert loss.item() == pytest.approx(math.log(2) * weights / 3, rel=1e-6)
    assert trainer.compute_loss(model.eval(), dict(batch)).item() == pytest.approx(math.log(2))


def test_a_row_of_tokens_is_a_sample(tmp_path):
    """Whose pre-trained loss is the mean over its tokens, and whose tokens all have its weight."""
    model = Table(2, 2)
    with torch.no_grad():
        model.table.copy_(torch.tensor([[0.0, 0.0], [0.0, math.log(3)]]))
    trainer = FLOWTrainer(model=model, args=trainers.arguments(tmp_path), temperature=0.5)
    with torch.no_grad():
        model.table.zero_()
    batch = {"x": torch.tensor([[0, 1, 1], [1, 0, 0]]), "labels": torch.tensor([[0, 0, -100], [1, -100, -100]])}
    loss = trainer.compute_loss(model.train(), dict(batch))
    # the rows' losses were (ln 2 + ln 4) / 2 and ln 4/3; now each of their three tokens' is ln 2
    first, second = math.exp(-1.5 * math.log(2) / 0.5), math.exp(-math.log(4 / 3) / 0.5)
    assert loss.item() == pytest.approx(math.log(2) * (2 * first + second) / 3, rel=1e-6)


def test_equal_weights_are_the_loss_of_the_trainer(checkpoint, dataset, tmp_path):
    equal = {"temperature": math.inf}
    model = load_whole(checkpoint, **NO_DROPOUT)
    batch = {name: torch.tensor(dataset[:4][name]) for name in ("input_ids", "labels")}
    check(make(FLOWTrainer, model, dataset, tmp_path, equal), batch)

    torch.manual_seed(0)
    tags = BertForTokenClassification(tiny_bert_config(**NO_DROPOUT, num_labels=3))
    tagged = {"input_ids": batch["input_ids"], "labels": torch.tensor([[0, 1, -100, 2, 2, 1]] * 3 + [[-100] * 6])}
    check(FLOWTrainer(model=tags, args=trainers.arguments(tmp_path), **equal), tagged)


def test_equal_weights_are_the_loss_of_a_recogniser(tmp_path):
    speech = pytest.importorskip("tests.support.speech")
    whisper = WhisperForConditionalGeneration.from_pretrained(speech.save_whisper(tmp_path / "whisper"))
    arguments = trainers.arguments(tmp_path, Seq2SeqTrainingArguments)
    features = torch.randn(2, 8, 100, generator=torch.Generator().manual_seed(0))
    heard = {"input_features": features, "labels": torch.tensor([[3, 4, 26], [5, 26, -100]])}
    check(SpeechFLOWTrainer(model=whisper, args=arguments, temperature=math.inf), heard)


def check(trainer, batch, **options):
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, dict(batch), **options)
    wanted = super(AnswersMixin, trainer).compute_loss(trainer.model, dict(batch), **options)
    torch.testing.assert_close(loss, wanted, rtol=1e-5, atol=1e-6)
    trained = [parameter for parameter in trainer.model.parameters() if parameter.requires_grad]
    found, expected = (torch.autograd.grad(value, trained, allow_unused=True) for value in (loss, wanted))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def sft(folder, rows, **options):
    torch.manual_seed(3)
    model = LlamaForCausalLM(tiny_llama_config())
    method = {name: options.pop(name) for name in ("temperature",) if name in options}
    tokens = {"dataset_kwargs": {"skip_prepare_dataset": True}, "max_length": None, "bf16": False}
    args = trainers.arguments(folder, trl.SFTConfig, **{**tokens, **options})
    processor = AutoTokenizer.from_pretrained(save_llama(folder / "tokenizer"))
    return SFTFLOWTrainer(model=model, args=args, train_dataset=rows, processing_class=processor, **method)


@pytest.mark.parametrize("count", [None, 9])
def test_a_language_model_of_trl(tmp_path, count):
    rows = Dataset.from_dict(
        {"input_ids": [[3, 4, 5], [6, 7], [9, 3, 8]], "labels": [[-100, 4, 5], [-100, 7], [-100, -100, 8]]}
    )
    trainer = sft(tmp_path, rows, temperature=math.inf)
    batch = trainer.data_collator([rows[row] for row in range(3)])
    check(trainer, batch, num_items_in_batch=count)
    losses = []
    for row in rows:
        logits = trainer.model(torch.tensor([row["input_ids"]])).logits[0, :-1]
        losses.append(nn.functional.cross_entropy(logits, torch.tensor(row["labels"][1:])).item())
    trainer.temperature = None
    trainer.compute_loss(trainer.model, dict(batch))
    assert trainer.temperature == pytest.approx(statistics.median(losses), rel=1e-5)


def test_the_median_disturbs_no_random_number(tmp_path):
    class Rows:
        """Augmented as random numbers of all kinds say."""

        def __len__(self):
            return 6

        def __getitem__(self, row):
            drawn = random.uniform(0, 1) + np.random.rand() + torch.rand(()).item()  # noqa: S311 - as augmentations do
            return {"x": torch.tensor(int(drawn * 2) % 3), "labels": torch.tensor(row % 2)}

    medians = []
    for seed in (1, 2):
        trainer = FLOWTrainer(model=Table(3, 2), args=trainers.arguments(tmp_path), train_dataset=Rows())
        with torch.no_grad():
            trainer._frozen.table.copy_(torch.tensor([[0.0, 0.3], [1.0, 0.0], [0.0, 2.0]]))
        for set_seed in (random.seed, np.random.seed, torch.manual_seed):
            set_seed(seed)
        states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
        medians.append(trainer._median())
        assert states == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    assert medians[0] == medians[1]


def test_what_it_cannot_weigh_is_refused(checkpoint, dataset, tmp_path):
    with pytest.raises(ValueError, match=r"flow: classifier.bias, classifier.weight are new.*by 'linear-probe'"):
        make(FLOWTrainer, load(checkpoint), dataset, tmp_path)
    assert make(ProbedTrainer, load(checkpoint), dataset, tmp_path).temperature is None
    for temperature in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match=f"temperature must be positive, got {temperature}"):
            make(FLOWTrainer, load_whole(checkpoint), dataset, tmp_path, {"temperature": temperature})
    with pytest.raises(ValueError, match="cross entropies of single rows: set label_smoothing_factor=0"):
        make(FLOWTrainer, load_whole(checkpoint), dataset, tmp_path, label_smoothing_factor=0.1)
    with pytest.raises(ValueError, match="set compute_loss_func=None"):
        make(FLOWTrainer, load_whole(checkpoint), dataset, tmp_path, {"compute_loss_func": print})
    with pytest.raises(ValueError, match="no length to find a median in: give a temperature"):
        make(FLOWTrainer, load_whole(checkpoint), dataset.to_iterable_dataset(), tmp_path)
    rows = Dataset.from_dict({"input_ids": [[3, 4]], "labels": [[3, 4]]})
    with pytest.raises(ValueError, match="loss_type='nll'"):
        sft(tmp_path, rows, loss_type="dft")
    sure = FLOWTrainer(model=Table(1, 2), args=trainers.arguments(tmp_path), train_dataset=[])
    with pytest.raises(ValueError, match=r"the median of the pre-trained losses is 0\.0: give a temperature"):
        sure._median()
