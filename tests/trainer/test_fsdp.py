"""FSDP2 through FTPTrainer: two and four processes train the model of one, each with its share of the state."""

import functools
import shutil

import pytest
import torch

from tests.support import launch

STEPS, BATCH = 30, 40
pytestmark = pytest.mark.slow
several = pytest.mark.parametrize("processes", [2, 4])


@pytest.fixture(scope="module")
def finetuned(tmp_path_factory):
    """Number of processes and flags → the folder, and what each process ended with. Each is launched once."""

    @functools.cache
    def run(processes, *flags, steps=STEPS):
        folder = tmp_path_factory.mktemp("run")
        flags = [*flags, "--steps", steps, "--global_batch", BATCH]
        launch.run("finetune.py", "--output", folder, *flags, processes=processes)
        return folder, [torch.load(folder / f"rank{rank}.pt") for rank in range(processes)]

    return run


SHARDED = {2: ("--fsdp", "full", "--save_steps", 10), 4: ("--fsdp", "sharded", "--save_steps", 10)}


def assert_same_training(actual, expected, weights, radii):
    assert actual["radii"].keys() == expected["radii"].keys()
    assert actual["radii"] == pytest.approx(expected["radii"], rel=radii)
    for name, weight in expected["weights"].items():
        assert (actual["weights"][name] - weight).norm() <= weights * weight.norm(), name
    for name, anchor in expected["anchors"].items():
        assert torch.equal(actual["anchors"][name], anchor), name


def assert_equal(actual, expected):
    assert actual["radii"] == expected["radii"]
    for part in ("weights", "anchors"):
        torch.testing.assert_close(actual[part], expected[part], rtol=0, atol=0)


@several
def test_weights_radii_and_anchors_are_those_of_one_process(finetuned, processes):
    _, (one,) = finetuned(1)
    _, ranks = finetuned(processes, *SHARDED[processes])
    assert len(ranks) == processes
    for rank in ranks:
        assert_same_training(rank, one, weights=2e-6, radii=1e-5)
        assert_equal(rank, ranks[0])


@several
def test_a_step_has_one_collective(finetuned, processes):
    _, ranks = finetuned(processes, *SHARDED[processes])
    for rank in ranks:
        assert rank["known_collective"] == ["c10d::allreduce_"], "the counter should see this one"
        assert rank["collectives_of_steps"] == [2] + [1] * (STEPS - 1)


@several
def test_the_state_of_a_process_is_its_share(finetuned, processes):
    _, (one,) = finetuned(1)
    _, ranks = finetuned(processes, *SHARDED[processes])
    for rank in ranks:
        assert rank["state_bytes"] <= one["state_bytes"] * {2: 0.55, 4: 0.30}[processes]
    # Only the six values of a radius, and torch's step number, are on every process.
    repeated = 24 * len(one["radii"]) + 4 * one["trained"]
    assert sum(rank["state_bytes"] for rank in ranks) == one["state_bytes"] + (processes - 1) * repeated


@pytest.mark.parametrize(("processes", "then"), [(2, 4), (4, 2)])
def test_another_number_of_processes_goes_on(finetuned, processes, then):
    folder, uninterrupted = finetuned(processes, *SHARDED[processes])
    checkpoint = folder / "trainer" / "checkpoint-20"
    _, resumed = finetuned(then, *SHARDED[processes][:2], "--resume", checkpoint)
    for rank in resumed:
        assert len(rank["rows"]) == STEPS - 20
        assert_same_training(rank, uninterrupted[0], weights=2e-6, radii=1e-5)


@pytest.mark.parametrize(
    ("processes", "damaged"), [(2, "optimizer.bin"), (4, "optimizer_0/__1_0.distcp")], ids=["full", "shard"]
)
def test_past_a_truncated_shard_the_run_is_the_uninterrupted_one_bit_for_bit(finetuned, tmp_path, processes, damaged):
    folder, uninterrupted = finetuned(processes, *SHARDED[processes])
    shutil.copytree(folder / "trainer", tmp_path / "trainer")
    shutil.rmtree(tmp_path / "trainer" / "checkpoint-30")
    file = tmp_path / "trainer" / "checkpoint-20" / damaged
    file.write_bytes(file.read_bytes()[:-100])
    flags = ["--output", tmp_path, *SHARDED[processes][:2], "--steps", STEPS, "--global_batch", BATCH, "--resume_last"]
    resumed = launch.run("finetune.py", *flags, processes=processes)
    assert damaged in resumed.stderr
    for number, expected in enumerate(uninterrupted):
        rank = torch.load(tmp_path / f"rank{number}.pt")
        assert len(rank["rows"]) == STEPS - 10
        assert_equal(rank, expected)


def test_tied_weights_and_weights_that_stay_gathered(finetuned):
    _, (one,) = finetuned(1, "--tied")
    _, ranks = finetuned(2, "--tied", "--fsdp", "full", "--keep_gathered")
    assert "model.embed_tokens.weight" in one["radii"]
    assert "lm_head.weight" not in one["radii"]
    for rank in ranks:
        assert_same_training(rank, one, weights=1e-5, radii=1e-4)


def test_bfloat16_policy(finetuned):
    _, (one,) = finetuned(1, "--bf16")
    _, ranks = finetuned(2, "--bf16", "--fsdp", "full")
    assert ranks[0]["weights"]["classifier.weight"].dtype == torch.float32
    for rank in ranks:
        # Gradients of eight bits are added in another order: 0.6 % and 1.3 % were measured.
        assert_same_training(rank, one, weights=0.02, radii=0.05)
        assert_equal(rank, ranks[0])


@pytest.mark.parametrize("flags", [(), ("--fsdp", "full")], ids=["ddp", "fsdp"])
def test_adapters(finetuned, flags):
    _, (one,) = finetuned(1, "--lora", steps=12)
    _, ranks = finetuned(2, "--lora", *flags, steps=12)
    assert len(one["radii"]) == 8
    assert one["anchors"] == {}
    for rank in ranks:
        assert_same_training(rank, one, weights=1e-5, radii=1e-5)
        assert_equal(rank, ranks[0])
        # Six values for each radius, beside torch's own state, on every process.
        assert rank["state_bytes"] < one["state_bytes"] * (0.55 if flags else 1.001)
        assert rank["collectives_of_steps"] == ([0] * 12 if not flags else [5] + [4] * 11)
