import pytest

from ftp_hf.checkpoints.lock import run_lock


def test_one_run_at_a_time(tmp_path):
    with run_lock(tmp_path / "run"):
        with pytest.raises(OSError, match=r"another run is training in .*give this run another output_dir"):
            run_lock(tmp_path / "run").__enter__()
        with run_lock(tmp_path / "other"):
            pass
    with run_lock(tmp_path / "run"):
        pass
