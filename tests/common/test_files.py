import json
import shutil

import pytest
import torch
from transformers import AutoModelForSequenceClassification, BertForSequenceClassification

from ftp_hf.common.files import move_files, replacing
from tests.support.models import tiny_bert_config


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "results.json"
    with replacing(path) as part:
        part.write_text("first")
    with replacing(path) as part:
        part.write_text("second")
    with pytest.raises(TypeError), replacing(path) as part, part.open("w") as file:
        json.dump({"half": object()}, file)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"results.json": "second"}


@pytest.mark.parametrize("sizes", [(None, 10_000), (10_000, None), (10_000, 10_000), (10_000, 20_000)])
def test_shards_of_an_earlier_model_are_not_left(tmp_path, sizes):
    """`None` saves one file; the last model that was saved is the one that is loaded."""
    for seed, size in enumerate(sizes):
        torch.manual_seed(seed)
        model = BertForSequenceClassification(tiny_bert_config(num_hidden_layers=1))
        options = {} if size is None else {"max_shard_size": size}
        model.save_pretrained(tmp_path / "staging", **options)
        saved = {path.name for path in (tmp_path / "staging").iterdir()}
        (tmp_path / "model").mkdir(exist_ok=True)
        move_files(tmp_path / "staging", tmp_path / "model")
        shutil.rmtree(tmp_path / "staging")
        assert {path.name for path in (tmp_path / "model").iterdir()} == saved
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in model.state_dict().items())
