"""Texts are cut where a model has no places for more tokens, and more than that are not asked for in vain."""

import pytest
import torch
from datasets import ClassLabel, Dataset, Features, List, Value
from peft import LoraConfig, get_peft_model
from transformers import AutoModel, DebertaV2Config, MPNetConfig, RobertaConfig

from ftp_hf.tasks import TextOptions, TextTask
from ftp_hf.tasks.positions import places_of, within_places
from ftp_hf.tasks.tagging import TaggingOptions, TaggingTask
from tests.support.models import save_bert, tiny_gpt2_config, tiny_llama_config
from tests.support.tiny_data import WORDS

LONG = " ".join(["film"] * 40)
SMALL = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8, "vocab_size": 50}


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return str(save_bert(tmp_path_factory.mktemp("bert"), words=WORDS))  # of 16 places


def test_texts_are_cut_to_the_places_of_the_model(bert):
    data = Dataset.from_dict({"text": [LONG], "label": [0]})
    task = TextTask(bert, labels=["bad", "good"])
    batch = task.collator(list(task.prepare(data, corrupt=lambda text: f"{text} {text}")))
    assert batch["input_ids"].shape == (1, 16)
    assert task.load_model()(**batch).logits.shape == (1, 2)
    features = Features({"tokens": List(Value("string")), "label": List(ClassLabel(names=["O"]))})
    sentence = Dataset.from_dict({"tokens": [LONG.split()], "label": [[0] * 40]}, features)
    tagger = TaggingTask(bert, labels=["O"])
    assert tagger.load_model()(**tagger.collator(list(tagger.prepare(sentence)))).logits.shape == (1, 16, 1)


@pytest.mark.parametrize(("task", "options"), [(TextTask, TextOptions), (TaggingTask, TaggingOptions)])
def test_more_than_the_places_of_the_model_are_refused(bert, task, options):
    assert task(bert, options(max_length=16)).options.max_length == 16
    with pytest.raises(ValueError, match=r"has places for 16 tokens, fewer than max_length, 1024: lower max_length$"):
        task(bert, options(max_length=1024))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (RobertaConfig(max_position_embeddings=34, **SMALL), 32),
        (MPNetConfig(max_position_embeddings=34, **SMALL), 32),
        (tiny_gpt2_config(n_positions=64), 64),
        (DebertaV2Config(max_position_embeddings=64, position_biased_input=False, **SMALL), None),
        (tiny_llama_config(), None),
    ],
    ids=["two of no token", "its kin", "others' name", "none needed", "computed"],
)
def test_places_are_those_that_tokens_have(tmp_path, config, expected):
    config.save_pretrained(tmp_path)
    assert places_of(str(tmp_path)) == expected
    model = AutoModel.from_config(config).eval()
    model(torch.full((1, expected or 128), 5))
    if expected is not None:
        with pytest.raises((IndexError, RuntimeError)):
            model(torch.full((1, expected + 1), 5))


def test_an_adapter_has_the_places_of_its_base(bert, tmp_path):
    task = TextTask(bert, labels=["bad", "good"])
    adapted = get_peft_model(task.load_model(), LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query"]))
    adapted.save_pretrained(tmp_path)
    task.processor.save_pretrained(tmp_path)
    assert TextTask(str(tmp_path), labels=task.labels).options.max_length == 16


def test_a_folder_without_a_config_says_nothing(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    assert places_of(str(tmp_path)) is None
    assert within_places(TextOptions(max_length=999), "max_length", str(tmp_path), None).max_length == 999
