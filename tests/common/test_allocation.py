import resource
import sys

import pytest
import torch

from ftp_hf.common.allocation import keep_freed_memory


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
def test_memory_that_was_freed_is_not_asked_for_again():
    keep_freed_memory()
    pages = 2**26 // resource.getpagesize()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(2**24)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 5 * pages
