"""The kernels of the CPU as a library: compiled when the first step is taken, and kept for the next ones."""

import ctypes
import functools
import hashlib
import logging
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ftp_hf.projection.equations import RADIUS_FLOOR

__all__ = ["PANEL", "library"]

logger = logging.getLogger(__name__)

PANEL = 512
"""Elements that lie side by side in rows which are worked on together, where a row is spread over many places."""

_SOURCE = Path(__file__).with_name("cpu.cpp")
# Not linked to an OpenMP of its own: the symbols are those of the one that torch has loaded, so that the kernels run in
# torch's threads, as many as torch.set_num_threads() says.
_FLAGS = (
    *("-std=c++17", "-O3", "-march=native", "-fopenmp", "-fno-math-errno", "-fno-exceptions"),
    *("-fPIC", "-shared", "-nodefaultlibs", f"-DRADIUS_FLOOR={RADIUS_FLOOR}f", f"-DPANEL={PANEL}"),
)


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels, or `None`, with one line in the log, where they cannot be had."""
    compilers = [os.environ["CXX"]] if os.environ.get("CXX") else [*filter(shutil.which, ("c++", "g++", "clang++"))]
    reason = "no C++ compiler was found (install g++, or set CXX)"
    for compiler in compilers:
        try:
            return _load([*shlex.split(compiler), *_FLAGS])
        except (OSError, subprocess.CalledProcessError) as error:  # noqa: PERF203 - there are three at most
            reason = f"{compiler} failed: {getattr(error, 'stderr', None) or error}".strip()
    logger.warning("The projection runs on torch's own operations, several times slower: %s", reason)
    return None


def _load(compiler: Sequence[str]) -> ctypes.CDLL:
    kept = _place(compiler)
    try:
        return ctypes.CDLL(str(kept))
    except OSError:  # it is not there yet, or damaged
        pass
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        made = Path(folder, kept.name)
        _run([*compiler, str(_SOURCE), "-o", str(made)])
        return ctypes.CDLL(str(kept if _keep(made, kept) else made))


def _keep(made: Path, kept: Path) -> bool:
    """Whether there was room for the next processes to find it."""
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as beside:
            # At once, as other processes compile the same at the same time.
            Path(shutil.copy(made, beside)).replace(kept)
    except OSError:
        return False
    return True


def _place(compiler: Sequence[str]) -> Path:
    # Machines that share a home can differ: what the compiler predefines tells its version and the processor's instructions.
    predefined = _run([*compiler, "-E", "-dM", "-x", "c++", os.devnull])
    key = hashlib.sha256("\0".join([*compiler, predefined, _SOURCE.read_text(encoding="utf-8")]).encode()).hexdigest()
    folder = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111 - raises nothing
    return Path(folder, "ftp_hf", f"kernels-{key[:16]}.so")


def _run(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603
