"""Elastic weight consolidation against values worked out by hand, and where its Fisher information comes from."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.optim import SGD, AdamW
from transformers import BertModel

from ftp_hf.baselines import attach_ewc, ewc_penalty, fisher_diagonal
from ftp_hf.trainer.plain import PlainTrainer
from tests.support.baselines import HEAD, EWCTrainer, L2SPTrainer, load, make, train
from tests.support.equal import assert_equal, weights

ANCHORS = {"body": torch.tensor([1.0, 2.0]), "other": torch.tensor([0.0])}
FISHER = {"body": torch.tensor([0.5, 2.0])}


def parameters():
    return {name: nn.Parameter(torch.tensor(values)) for name, values in (("body", [1.5, 1.0]), ("other", [3.0]))}


def test_penalty():
    # 0.4/2 · (0.5 · 0.5² + 2 · 1²) = 0.2 · 2.125; what has no F has no penalty
    assert ewc_penalty(parameters(), ANCHORS, FISHER, lambda_=0.4).item() == pytest.approx(0.425)


def test_a_step_along_the_penalty_and_the_loss():
    weight = parameters()
    optimizer = SGD(weight.values(), lr=0.5)
    attach_ewc(optimizer, weight, ANCHORS, FISHER, lambda_=0.4)
    weight["body"].grad = torch.tensor([1.0, -2.0])
    optimizer.step()
    # g + 0.4 · (0.5 · 0.5, 2 · −1) = (1.1, −2.8), times 0.5
    assert weight["body"].tolist() == pytest.approx([1.5 - 0.55, 1.0 + 1.4])
    assert weight["other"].tolist() == [3.0]


def test_it_is_the_penalty_in_the_loss(normalized):
    inputs = torch.arange(12.0, dtype=torch.float64).view(4, 3)
    anchors = {name: p.detach() + 0.1 for name, p in normalized.named_parameters() if not name.startswith("2.")}
    fisher = {name: torch.rand_like(anchor) for name, anchor in anchors.items()}
    start, results = weights(normalized), []
    for attached in (True, False):
        normalized.load_state_dict(start)
        named = dict(normalized.named_parameters())
        optimizer = AdamW(named.values(), lr=1e-2, weight_decay=0.0)
        if attached:
            attach_ewc(optimizer, named, anchors, fisher, lambda_=0.3)
        for _ in range(5):
            optimizer.zero_grad()
            loss = normalized(inputs).square().mean()
            (loss if attached else loss + ewc_penalty(named, anchors, fisher, lambda_=0.3)).backward()
            optimizer.step()
        results.append(weights(normalized))
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("fused", [True, False])
def test_float16_gradient_scaling_does_not_scale_the_penalty(fused):
    results = []
    for scaled in (True, False):
        weight = parameters()
        optimizer = SGD(weight.values(), lr=0.5, fused=fused)
        attach_ewc(optimizer, weight, ANCHORS, FISHER, lambda_=0.4)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, enabled=scaled)
        scaler.scale((weight["body"] * weight["other"]).sum()).backward()
        scaler.step(optimizer)
        results.append({name: p.detach() for name, p in weight.items()})
    torch.testing.assert_close(*results)


@pytest.mark.parametrize(
    ("fisher", "message"),
    [
        (torch.ones(3), r"of body has the shape \(3,\), the parameter \(2,\)"),
        (torch.tensor([0.5, -1.0]), "of body is negative or not finite"),
        (torch.tensor([0.5, float("nan")]), "of body is negative or not finite"),
    ],
)
def test_what_is_no_fisher_information_is_refused(fisher, message):
    weight = parameters()
    with pytest.raises(ValueError, match=message):
        attach_ewc(SGD(weight.values(), lr=0.5), weight, ANCHORS, {"body": fisher}, lambda_=0.4)


def test_weight_decay_and_closures_are_refused():
    weight = parameters()
    with pytest.raises(ValueError, match="EWC takes the place of weight decay"):
        attach_ewc(SGD(weight.values(), lr=0.5, weight_decay=0.1), weight, ANCHORS, FISHER, lambda_=0.4)
    optimizer = SGD(weight.values(), lr=0.5)
    attach_ewc(optimizer, weight, ANCHORS, FISHER, lambda_=0.4)
    with pytest.raises(ValueError, match="too late"):
        optimizer.step(lambda: torch.zeros(()))


@pytest.fixture(scope="module")
def classifier(checkpoint, tmp_path_factory):
    """A pre-trained model with its head."""
    folder = tmp_path_factory.mktemp("classifier")
    load(checkpoint).save_pretrained(folder)
    return folder


def ones(model):
    return {name: torch.ones_like(p) for name, p in model.named_parameters() if name not in HEAD}


@pytest.mark.slow
def test_with_a_fisher_information_of_ones_it_is_l2_sp(checkpoint, dataset, tmp_path):
    ours = train(EWCTrainer, load(checkpoint), dataset, tmp_path, {"lambda_": 0.5, "fisher": ones(load(checkpoint))})
    l2_sp = train(L2SPTrainer, load(checkpoint), dataset, tmp_path, {"alpha": 0.5, "beta": 0.0})
    torch.testing.assert_close(weights(ours.model), weights(l2_sp.model))


def test_without_strength_it_is_the_plain_trainer_bit_for_bit(checkpoint, dataset, tmp_path):
    plain = train(PlainTrainer, load(checkpoint), dataset, tmp_path)
    trainer = train(EWCTrainer, load(checkpoint), dataset, tmp_path, {"lambda_": 0.0})
    assert_equal(weights(trainer.model), weights(plain.model))


def test_by_default_it_is_that_of_the_models_answers_to_training_data(classifier, dataset, tmp_path):
    trainer = train(EWCTrainer, load(classifier), dataset, tmp_path, {"samples": 5}, max_steps=2)
    drawn = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(trainer.args.seed))[:5]
    rows = [
        {"input_ids": torch.tensor([dataset[i]["input_ids"]]), "labels": torch.tensor([dataset[i]["labels"]])}
        for i in drawn.tolist()
    ]
    model = load(classifier)
    torch.testing.assert_close(trainer.fisher, fisher_diagonal(model, rows, seed=trainer.args.seed))
    assert trainer.fisher.keys() == dict(model.named_parameters()).keys()
    assert trainer.fisher["classifier.weight"].sum() > 0
    before = dict(trainer.fisher)
    trainer.train()
    assert trainer.fisher == before, "a second training goes on with it"


def test_data_of_an_earlier_task_can_be_given(classifier, dataset, held_out, tmp_path):
    options = {"samples": 5, "fisher_dataset": held_out}
    trainer = train(EWCTrainer, load(classifier), dataset, tmp_path, options, max_steps=1)
    other = train(EWCTrainer, load(classifier), held_out, tmp_path, {"samples": 5}, max_steps=1)
    torch.testing.assert_close(trainer.fisher, other.fisher)


@pytest.mark.slow
def test_a_run_resumes_with_the_fisher_information_that_it_started_with(classifier, dataset, tmp_path):
    options = {"samples": 5, "lambda_": 100.0}
    save = {"save_strategy": "steps", "save_steps": 3, "max_steps": 6}
    whole = train(EWCTrainer, load(classifier), dataset, tmp_path / "whole", options, **save)
    resumed = make(EWCTrainer, load(classifier), dataset, tmp_path / "resumed", options, **save)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    assert_equal(resumed.fisher, whole.fisher)
    assert_equal(weights(resumed.model), weights(whole.model))
    plain = train(PlainTrainer, load(classifier), dataset, tmp_path / "plain", **save)
    again = make(EWCTrainer, load(classifier), dataset, tmp_path / "again", options, **save)
    with pytest.raises(ValueError, match=r"holds no ewc\.pt"):
        again.train(resume_from_checkpoint=f"{plain.args.output_dir}/checkpoint-3")


def test_the_factors_of_lora_are_held_at_their_first_values(classifier, dataset, tmp_path):
    model = get_peft_model(load(classifier), LoraConfig(r=2, target_modules=["query", "value"]))
    start = weights(model)
    trainer = train(EWCTrainer, model, dataset, tmp_path, {"samples": 5}, max_steps=1)
    assert {name.rsplit(".", 3)[1] for name in trainer.anchors} == {"lora_A", "lora_B"}
    for name, anchor in trainer.anchors.items():
        assert torch.equal(anchor, start[name])
        assert bool((trainer.fisher[name] == 0).all()) == ("lora_A" in name), "where B is 0, nothing depends on A"


def test_a_new_head_is_refused_without_a_fisher_information(checkpoint, dataset, tmp_path):
    with pytest.raises(ValueError, match=r"classifier.bias is new, .*: give fisher=.*; or probe the head first"):
        make(EWCTrainer, load(checkpoint), dataset, tmp_path)
    with pytest.raises(ValueError, match="fisher names no pre-trained parameter that is trained, such as 'bert"):
        make(EWCTrainer, load(checkpoint), dataset, tmp_path, {"fisher": {"classifier.bias": torch.ones(2)}})


def test_answers_that_are_no_classes_are_refused(checkpoint, dataset, tmp_path):
    with pytest.raises(ValueError, match="BertModel does not answer with distributions over classes"):
        make(EWCTrainer, BertModel.from_pretrained(checkpoint), dataset, tmp_path)
    number = load(checkpoint, problem_type="regression")
    number.save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match="BertForSequenceClassification does not answer with distributions over classes"
    ):
        make(EWCTrainer, load(tmp_path, problem_type="regression"), dataset, tmp_path)


def test_what_no_rows_can_be_drawn_from_is_refused(classifier, dataset, tmp_path):
    with pytest.raises(ValueError, match="EWC draws rows of data of known length"):
        make(EWCTrainer, load(classifier), dataset.to_iterable_dataset(), tmp_path)
