"""Processes that do not fit together, losses that are not finite on one of them, and strategies that are refused."""

import json
from types import SimpleNamespace

import pytest
from accelerate.utils import DistributedType

from ftp_hf.trainer.strategy import check_strategy
from tests.support import launch
from tests.support.models import save_bert


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What each of two processes was told, by the situation."""
    folder = tmp_path_factory.mktemp("misfits")
    for seed, name in enumerate(("pretrained", "other")):
        save_bert(folder / name, seed=seed, num_hidden_layers=1)
    launch.fork("misfits.py", folder / "pretrained", folder / "other", folder, processes=2)
    first, second = (json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2))
    assert first == second, "all processes are told the same"
    return first


@pytest.mark.slow
@pytest.mark.parametrize("situation", ["fitting", "fsdp"])
def test_processes_that_fit_train(said, situation):
    assert said[situation] is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("situation", "reason"),
    [
        ("kappa", "kappa of param group 0"),
        ("anchors", "the anchor of bert."),
        ("weights under FSDP2", "the weights of bert."),
    ],
)
def test_processes_that_would_project_differently_stop(said, situation, reason):
    assert said[situation].startswith(
        f"ValueError: process 1 would project differently from process 0, because of {reason}"
    )


@pytest.mark.slow
def test_under_ddp_the_weights_of_the_first_process_count(said):
    assert said["weights under DDP"] is None


@pytest.mark.slow
@pytest.mark.parametrize("situation", ["nan", "inf", "nan under FSDP2"])
def test_a_loss_that_is_not_finite_on_one_process_ends_the_run_on_all(said, situation):
    assert said[situation].startswith("FloatingPointError: training diverged: after 3 steps the weights of bert.")


@pytest.mark.slow
def test_lost_weights_are_not_saved(said):
    assert said["checkpoints"] == ["checkpoint-2"]


@pytest.mark.slow
def test_sharding_that_cannot_be_had_is_refused(said):
    assert said["fsdp on the CPU"].startswith(
        "ValueError: FSDP was asked for, but Accelerate would train with MULTI_CPU"
    )


@pytest.mark.slow
def test_new_parameters_that_only_one_process_has_loaded_are_refused(said):
    told = said["new head under efficient loading"]
    assert told.startswith("ValueError: only the first process has loaded classifier.weight, classifier.bias: ")


@pytest.mark.parametrize(
    ("distributed_type", "version", "flattening"),
    [(DistributedType.FSDP, 1, "FSDP1"), (DistributedType.DEEPSPEED, None, "DeepSpeed")],
)
def test_strategies_that_flatten_tensors_are_refused(distributed_type, version, flattening):
    # Neither can be set up without a GPU.
    plugin = SimpleNamespace(fsdp_version=version)
    accelerator = SimpleNamespace(distributed_type=distributed_type, state=SimpleNamespace(fsdp_plugin=plugin))
    with pytest.raises(ValueError, match=f"{flattening} flattens the tensors.*FSDP2 shards whole tensors"):
        check_strategy(accelerator)
