"""How far a fine-tuned model is from the pre-trained one."""

import copy
import math

import pytest
import torch
from torch import nn
from transformers import BertForSequenceClassification, GPT2LMHeadModel

from ftp_hf import FTPAdamW
from ftp_hf.distance import ModelDistance, ParameterDistance, model_distance, parameter_distance
from ftp_hf.pretrained.anchors import CheckpointAnchors
from tests.support.models import tiny_bert_config, tiny_gpt2_config
from tests.support.problems import clone, make_gradients, make_parameters, train

BERT = tiny_bert_config(num_hidden_layers=1, num_labels=3)


def moved(model, by=0.5):
    """A copy of which every parameter is moved."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(by * torch.randn_like(parameter))
    return model


def test_by_hand():
    anchor = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    weight = torch.tensor([[4.0, 2.0], [0.0, 2.0]])
    assert parameter_distance("w", weight, anchor, linear=True) == ParameterDistance("w", 3.0, 2.0, 3.0, 5.0, 3.0)
    assert parameter_distance("w", weight, anchor, row_dim=1) == ParameterDistance("w", 4.0, 2.0, 3.0, 5.0)
    assert parameter_distance("w", weight, anchor).relative == 0.6
    bias = parameter_distance("b", torch.tensor([1.0, -3.0]), torch.zeros(2))
    assert (bias.row_norm, bias.largest_change, bias.relative) == (4.0, 3.0, None)


def test_in_total():
    one, other = ParameterDistance("a", 5.0, 2.0, 3.0, 6.0, 5.0), ParameterDistance("b", 7.0, 1.0, 4.0, 8.0)
    total = ModelDistance((one, other), ("head",))
    assert (total.row_norm, total.lipschitz, total.frobenius, total.relative) == (7.0, 5.0, 5.0, 0.5)
    assert ModelDistance((other,), ()).lipschitz is None


def test_an_unchanged_model_is_at_distance_zero():
    model = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))
    distance = model_distance(model, model.state_dict())
    assert (distance.row_norm, distance.relative, distance.lipschitz, distance.new) == (0.0, 0.0, 0.0, ())


def test_large_tensors_are_the_sum_of_their_blocks():
    weight, anchor = torch.randn(3, 700_000), torch.randn(3, 700_000)
    found = parameter_distance("w", weight, anchor)
    change = (weight - anchor).double()
    assert found.row_norm == pytest.approx(change.abs().sum(1).max().item(), rel=1e-5)
    assert found.largest_change == change.abs().max().item()
    assert found.frobenius == pytest.approx(change.norm().item(), rel=1e-5)
    assert found.pretrained_frobenius == pytest.approx(anchor.double().norm().item(), rel=1e-5)


def test_sixteen_bits_are_compared_in_float32():
    weight, anchor = torch.tensor([[1.0, 1.0]], dtype=torch.bfloat16), torch.tensor([[1.001, 1.0]])
    assert parameter_distance("w", weight, anchor).row_norm == pytest.approx(0.001, rel=1e-4)
    assert parameter_distance("w", anchor, weight).row_norm == pytest.approx(0.001, rel=1e-4)


def test_a_diverged_model_is_not_near():
    anchor = torch.zeros(3, 700_000)
    for row in range(3):
        weight = anchor.clone()
        weight[row, 5] = math.nan
        found = parameter_distance("w", weight, anchor)
        assert math.isnan(found.row_norm)
        assert math.isnan(found.largest_change)
        assert math.isnan(found.frobenius)
    layers = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2), nn.Linear(2, 1))
    anchors = {name: parameter.detach().clone() for name, parameter in layers.named_parameters()}
    layers[1].weight.data[0, 0] = math.nan
    whole = model_distance(layers, anchors)
    assert math.isnan(whole.row_norm)
    assert math.isnan(whole.lipschitz)


LAYERS = {
    "Linear": (nn.Linear(5, 3), (5,)),
    "Conv1d": (nn.Conv1d(4, 6, 3, padding=1, groups=2), (4, 9)),
    "Conv2d": (nn.Conv2d(3, 4, 3, stride=2, padding=1, padding_mode="reflect"), (3, 9, 9)),
    "Conv3d": (nn.Conv3d(2, 2, 2), (2, 3, 3, 3)),
}


@pytest.mark.parametrize(("layer", "shape"), LAYERS.values(), ids=LAYERS)
def test_the_bound_is_the_lipschitz_constant_of_the_difference_function(layer, shape):
    layer, before = layer.double(), moved(layer.double())
    distance = model_distance(layer, before.state_dict())
    weight, bias = distance.parameters
    assert bias.lipschitz is None
    assert distance.lipschitz == weight.lipschitz == weight.row_norm
    x = torch.randn(1, *shape, dtype=torch.float64, requires_grad=True)

    def difference(x):
        return layer(x) - before(x)

    # It is never exceeded …
    for scale in (0.1, 10.0):
        y = x + scale * torch.randn_like(x)
        assert (difference(y) - difference(x)).abs().max() <= weight.lipschitz * (y - x).abs().max() * (1 + 1e-12)
    # … and reached by the signs of the gradient of the output that can change most.
    gradients = [torch.autograd.grad(out, x, retain_graph=True)[0] for out in difference(x).flatten()]
    signs = max(gradients, key=lambda gradient: gradient.abs().sum()).sign()
    assert (difference(x + signs) - difference(x)).abs().max().item() == pytest.approx(weight.lipschitz)
    # The bias moves outputs, and no more than this.
    assert difference(0 * x).abs().max().item() == pytest.approx(bias.largest_change)


def test_only_linear_layers_have_a_bound():
    model = BertForSequenceClassification(BERT)
    for parameter in model_distance(moved(model), model.state_dict()).parameters:
        is_linear = parameter.name.endswith("weight") and "LayerNorm" not in parameter.name
        is_linear = is_linear and "embeddings" not in parameter.name
        assert (parameter.lipschitz == parameter.row_norm) == is_linear
        assert (parameter.lipschitz is None) != is_linear


def test_a_checkpoint_of_the_base_model_and_a_new_head(tmp_path, monkeypatch):
    before = BertForSequenceClassification(BERT)
    before.bert.save_pretrained(tmp_path, max_shard_size="1KB")
    model = moved(before)
    read = []
    getitem = CheckpointAnchors.__getitem__
    monkeypatch.setattr(CheckpointAnchors, "__getitem__", lambda self, name: read.append(name) or getitem(self, name))
    from_folder = model_distance(model, tmp_path)
    assert from_folder.new == ("classifier.weight", "classifier.bias")
    assert read == [parameter.name for parameter in from_folder.parameters]
    whole = model_distance(model, before.state_dict())
    assert from_folder.parameters == whole.parameters[:-2]
    assert from_folder == model_distance(model, str(tmp_path)) == model_distance(model, CheckpointAnchors(tmp_path))


def test_tied_weights_count_once_and_conv1d_has_its_rows_in_dimension_1(tmp_path):
    before = GPT2LMHeadModel(tiny_gpt2_config())
    before.save_pretrained(tmp_path)
    model = moved(before)
    distance = model_distance(model, tmp_path)
    assert distance.new == ()
    assert [parameter.name for parameter in distance.parameters] == [name for name, _ in model.named_parameters()]
    found = {parameter.name: parameter for parameter in distance.parameters}
    assert "lm_head.weight" not in found
    assert found["transformer.wte.weight"].lipschitz is not None  # as the weight of the head
    change = (model.transformer.h[0].attn.c_attn.weight - before.transformer.h[0].attn.c_attn.weight).abs()
    expected = change.sum(0).max().item()
    assert expected != pytest.approx(change.sum(1).max().item())
    assert found["transformer.h.0.attn.c_attn.weight"].lipschitz == pytest.approx(expected)


def test_another_shape_is_new():
    before = BertForSequenceClassification(BERT).state_dict()
    before["classifier.weight"] = torch.zeros(7, 8)
    model = BertForSequenceClassification(BERT)
    assert model_distance(model, before).new == ("classifier.weight",)


def test_names_with_the_prefixes_of_wrappers():
    model = nn.Linear(3, 2)
    wrapped = nn.ModuleDict({"module": model})
    distance = model_distance(wrapped, {f"module.{name}": value + 1 for name, value in model.state_dict().items()})
    assert [(parameter.name, parameter.largest_change) for parameter in distance.parameters] == [
        ("weight", pytest.approx(1.0)),
        ("bias", pytest.approx(1.0)),
    ]


def test_the_radius_is_a_bound_of_the_row_norm():
    parameters = make_parameters(torch.float64)
    anchor = clone(parameters)
    optimizer = FTPAdamW(parameters.items(), lr=0.1)
    train(optimizer, parameters, make_gradients(parameters, 20))
    for name, known in optimizer.radii().items():
        found = parameter_distance(name, parameters[name], anchor[name])
        assert 0 < found.row_norm <= known.radius * (1 + 1e-9)


def test_a_checkpoint_of_something_else_is_refused():
    with pytest.raises(ValueError, match=r"pretrained= holds none of the model's parameters.*merge_and_unload"):
        model_distance(nn.Linear(2, 2), {"other": torch.zeros(2)})
