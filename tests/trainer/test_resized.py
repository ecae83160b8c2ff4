"""Models whose embeddings were resized: old rows are projected around their pre-trained values, new ones trained freely."""

import logging

import pytest
import torch
from datasets import Dataset
from transformers import BertForMaskedLM, LlamaForCausalLM, Trainer

from ftp_hf import FTPAdamW, FTPTrainer, adapter_options, projected_optimizer
from ftp_hf.baselines import L2SPTrainerMixin
from ftp_hf.cards.sections import sections
from ftp_hf.distance import model_distance
from tests.support.equal import assert_equal, weights
from tests.support.models import save_language_models
from tests.support.trainers import arguments

WORDS = 64
EMBEDDINGS, HEAD = "model.embed_tokens.weight", "lm_head.weight"
BERT = ("bert.embeddings.word_embeddings.weight", "cls.predictions.bias")
ROWS = {
    "untied": {EMBEDDINGS: WORDS, HEAD: WORDS},
    "tied": {EMBEDDINGS: WORDS},
    "bert": dict.fromkeys(BERT, WORDS),
}
KINDS = ["untied", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("tied", "bert"))]
HELD = {"ftp_radius_lr": 0.0, "learning_rate": 1e-2, "max_steps": 3}
"""Radii that never grow hold every projected row at its anchor."""
SAVED = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4, "learning_rate": 1e-3}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save_language_models(tmp_path_factory.mktemp("saved"), WORDS)


@pytest.fixture(scope="module")
def texts():
    rows = [[WORDS, WORDS + 1] + [(7 * row + 5 * place) % WORDS for place in range(6)] for row in range(16)]
    return Dataset.from_dict({"input_ids": rows, "labels": rows})


def resized(folder, *resize, **options):
    torch.manual_seed(1)
    model = (BertForMaskedLM if folder.name == "bert" else LlamaForCausalLM).from_pretrained(folder)
    model.resize_token_embeddings(*(resize or (WORDS + 2,)), **options)
    return model


def trainer_of(model, texts, folder, **options):
    return FTPTrainer(model=model, args=arguments(folder, **options), train_dataset=texts)


def check_rows(model, start, rows):
    """Held where it is projected, moved where it is new."""
    for name, parameter in model.named_parameters():
        count = rows.get(name, len(parameter))
        assert_equal(parameter[:count].detach(), start[name][:count])
        moved = [not torch.equal(row, before) for row, before in zip(parameter.detach(), start[name], strict=True)]
        assert all(moved[count : WORDS + 2]), name


@pytest.mark.parametrize("kind", ["untied", "tied", "bert"])
@pytest.mark.parametrize(
    "options", [{}, pytest.param({"pad_to_multiple_of": 16}, marks=pytest.mark.slow)], ids=["resized", "padded"]
)
def test_old_rows_are_held_and_new_ones_trained(saved, texts, tmp_path, kind, options, caplog):
    model = resized(saved / kind, WORDS + 2, **options)
    start, size = weights(model), model.config.vocab_size
    trainer = trainer_of(model, texts, tmp_path, **HELD)
    with caplog.at_level(logging.INFO, "ftp_hf"):
        trainer.train()
    assert projected_optimizer(trainer.optimizer).pretrained_rows == ROWS[kind]
    assert size == (80 if options else WORDS + 2)
    check_rows(model, start, ROWS[kind])
    radii = projected_optimizer(trainer.optimizer).radii()
    assert ROWS[kind].keys() <= radii.keys()
    assert all(radius.deviation == 0 for radius in radii.values())
    assert f"{EMBEDDINGS if kind != 'bert' else BERT[0]} (64 of {size})" in caplog.text


def test_a_shrunk_model_is_held_at_the_first_rows_of_the_checkpoint(saved, texts, tmp_path):
    few = Dataset.from_dict({key: [[word % 60 for word in row] for row in texts[key]] for key in texts.column_names})
    for options in ({}, {"ftp_anchors": str(saved / "untied")}):
        model = resized(saved / "untied", 60)
        start = weights(model)
        trainer = trainer_of(model, few, tmp_path, **HELD, **options)
        trainer.train()
        check_rows(model, start, {})
        assert_equal(projected_optimizer(trainer.optimizer).anchors()[EMBEDDINGS], start[EMBEDDINGS])


@pytest.mark.parametrize("kind", KINDS)
def test_anchors_of_the_checkpoint_are_those_of_the_old_rows(saved, texts, tmp_path, kind):
    model = resized(saved / kind)
    start = weights(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01)
    trainer = trainer_of(model, texts, tmp_path, **SAVED, ftp_anchors=str(saved / kind))
    trainer.train()
    anchors = projected_optimizer(trainer.optimizer).anchors()
    for name, anchor in anchors.items():
        count = ROWS[kind].get(name)
        assert_equal(anchor[:count], start[name][:count])
    assert anchors.keys() == dict(model.named_parameters()).keys()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["untied", "tied", "bert"])
