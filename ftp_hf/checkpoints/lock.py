"""One run at a time in a folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ftp_hf.common.folder import LOCK

__all__ = ["run_lock"]


@contextmanager
def run_lock(run: Path) -> Iterator[None]:
    """
    Hold a run's folder. The system lets go of it when the process ends, however it ends.

    Args:
        run (`Path`): the run's `output_dir`.

    Raises:
        OSError: another process holds it.
    """
    run.mkdir(parents=True, exist_ok=True)
    try:
        held = FileLock(run / LOCK).acquire(blocking=False)
    except Timeout:
        raise OSError(
            f"another run is training in {run}, and they would overwrite each other's checkpoints: give this run another "
            "output_dir, or wait until the other run has finished"
        ) from None
    with held:
        yield
