"""Where a run took place: the machine, the versions, the command and the commit."""

import platform
import shutil
import subprocess
import sys
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ftp_hf.common.privacy import public_command

if sys.platform != "win32":
    import resource

__all__ = ["commands", "commit", "peak_of_process", "processor", "versions"]

_LIBRARIES = ("ftp-hf", "transformers", "torch", "accelerate", "peft", "datasets", "tokenizers")


def peak_of_process() -> int | None:
    """The most memory that this process has held so far, in bytes; `None` on Windows."""
    if sys.platform == "win32":
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def processor(threads: int) -> str:
    """The processor's name, and with how many threads it was used."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"CPU ({names[0] if names else platform.machine()}), {threads} thread{'s' * (threads > 1)}"


def versions() -> dict[str, str]:
    """The versions of Python and of the libraries that a run depends on, where they are installed."""
    found = {library: number for library in _LIBRARIES if (number := _version(library))}
    return {"python": platform.python_version(), **found}


@cache
def _version(library: str) -> str | None:
    with suppress(PackageNotFoundError):
        return version(library)
    return None


def commands() -> list[str]:
    """The command that started this process, if it is a script or a module; without secrets and local paths."""
    if (module := getattr(sys.modules["__main__"], "__spec__", None)) is not None:
        return [public_command(["python", "-m", module.name.removesuffix(".__main__"), *sys.argv[1:]])]
    # For a notebook or `python -c` the command would say nothing.
    script = Path(sys.argv[0]) if sys.argv else Path()
    return [public_command(["python", *sys.argv])] if script.suffix == ".py" else []


def commit() -> str | None:
    """The commit that the script's repository is at; with `+` if it has changed since."""
    git, script = shutil.which("git"), Path(sys.argv[0] if sys.argv else "")
    if git is None or script.suffix != ".py" or not script.is_file():
        return None

    def ask(*command: str) -> str | None:
        finished = subprocess.run(  # noqa: S603 - a fixed command
            [git, "-C", str(script.resolve().parent), *command], capture_output=True, text=True, check=False
        )
        return finished.stdout.strip() if finished.returncode == 0 else None

    head = ask("rev-parse", "HEAD")
    return f"{head}+" if head and ask("status", "--porcelain", "--untracked-files=no") else head
