"""Models of several encoders: a checkpoint of one is the anchor of one, or of none."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import BertForMaskedLM, BertModel

from ftp_hf import FTPAdamW, FTPTrainer
from tests.support.equal import assert_equal, weights
from tests.support.models import tiny_bert_config
from tests.support.trainers import arguments


class Towers(nn.Module):
    """A query and a key encoder, as in dense retrieval."""

    def __init__(self, **encoders):
        super().__init__()
        for name, encoder in encoders.items():
            self.add_module(name, encoder)


def bert(**options):
    return BertModel(tiny_bert_config(**options))


AMBIGUOUS = (
    r"one tensor for several parameters: .*encoder\.layer\.1\.output\.dense\.weight for "
    r"q\.encoder\.layer\.1\.output\.dense\.weight and k\.encoder\.layer\.1\.output\.dense\.weight"
)


@pytest.fixture(params=["encoder", "with a head"])
def one_tower(request, tmp_path):
    model = bert() if request.param == "encoder" else BertForMaskedLM(tiny_bert_config())
    model.save_pretrained(tmp_path / "one")
    return tmp_path / "one"


@pytest.mark.parametrize(
    "towers", [lambda: {"q": bert(), "k": bert()}, lambda: {"q": bert(), "k": bert(num_hidden_layers=3)}]
)
def test_a_checkpoint_of_one_of_two_like_towers_is_refused(towers, tmp_path):
    bert().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=AMBIGUOUS):
        FTPAdamW(Towers(**towers()).named_parameters(), anchors=tmp_path)


def test_the_trainer_refuses_it_too(one_tower, tmp_path):
    trainer = FTPTrainer(Towers(q=bert(), k=bert()), arguments(tmp_path, ftp_anchors=str(one_tower)))
    with pytest.raises(ValueError, match=AMBIGUOUS):
        trainer.create_optimizer()


@pytest.mark.parametrize("inner", [False, True], ids=["outside", "deeper"])
def test_a_tensor_that_only_one_parameter_has_the_whole_name_of(inner, tmp_path):
    tensors = {"embeddings.weight": torch.zeros(3, 2)}
    save_file(tensors, tmp_path / "model.safetensors")
    model = nn.Module()
    model.embeddings = nn.Embedding(3, 2)
    model.decoder = nn.Module()
    model.decoder.embeddings = nn.Embedding(3, 2)
    model = Towers(model=model) if inner else model
    with pytest.raises(ValueError, match=r"anchors do not fit the model: .*decoder\.embeddings\.weight"):
        FTPAdamW(model.named_parameters(), anchors=tmp_path)


def test_one_tower_may_be_left_out(one_tower, tmp_path):
    model = Towers(q=bert(), k=bert())
    trainer = FTPTrainer(model, arguments(tmp_path, ftp_anchors=str(one_tower), ftp_exclude=["k.*", "*.pooler.*"]))
    projected = trainer.create_optimizer().projected_parameters()
    assert projected.keys() == {f"q.{name}" for name, _ in model.q.named_parameters() if "pooler" not in name}
    model.k.requires_grad_(False)
    trainer = FTPTrainer(model, arguments(tmp_path, ftp_anchors=str(one_tower), ftp_exclude=["*.pooler.*"]))
    assert trainer.create_optimizer().projected_parameters().keys() == projected.keys()


def test_a_checkpoint_of_both_is_taken(tmp_path):
    model = Towers(q=bert(), k=bert())
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    pretrained = weights(model)
    optimizer = FTPAdamW(model.named_parameters(), anchors=tmp_path)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert_equal(optimizer.anchors(), pretrained)
