import gc
import resource
import sys

import pytest
import torch

from ftp_hf.compare.run.allocation import keep_freed_memory, leaving_out_what_stays


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
def test_memory_that_was_freed_is_not_asked_for_again():
    keep_freed_memory()
    pages = 2**26 // resource.getpagesize()
    cleared = []
    for _ in range(20):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(2**24)
        cleared.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    assert sorted(cleared)[10] < pages / 10  # not at first, where something small still lies behind


def looked_through(thing: object) -> bool:
    """Whether a garbage collection looks through `thing`."""
    return any(other is thing for other in gc.get_objects())


def test_what_stays_is_left_out_of_collections_once():
    frozen = gc.get_freeze_count()
    gc.unfreeze()
    try:
        stays: list[object] = [[]]
        assert looked_through(stays)
        with leaving_out_what_stays():
            assert gc.get_freeze_count() > 1000
            assert not looked_through(stays)
            comes: list[object] = [[]]
            with leaving_out_what_stays():
                assert not looked_through(stays)
                assert looked_through(comes)
            assert not looked_through(stays)
            assert looked_through(comes)
        assert gc.get_freeze_count() == 0
        assert looked_through(stays)
    finally:
        if frozen:
            gc.freeze()
