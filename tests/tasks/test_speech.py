"""Speech recognition: what the model is given, and word errors."""

import json
import math
from contextlib import nullcontext
from string import ascii_lowercase

import numpy as np
import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import BPE
from transformers import (
    EvalPrediction,
    MoonshineConfig,
    MoonshineForConditionalGeneration,
    PreTrainedTokenizerFast,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Processor,
)

pytest.importorskip("soundfile")
pytest.importorskip("jiwer")

from ftp_hf.common.figures import Metric
from ftp_hf.common.records import build, plain
from ftp_hf.function_distance import function_distance
from ftp_hf.tasks.speech import SpeechOptions, SpeechTask, word_errors
from tests.support.equal import assert_equal, weights
from tests.support.speech import save_whisper, sound, sounds
from tests.support.trainers import arguments


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(save_whisper(tmp_path_factory.mktemp("whisper")))


@pytest.fixture
def task(folder):
    return SpeechTask(folder, SpeechOptions(max_seconds=1))


def trainer_of(task, folder, model=None, **options):
    options = {**task.arguments(), **options}
    return task.trainer_class(
        args=arguments(folder, task.arguments_class, **options),
        model=model or task.load_model(),
        **task.trainer_options(model),
    )


def test_word_errors_by_hand():
    found = word_errors(
        ["The cat sat.", "one", "Yes, sir!", "two"],
        ["the cat", "One.", "yes madam sir", "too"],  # a word is missing; right; one is added; one is wrong
    )
    # Letters and spaces: " sat" of 11; 0 of 3; "madam " beside 7; "w" of 3.
    assert found == {
        "wer": pytest.approx(3 / 7),
        "exact_match": pytest.approx(1 / 4),
        "cer": pytest.approx((4 + 0 + 6 + 1) / (11 + 3 + 7 + 3)),
    }
    assert word_errors(["one"], ["one one one one"])["wer"] == 3, "what is said too much counts as well"
    assert word_errors(["one"], [""]) == {"wer": 1.0, "exact_match": 0.0, "cer": 1.0}


@pytest.mark.parametrize(
    ("said", "understood", "word_share", "letter_share"),
    [
        ("हिन्दी में बोलो!", "हन्दी मं बलो", 1, 3 / 15),  # three vowel signs are missing or wrong
        ("தமிழ் மொழி", "தமிழ் மொழ", 1 / 2, 1 / 10),
        ("ภาษาไทยดี", "ภาษาไทยด", 1, 1 / 9),
        ("র\u200d\u09cdযাব", "যাব", 1, 3 / 6),  # a mark behind what joins letters
        ("ọ́dún (2)", "ọdún", 1, 1 / 5),  # of which there is no composed form
        ("Café naïve", "cafe\u0301 nai\u0308ve", 0, 0),
        ("❤\ufe0f, 1\ufe0f\u20e3 ´one´ (laughs) [x]", "1 one", 0, 0),  # marks of symbols and digits
    ],
)
def test_marks_count_with_the_letters_that_they_belong_to(said, understood, word_share, letter_share):
    found = word_errors([said], [understood])
    assert (found["wer"], found["cer"]) == (pytest.approx(word_share), pytest.approx(letter_share))


def test_less_is_better_but_of_what_is_right(task):
    assert {metric.name: metric.sign for metric in task.metrics} == {"wer": -1, "exact_match": 1, "cer": -1}
    assert task.metrics[0].name == "wer"


def test_what_is_known_of_the_metrics_survives_a_file(task):
    """JSON has no number for "as many as there may be"."""
    for metric in task.metrics:
        assert build(Metric, json.loads(json.dumps(plain(metric)))) == metric
    assert task.metrics[0].possible == (0, math.inf)


def test_metrics_are_those_of_the_decoded_tokens(task):
    tokenizer = task.processor.tokenizer
    labels, answers = (tokenizer(text).input_ids for text in ("low", "high"))
    end = tokenizer.eos_token_id
    padded = [labels + [-100] * 3, answers + [-100] * 2]
    heard = [labels + [end] * 3, labels + [end] * 3]
    found = task.compute_metrics(EvalPrediction(np.array(heard), np.array(padded)))
    assert found == {"wer": 0.5, "exact_match": 0.5, "cer": 4 / 7}


