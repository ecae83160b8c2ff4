import pytest

from ftp_hf.common.privacy import find_local_path, holds_token, is_local_path, is_secret, public_name


@pytest.mark.parametrize("path", ["/a/b", "./a", "../a", "~/a", "\\\\server\\a", "C:\\a\\b", "C:/a/b"])
def test_local_paths(path):
    assert is_local_path(path)
    assert public_name(path)[1] is False
    assert not set(public_name(path)[0]) & set("/\\")


@pytest.mark.parametrize("name", ["bert", "someone/encoder", "base_model:adapter:x", "https://a/b", "", None, ["/a"]])
def test_other_values_are_no_paths(name):
    assert not is_local_path(name)


def test_only_paths_that_are_there_are_of_this_machine(tmp_path):
    folder = tmp_path / "with a space" / "run"
    folder.mkdir(parents=True)
    assert find_local_path(f"saved in {folder}, not in /no/such/folder") == str(folder)
    assert find_local_path("/no/such/folder /usr/bin/env") is None


def test_secrets():
    assert is_secret("--hub_token")
    assert is_secret("api_key")
    assert not is_secret("eos_token")
    assert holds_token(b"token=hf_" + b"a" * 34)
    assert not holds_token(b"hf_device_map")
