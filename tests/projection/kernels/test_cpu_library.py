"""The C++ kernels are compiled once for a kind of machine, and where they cannot be, torch's operations take their place."""

import errno
import logging
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import torch

from ftp_hf import FTPAdamW
from ftp_hf.projection.kernels import cpu_library as kernels_library
from ftp_hf.projection.kernels.cpu_library import library
from tests.support.problems import make_gradients, train

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="needs a C++ compiler"
)


@pytest.fixture(autouse=True)
def _fresh():
    """As in a process that has not taken a step yet; afterwards as it was."""
    loaded = library()
    library.cache_clear()
    yield
    library.cache_clear()
    assert loaded is None or library() is not None


@pytest.fixture
def compiled(monkeypatch, tmp_path):
    """Compiles in a cache of its own, when it is called; which of the compiler's calls made a library."""
    compiler = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))))
    log, script, source = tmp_path / "log", tmp_path / "compiler", tmp_path / "small.cpp"
    script.write_text(f'#!/bin/sh\necho "$@" >> {shlex.quote(str(log))}\nexec {compiler} "$@"\n')
    source.write_text('extern "C" int nothing() { return 0; }')  # compiled in no time
    monkeypatch.setattr(kernels_library, "_SOURCE", source)
    script.chmod(0o755)
    monkeypatch.setenv("CXX", str(script))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def load():
        library.cache_clear()
        log.write_text("")
        assert library() is not None
        return [line for line in log.read_text().splitlines() if " -o " in line]

    return load


@needs_compiler
def test_what_is_compiled_is_kept_for_other_processes(compiled, tmp_path):
    assert len(compiled()) == 1
    assert compiled() == []
    assert [file.suffix for file in (tmp_path / "cache" / "ftp_hf").iterdir()] == [".so"]


@needs_compiler
def test_a_damaged_file_is_made_again(compiled, monkeypatch, tmp_path):
    compiled()
    (kept,) = (tmp_path / "cache" / "ftp_hf").iterdir()
    damaged = tmp_path / "elsewhere" / "ftp_hf" / kept.name
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(kept.read_bytes()[:100])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    assert len(compiled()) == 1
    assert damaged.read_bytes() == kept.read_bytes()


@needs_compiler
def test_other_flags_and_other_processors_have_files_of_their_own(compiled, monkeypatch, tmp_path):
    compiled()
    monkeypatch.setattr(kernels_library, "_FLAGS", (*kernels_library._FLAGS, "-D__OTHER_INSTRUCTIONS__"))
    assert len(compiled()) == 1
    assert len(list((tmp_path / "cache" / "ftp_hf").iterdir())) == 2


@needs_compiler
def test_without_a_place_to_keep_it_each_process_compiles(compiled, tmp_path):
    (tmp_path / "cache").write_text("a file is in the way")
    assert len(compiled()) == 1
    assert len(compiled()) == 1


@needs_compiler
def test_a_full_disk_keeps_nothing_and_nobody_from_the_kernels(compiled, monkeypatch, tmp_path):
    def fill_up(source, folder):
        Path(folder, source.name).write_bytes(source.read_bytes()[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copy", fill_up)
    assert len(compiled()) == 1
    assert [*(tmp_path / "cache" / "ftp_hf").iterdir()] == []


@pytest.mark.parametrize(
    ("compiler", "reason"), [("", "no C++ compiler was found"), (f"{sys.executable} -c 1/0 #", "ZeroDivisionError")]
)
def test_without_a_compiler_the_results_are_the_same_and_the_log_says_so_once(compiler, reason, monkeypatch, caplog):
    def run():
        parameters = {f"w{i}": torch.nn.Parameter(torch.ones(50, 40)) for i in range(3)}
        optimizer = FTPAdamW(parameters.items(), lr=1e-2)
        train(optimizer, parameters, make_gradients(parameters, 10))
        return torch.stack(list(parameters.values())).detach()

    expected = run()
    library.cache_clear()
    with monkeypatch.context() as without, caplog.at_level(logging.WARNING):
        without.setenv("CXX", compiler)
        without.setenv("PATH", "")
        actual = run()
    torch.testing.assert_close(actual, expected, rtol=0, atol=2e-7)
    (record,) = [record for record in caplog.records if record.name == kernels_library.__name__]
    assert "several times slower" in record.getMessage()
    assert reason in record.getMessage()
