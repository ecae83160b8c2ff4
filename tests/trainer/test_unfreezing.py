"""The callback of docs/trainer.md, which unfreezes a model while it is trained."""

import torch

from ftp_hf import FTPTrainer, projected_optimizer
from tests.support.equal import assert_equal, weights
from tests.support.pages import ROOT, blocks
from tests.support.trainers import arguments, load


def trainer_of(checkpoint, dataset, output_dir):
    (snippet,) = (text for text in blocks(ROOT / "docs" / "trainer.md", "python") if "class Unfreeze" in text)
    exec(snippet, page := {})  # noqa: S102 - that is what a reader does
    callback = page["Unfreeze"](("classifier", "bert.encoder.layer.1"), step=2)
    args = arguments(output_dir, max_steps=6, learning_rate=1e-2, save_strategy="steps", save_steps=1)
    return FTPTrainer(load(checkpoint), args, train_dataset=dataset, callbacks=[callback])


def test_layers_thaw_at_their_anchors_and_resumed_runs_end_where_the_whole_one_does(checkpoint, dataset, tmp_path):
    whole = trainer_of(checkpoint, dataset, tmp_path)
    start = weights(whole.model)
    whole.train()
    end = weights(whole.model)
    assert not torch.equal(
        end["bert.embeddings.word_embeddings.weight"], start["bert.embeddings.word_embeddings.weight"]
    )
    anchors = projected_optimizer(whole.optimizer).anchors()
    assert any(name.startswith("bert.embeddings") for name in anchors)
    assert all(torch.equal(anchor, start[name]) for name, anchor in anchors.items())
    halfway = load(tmp_path / "checkpoint-2")
    before = {name for name, value in weights(halfway).items() if not torch.equal(value, start[name])}
    assert before
    assert all(name.startswith(("classifier", "bert.encoder.layer.1")) for name in before)
    for step in (1, 4):
        resumed = trainer_of(checkpoint, dataset, tmp_path)
        resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
        assert_equal(weights(resumed.model), end)