def test_sounds_become_features_and_texts_tokens(task):
    prepared = task.prepare(sounds(2))
    batch = task.collator([prepared[0], prepared[1]])
    assert batch["input_features"].shape == (2, 8, 100)
    tokenizer = task.processor.tokenizer
    start = task.load_model().config.decoder_start_token_id
    assert start not in batch["labels"], "the model puts it there itself"
    assert batch["labels"][0].tolist() == [*tokenizer("low").input_ids[1:], -100], "padded with what is not counted"
    assert tokenizer.batch_decode(batch["labels"].clamp(min=0), skip_special_tokens=True)[1] == "high"


def test_the_model_is_taken_as_it_was_saved_but_for_its_frozen_positions(task):
    model = task.load_model()
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    assert frozen == ["model.encoder.embed_positions.weight"]
    assert model.config.max_source_positions == 150


@pytest.mark.parametrize(("language", "told"), [(None, None), ("german", "transcribe")])
def test_the_language_that_is_spoken_is_told_to_model_and_tokenizer(folder, language, told):
    task = SpeechTask(folder, SpeechOptions(max_seconds=1, language=language))
    for learns_of_it in (task.load_model().generation_config, task.processor.tokenizer):
        assert (getattr(learns_of_it, "language", None), getattr(learns_of_it, "task", None)) == (language, told)


def test_longer_speech_is_measured_in_its_own_windows_and_the_model_stays_as_it_was(task, tmp_path):
    model = task.load_model()
    before = weights(model)
    heard = []
    model.model.encoder.conv1.register_forward_pre_hook(lambda _, given: heard.append(given[0].shape[-1]))
    trainer = trainer_of(task, tmp_path, model)
    for data in (sounds(2, 0.5), sounds(2, 1.7)):
        figures = task.measure(trainer, data)
        assert {"eval_wer", "eval_exact_match", "eval_cer", "eval_loss"} <= figures.keys()
    assert set(heard) == {100, 200}
    assert model.config.max_source_positions == 150
    assert_equal(weights(model), before)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_loss_is_that_of_tokens_whatever_the_batches(task, tmp_path, size):
    model = task.load_model()
    data = Dataset.from_list([{"audio": sound(300), "text": text} for text in ("a", "highlowhigh", "low", "a", "a")])
    found = task.measure(trainer_of(task, tmp_path, model, per_device_eval_batch_size=size), data)["eval_loss"]
    total = count = 0
    for batch in task.batches(data, 1):
        logits, counted = task.logits(model.eval(), batch)
        losses = torch.nn.functional.cross_entropy(logits[counted], batch["labels"][counted], reduction="sum")
        total, count = total + losses.item(), count + counted.sum().item()
    assert found == pytest.approx(total / count, rel=1e-5)


def test_the_same_sounds_are_encoded_once(task, tmp_path, monkeypatch):
    model, encoded = task.load_model(), []
    model.model.encoder.layers[0].register_forward_hook(lambda *_: encoded.append(1))
    trainer = trainer_of(task, tmp_path, model, per_device_eval_batch_size=2)
    once = task.measure(trainer, sounds(4, noise=0.1))
    assert len(encoded) == 2, "one of each batch"
    assert "forward" not in vars(model.model.encoder)
    monkeypatch.setattr("ftp_hf.tasks.whisper_windows._encoding_once", lambda _: nullcontext())
    twice = task.measure(trainer, sounds(4, noise=0.1))
    assert len(encoded) == 6
    same = [name for name in once if name.removeprefix("eval_") in ("loss", "wer", "cer", "exact_match")]
    assert {name: once[name] for name in same} == {name: twice[name] for name in same}
    assert len(same) == 4


@pytest.mark.parametrize(
    ("seconds", "options", "text", "longest"),
    [
        (0.5, {}, "low", 16),  # 8 and 7.5 a second
        (1.7, {}, "low", 23),
        (0.5, {"generation_max_length": 5}, "low", 5),
        (0.5, {}, 30 * "a", 33),  # with what starts them, says that there are no times, and ends them
        (0.5, {}, 126 * "a", 129),  # as many as the model writes
    ],
)
def test_answers_are_as_long_as_words_of_the_window_can_be_or_as_is_asked(
    task, tmp_path, seconds, options, text, longest
):
    model, asked = task.load_model(), []
    generate = model.generate
    model.generate = lambda *args, **kwargs: asked.append(kwargs.get("max_length")) or generate(*args, **kwargs)
    data = Dataset.from_list([{"audio": sound(300, seconds), "text": said} for said in ("high", text)])
    task.check("few", data)
    task.measure(trainer_of(task, tmp_path, model, **options), data)
    assert asked == [longest]