def test_resumed_is_uninterrupted_bit_for_bit(saved, texts, tmp_path, kind):
    whole = trainer_of(resized(saved / kind), texts, tmp_path, **SAVED)
    whole.train()
    again = trainer_of(resized(saved / kind), texts, tmp_path, **SAVED)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    # A model that is read from the checkpoint does not tell what it was resized from.
    model = type(whole.model).from_pretrained(tmp_path / "checkpoint-2")
    reread = trainer_of(model, texts, tmp_path, **SAVED)
    reread.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    for resumed in (again, reread):
        for name, parameter in whole.model.named_parameters():
            assert_equal(dict(resumed.model.named_parameters())[name], parameter)
        assert projected_optimizer(resumed.optimizer).pretrained_rows == ROWS[kind]
        assert projected_optimizer(resumed.optimizer).radii() == projected_optimizer(whole.optimizer).radii()


@pytest.mark.slow
def test_a_run_without_optimizer_state_resumes_with_the_old_rows_as_anchors(saved, texts, tmp_path):
    trainer_of(resized(saved / "untied"), texts, tmp_path, **SAVED, save_only_model=True).train()
    model = resized(saved / "untied")
    start = weights(model)
    trainer = trainer_of(model, texts, tmp_path, **SAVED)
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    anchors = projected_optimizer(trainer.optimizer).anchors()
    for name in ROWS["untied"]:
        assert_equal(anchors[name][:WORDS], start[name][:WORDS])


def test_a_fine_tuned_resized_model_is_a_model_like_any_other(saved, texts, tmp_path):
    trainer = trainer_of(resized(saved / "untied"), texts, tmp_path, **HELD)
    trainer.train()
    trainer.save_model(tmp_path / "tuned")
    model = LlamaForCausalLM.from_pretrained(tmp_path / "tuned")
    distance = model_distance(model, saved / "untied")
    assert distance.new == ()
    assert distance.row_norm == 0
    assert {parameter.name for parameter in distance.parameters} == {name for name, _ in model.named_parameters()}
    start = weights(model)
    second = trainer_of(model, texts, tmp_path, **HELD)
    second.train()
    assert projected_optimizer(second.optimizer).pretrained_rows == {}
    check_rows(model, start, {})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_model_that_is_resized_between_two_trainings_goes_on_with_the_old_rows(saved, texts, tmp_path, dtype):
    model = LlamaForCausalLM.from_pretrained(saved / "tied", dtype=dtype)
    start = model.get_input_embeddings().weight.detach().clone()
    known = texts.map(lambda row: {key: [word % WORDS for word in row[key]] for key in row})
    trainer = trainer_of(model, known, tmp_path, **HELD)
    trainer.train()
    model.resize_token_embeddings(WORDS + 2)
    before = weights(model)
    trainer.train_dataset = texts
    trainer.train()
    assert projected_optimizer(trainer.optimizer).pretrained_rows == ROWS["tied"]
    check_rows(model, before, ROWS["tied"])
    assert torch.equal(model.get_input_embeddings().weight[:WORDS], start)


def test_bfloat16_weights_have_masters_of_all_rows(saved, texts, tmp_path):
    model = resized(saved / "untied").to(torch.bfloat16)
    start = weights(model)
    trainer = trainer_of(model, texts, tmp_path, **HELD)
    trainer.train()
    check_rows(model, start, ROWS["untied"])
    for name, parameter in model.named_parameters():
        assert trainer.optimizer.state[parameter]["master"].shape == parameter.shape, name


def test_an_optimizer_that_projects_is_told(saved, texts, tmp_path):
    model = resized(saved / "untied")
    start = weights(model)
    optimizer = FTPAdamW(model.named_parameters(), lr=1e-2, radius_lr=0.0)
    trainer = FTPTrainer(
        model=model, args=arguments(tmp_path, max_steps=3), train_dataset=texts, optimizers=(optimizer, None)
    )
    trainer.train()
    assert optimizer.pretrained_rows == ROWS["untied"]
    check_rows(model, start, ROWS["untied"])


def test_new_rows_are_projected_where_new_parameters_are(saved, texts, tmp_path):
    model = resized(saved / "untied")
    start = weights(model)
    trainer = trainer_of(model, texts, tmp_path, **HELD, ftp_exclude_new=False)
    trainer.train()
    check_rows(model, start, {})


