"""The mean of the last epochs: which weights are kept for it, when, and what becomes of them."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerControl, TrainerState

from ftp_hf.baselines import average_checkpoints
from ftp_hf.compare import ComparisonConfig, compare
from ftp_hf.compare.run.epochs import KeepEpochs, forget_epochs, kept_epochs
from ftp_hf.compare.run.folder import TRAINED, forget_weights
from ftp_hf.compare.run.plan import Run, averaged_epochs
from ftp_hf.compare.run.runner import Runner
from ftp_hf.hub.files import list_run_files
from tests.support.comparing import figures
from tests.support.tiny_data import image_config, write_config

PLAIN = Run("plain", {"learning_rate": 1e-2}, 0)


def load(folder, content, **training):
    content = {**content, "training": {**content["training"], **training}}
    return ComparisonConfig.load(write_config(folder, content))


def config_of(images, methods):
    return image_config(images, methods=methods, learning_rate=[1e-2], seeds=[0])


def save_checkpoint(run, step, value=None):
    folder = run / f"checkpoint-{step}"
    (folder / "2_Dense").mkdir(parents=True, exist_ok=True)
    weights = {"w": torch.tensor(float(step) if value is None else value)}
    for place in (folder, folder / "2_Dense"):
        save_file(weights, place / "model.safetensors")
    for name in ("optimizer.pt", "trainer_state.json", "modules.json"):
        (folder / name).touch()
    return TrainerState(global_step=step)


def values(run):
    return {int(epoch.name): load_file(epoch / "model.safetensors")["w"].item() for epoch in kept_epochs(run)}


def test_weights_of_the_last_checkpoints_are_kept_and_nothing_else(tmp_path):
    keep = KeepEpochs(tmp_path, 2)
    for step in (8, 9, 10):
        state = save_checkpoint(tmp_path, step)
        keep.on_save(None, state, TrainerControl())
    assert values(tmp_path) == {9: 9.0, 10: 10.0}
    kept = kept_epochs(tmp_path)[-1]
    files = {path.relative_to(kept).as_posix() for path in kept.rglob("*") if path.is_file()}
    assert files == {"model.safetensors", "modules.json", "2_Dense/model.safetensors"}
    forget_weights(tmp_path)
    assert kept_epochs(tmp_path) == []


def test_a_resumed_run_keeps_the_same(tmp_path):
    keep, control = KeepEpochs(tmp_path, 3), TrainerControl()
    for step in (1, 2):
        keep.on_save(None, save_checkpoint(tmp_path, step), control)
    reached = save_checkpoint(tmp_path, 3)  # killed before it was kept
    keep.on_train_begin(None, reached, control)
    assert values(tmp_path) == {1: 1.0, 2: 2.0, 3: 3.0}
    keep.on_train_begin(None, save_checkpoint(tmp_path, 2), control)  # the third turned out to be damaged
    assert values(tmp_path) == {1: 1.0, 2: 2.0}
    keep.on_save(None, save_checkpoint(tmp_path, 3, value=30.0), control)
    assert values(tmp_path) == {1: 1.0, 2: 2.0, 3: 30.0}
    keep.on_train_begin(None, TrainerState(global_step=0), control)
    assert values(tmp_path) == {}


def test_a_checkpoint_without_weights_of_the_model_is_refused_when_it_is_averaged(tmp_path):
    (tmp_path / "checkpoint-1").mkdir()
    KeepEpochs(tmp_path, 1).on_save(None, TrainerState(global_step=1), TrainerControl())
    with pytest.raises(ValueError, match="holds no safetensors weights of the whole model"):
        average_checkpoints(torch.nn.Linear(1, 1), kept_epochs(tmp_path))


def test_where_there_are_no_links_weights_are_copied(tmp_path, monkeypatch):
    monkeypatch.setattr("os.link", lambda *_: (_ for _ in ()).throw(OSError("no links")))
    KeepEpochs(tmp_path, 1).on_save(None, save_checkpoint(tmp_path, 5), TrainerControl())
    assert values(tmp_path) == {5: 5.0}
    forget_epochs(tmp_path)


def test_epochs_are_kept_of_the_base_alone_and_only_where_they_are_averaged(images, tmp_path):
    averaged = load(tmp_path, config_of(images, {"plain": {}, "ftp": {}, "average": {}}), num_train_epochs=3)
    assert {name: averaged_epochs(averaged, name) for name in averaged.methods} == {"plain": 3, "ftp": 0, "average": 0}
    others = load(tmp_path, config_of(images, {"plain": {}, "wise-ft": {}}), num_train_epochs=3)
    assert averaged_epochs(others, "plain") == 0
    assert PLAIN.folder(tmp_path, averaged) == PLAIN.folder(tmp_path, others), "finished runs are found again"


def test_more_epochs_than_there_are_cannot_be_averaged(images, tmp_path):
    config = load(tmp_path, config_of(images, {"plain": {}, "average": {"last": 3}}))
    runner, training = Runner(config, tmp_path), config.training
    for last, changed, message in (
        (
            3,
            {},
            "last = 3 needs the weights after 3 epochs, .* for 2: raise num_train_epochs under training, or lower last",
        ),
        (3, {"max_steps": 4, "gradient_accumulation_steps": 2}, "trained for 2"),  # 32 rows in steps of 2 × 8
        (1, {}, "last must be at least 2, got 1: the mean of one epoch is that epoch"),
        (2.5, {}, "last must be a whole number"),
    ):
        config.training = {**training, **changed}
        with pytest.raises(ValueError, match=message):
            runner.averaged.check(Run("average", {"last": last}, 0))
    config.training = {**training, "num_train_epochs": 2.5}
    runner.averaged.check(Run("average", {"last": 3.0}, 0))


@pytest.mark.slow
def test_it_is_the_mean_of_the_epochs_and_comes_out_the_same_however_it_was_reached(images, tmp_path):
    content = config_of(images, {"plain": {}, "average": {}})
    config = load(tmp_path, content, num_train_epochs=3)
    whole = compare(config, tmp_path / "whole")
    epochs = [
        load_file(epoch / "model.safetensors") for epoch in kept_epochs(PLAIN.folder(tmp_path / "whole/runs", config))
    ]
    assert len(epochs) == 3
    (chosen,) = whole.chosen_runs("average")
    kept = load_file(tmp_path / "whole" / chosen.folder / "model.safetensors")
    last = epochs[-int(chosen.setting["last"]) :]
    for name, tensor in kept.items():
        torch.testing.assert_close(tensor, sum(epoch[name] for epoch in last) / len(last))
    assert chosen.drift.relative > 0
    assert not list((tmp_path / "whole").glob("runs/*/checkpoint-*"))
    assert not [name for name in list_run_files(PLAIN.folder(tmp_path / "whole/runs", config)) if "_epochs" in name]

    # Interrupted in the second epoch.
    def interrupt(share):
        if share > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Runner(config, tmp_path / "interrupted" / "runs").train(PLAIN, interrupt)
    resumed = compare(config, tmp_path / "interrupted")
    assert figures(resumed) == figures(whole)

    # Trained before anything was averaged, and interrupted when it was trained again.
    alone = load(tmp_path, config_of(images, {"plain": {}}), num_train_epochs=3)
    compare(alone, tmp_path / "later")
    folder = PLAIN.folder(tmp_path / "later" / "runs", config)
    assert kept_epochs(folder) == []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ftp_hf.compare.run.epochs.KeepEpochs.on_save", stop_at(2))
        with pytest.raises(KeyboardInterrupt):
            compare(config, tmp_path / "later")
    assert not (folder / TRAINED).exists()
    assert figures(compare(config, tmp_path / "later")) == figures(whole)


def stop_at(epoch):
    kept = KeepEpochs.on_save

    def on_save(self, args, state, control, **options):
        kept(self, args, state, control, **options)
        if state.epoch >= epoch:
            raise KeyboardInterrupt

    return on_save
