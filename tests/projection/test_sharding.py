"""Sharded tensors take the steps of whole ones, on two and four processes: the golden trajectories, and ours."""

import functools
import json

import pytest
import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from ftp_hf.projection.sharding import Sharding
from tests.support import launch
from tests.support.trajectories import MANIFEST, TOLERANCE

pytestmark = pytest.mark.slow


def test_process_groups_that_are_made_anew_take_the_place_of_destroyed_ones(tmp_path):
    # As in a notebook that trains twice: the mesh is equal to the one before.
    for training in range(2):
        torch.distributed.init_process_group("gloo", f"file://{tmp_path}/{training}", rank=0, world_size=1)
        mesh = init_device_mesh("cpu", (1,))
        weight = distribute_tensor(torch.ones(4, 3), mesh, [Shard(0)])
        assert Sharding.of("weight", weight, 0).group is mesh.get_group()
        torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def stepped(tmp_path_factory):
    """Number of processes → what each of them found. Each number is launched once."""

    @functools.cache
    def run(processes):
        folder = tmp_path_factory.mktemp(f"on{processes}")
        launch.fork("sharded_steps.py", folder, processes=processes, timeout=600)
        return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(processes)]

    return run


@pytest.mark.parametrize(("processes", "count"), [(2, len(MANIFEST)), (4, 2)])
def test_golden_trajectories_in_shards(stepped, processes, count):
    for rank in stepped(processes):
        assert rank["world_size"] == processes
        assert len(rank["golden"]) == count
        for name, error in rank["golden"].items():
            assert error < TOLERANCE[MANIFEST[name]["dtype"]], name


@pytest.mark.parametrize("processes", [2, 4])
def test_shards_take_the_steps_of_the_whole(stepped, processes):
    first, *_ = ranks = stepped(processes)
    assert ("hsdp" in first["optimizers"]) == (processes == 4)
    for rank in ranks:
        for name, difference in rank["optimizers"].items():
            tolerance = 1e-14 if name == "float64" else 2e-6
            for value in ("weight", "radius", "deviation"):
                assert difference[value] < tolerance, (name, value)
            assert difference["anchor"] == 0, name
            # A norm that equals its radius but for the last digit may count as inside or outside.
            assert difference["on_boundary"] == 0 or name.endswith("from-elsewhere"), name
    assert any(difference["at_floor"] for difference in first["optimizers"].values())


@pytest.mark.parametrize("processes", [2, 4])
def test_an_update_in_factors_learns_by_the_same_share(stepped, processes):
    for rank in stepped(processes):
        assert rank["factors_by_share"]["radius"] > 1e-3
        assert rank["factors_by_share"]["difference"] < 1e-6


@pytest.mark.parametrize("processes", [2, 4])
def test_a_step_has_one_collective(stepped, processes):
    for rank in stepped(processes):
        for difference in rank["optimizers"].values():
            first, *others = difference["collectives"]
            assert first == 2
            assert set(others) == {1}


@pytest.mark.parametrize("processes", [2, 4])
def test_what_a_process_sends_is_16_bytes_a_tensor(stepped, processes):
    for rank in stepped(processes):
        assert rank["sent"] == {"tensors": rank["sent"]["tensors"], "bytes": 16 * rank["sent"]["tensors"]}


@pytest.mark.parametrize("processes", [2, 4])
def test_tensors_are_gathered_together(stepped, processes):
    for rank in stepped(processes):
        # One for each dtype.
        assert rank["gathered"] == {"equal": True, "tensors": 24, "collectives": 2}


def test_an_overflow_on_one_process_skips_the_step_on_all(stepped):
    for rank in stepped(2):
        assert rank["scaled_steps"] == [True, True, False, True]


def test_shardings_that_cut_rows_are_refused(stepped):
    refusals = stepped(2)[0]["refusals"]
    assert "w is sharded as (Shard(dim=1),): its rows (output units) are dimension 0" in refusals["columns"]
    assert "shard_placement_fn" in refusals["columns"]
    assert "Partial" in refusals["partial"]
    assert "set_optimizer_state_dict" in refusals["whole state"]