def test_anchors_say_nothing_of_new_rows(saved, texts, tmp_path):
    options = {**HELD, "ftp_exclude_new": False, "ftp_anchors": str(saved / "untied")}
    trainer = trainer_of(resized(saved / "untied"), texts, tmp_path, **options)
    trainer.create_optimizer()
    assert projected_optimizer(trainer.optimizer).pretrained_rows == ROWS["untied"]


def test_what_the_user_says_of_rows_stands(saved, texts, tmp_path):
    kwargs = {"lr": 1e-2, "pretrained_rows": {HEAD: WORDS - 4}}
    trainer = FTPTrainer(
        model=resized(saved / "untied"),
        args=arguments(tmp_path),
        train_dataset=texts,
        optimizer_cls_and_kwargs=(FTPAdamW, kwargs),
    )
    trainer.create_optimizer()
    assert projected_optimizer(trainer.optimizer).pretrained_rows == {EMBEDDINGS: WORDS, HEAD: WORDS - 4}


def adapted(saved, kind, **config):
    peft = pytest.importorskip("peft")
    torch.manual_seed(2)
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], **config)
    return peft.get_peft_model(resized(saved / kind), config)


@pytest.mark.slow
def test_copies_that_peft_trains(saved, texts, tmp_path):
    model = adapted(saved, "untied", modules_to_save=["embed_tokens", "lm_head"])
    paths = ("base_model.model.model.embed_tokens", "base_model.model.lm_head")
    names = [f"{path}.modules_to_save.default.weight" for path in paths]
    start = weights(model)
    for options in ({}, {"ftp_anchors": str(saved / "untied")}):
        trainer = trainer_of(model, texts, tmp_path, **HELD, **options)
        trainer.train()
        assert projected_optimizer(trainer.optimizer).pretrained_rows == dict.fromkeys(names, WORDS)
        for name in names:
            parameter = model.get_parameter(name).detach()
            assert_equal(parameter[:WORDS], start[name][:WORDS])
            assert (parameter[WORDS:] != start[name][WORDS:]).any(dim=1).all()
    assert adapter_options(model)["pretrained_rows"] == dict.fromkeys(names, WORDS)


@pytest.mark.parametrize(
    ("tokens", "held", "told"),
    [([3, WORDS, WORDS + 1], 1, False), ([WORDS, WORDS + 1], 0, False), ([3, 4], 2, False), ([5, WORDS, 3], 1, True)],
)
@pytest.mark.parametrize("kind", ["tied", pytest.param("untied", marks=pytest.mark.slow)])
def test_single_tokens_that_peft_trains(saved, texts, tmp_path, caplog, kind, tokens, held, told):
    model = adapted(saved, kind, trainable_token_indices=tokens)
    name = "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta.default"
    start = weights(model)[name]
    trainer = trainer_of(model, texts, tmp_path, **{**HELD, "max_steps": 2})
    trainer.train()
    moved = (model.get_parameter(name).detach() != start).any(dim=1).tolist()
    assert moved[:held] == [False] * held
    assert all(moved[place] for place in range(held, len(tokens)) if tokens[place] >= WORDS)
    assert (name in projected_optimizer(trainer.optimizer).projected_parameters()) == (held > 0)
    assert ("name the old tokens first" in caplog.text) == told


def test_what_was_projected_in_part_is_in_the_summary_and_the_card(saved, texts, tmp_path):
    trainer = trainer_of(resized(saved / "tied"), texts, tmp_path, max_steps=1)
    trainer.train()
    summary = trainer.run_summary()
    assert summary.projection.pretrained_rows == ROWS["tied"]
    assert f"| projected in their first rows | `{EMBEDDINGS}`: {WORDS} |" in sections(summary, "me/model")["projection"]


def test_baselines_say_that_they_hold_new_rows(saved, texts, tmp_path, caplog):
    class L2SP(L2SPTrainerMixin, Trainer):
        pass

    trainer = L2SP(model=resized(saved / "tied"), args=arguments(tmp_path, max_steps=1), train_dataset=texts)
    trainer.train()
    assert f"l2-sp holds the new rows of {EMBEDDINGS} near their first values" in caplog.text


def test_distances_are_those_of_the_rows_that_both_models_have(saved):
    model = resized(saved / "untied")
    with torch.no_grad():
        model.model.embed_tokens.weight[0] += 0.5
        model.model.embed_tokens.weight[WORDS:] += 100.0
    distance = model_distance(model, saved / "untied")
    assert distance.row_norm == pytest.approx(8.0)
    pretrained = LlamaForCausalLM.from_pretrained(saved / "untied").state_dict()
    assert model_distance(model, pretrained) == distance