@pytest.mark.slow
def test_what_is_generated_is_measured(task, tmp_path):
    model = task.load_model()
    data = sounds(2)
    batch = task.collator([task.prepare(data)[row] for row in range(2)])
    trainer = trainer_of(task, tmp_path, model)
    figures = task.measure(trainer, data)
    # As the model itself would answer in windows of a second.
    model.config.max_source_positions = model.model.encoder.embed_positions.num_embeddings = 50
    answers = model.generate(batch["input_features"], max_length=16)
    expected = task.compute_metrics(EvalPrediction(answers.numpy(), batch["labels"].numpy()))
    assert {
        name.removeprefix("eval_"): figures[name] for name in ("eval_wer", "eval_exact_match", "eval_cer")
    } == expected


def test_a_training_step_is_that_of_the_model_in_short_windows(task, tmp_path):
    model = task.load_model()
    batch = task.batches(sounds(2), 2)[0]
    loss = trainer_of(task, tmp_path, model).compute_loss(model, batch)
    model.config.max_source_positions = model.model.encoder.embed_positions.num_embeddings = 50
    assert loss.item() == pytest.approx(model(**batch).loss.item())


def test_the_function_distance_is_that_of_the_tokens_of_the_texts(task):
    model, pretrained = task.load_model(), task.load_model()
    batches = task.batches(sounds(4), 2)
    assert function_distance(model, pretrained, batches, task.logits) == 0
    with torch.no_grad():
        for parameter in model.model.decoder.parameters():
            parameter.mul_(1.5)
    found = function_distance(model, pretrained, batches, task.logits)
    assert model.config.max_source_positions == 150

    for each in (model, pretrained):
        each.config.max_source_positions = each.model.encoder.embed_positions.num_embeddings = 50
    total = count = 0
    for batch in batches:
        after, before = (each(**batch).logits.detach().log_softmax(-1) for each in (model, pretrained))
        kl = (before.exp() * (before - after)).sum(-1)[batch["labels"] != -100]
        total, count = total + kl.sum().item(), count + len(kl)
    assert count == 2 * (5 + 6), "letters, what says that there are no times, and the end"
    assert found == pytest.approx(total / count, rel=1e-4)
    assert found > 1e-3


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"audio": sound(300), "said": "low"}, r"no column 'text' in few .* name it in text_column"),
        ({"audio": sound(300), "text": " ?! [noise]"}, "row 0 of few has no words in 'text'"),
        ({"audio": sound(300), "text": None}, "row 0 of few has no words in 'text'"),
        (
            {"audio": sound(300), "text": 127 * "a"},
            "row 0 of few has 129 tokens in 'text', but the model writes 128 at most",
        ),
        ({"text": "low"}, "no column 'audio' in few"),
    ],
)
def test_rows_that_say_nothing_are_refused(task, row, problem):
    with pytest.raises(ValueError, match=problem):
        task.check("few", Dataset.from_list([row]))


def test_a_recogniser_without_windows(tmp_path):
    letters = {token: index for index, token in enumerate(["<unk>", "<s>", "</s>", *ascii_lowercase])}
    speller = Tokenizer(BPE(letters, []))
    speller.decoder = Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=speller)
    tokenizer.add_special_tokens({"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"})
    Wav2Vec2Processor(Wav2Vec2FeatureExtractor(return_attention_mask=True), tokenizer).save_pretrained(tmp_path)
    heads = {
        f"{part}_num_{what}": 2 for part in ("encoder", "decoder") for what in ("attention_heads", "hidden_layers")
    }
    sizes = {"vocab_size": len(letters), "hidden_size": 16, "intermediate_size": 32, **heads}
    ends = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2, "decoder_start_token_id": 1}
    MoonshineForConditionalGeneration(MoonshineConfig(**sizes, **ends)).save_pretrained(tmp_path)

    task = SpeechTask(str(tmp_path))
    data = Dataset.from_list([{"audio": sound(300, 0.2), "text": "low"}, {"audio": sound(900, 0.4), "text": "high"}])
    task.check("few", data)
    (batch,) = task.batches(data, 2)
    assert batch["attention_mask"].sum(dim=1).tolist() == [3200, 6400], "each in its own length"
    assert batch["labels"].tolist() == [[14, 17, 25, 2, -100], [10, 11, 9, 10, 2]], "what ends them is learned too"
    model = task.load_model()
    assert task.logits(model, batch)[0].shape == (2, 5, 29)
    figures = task.measure(trainer_of(task, tmp_path / "out", model, generation_max_length=6), data)
    assert figures["eval_wer"] > 0
