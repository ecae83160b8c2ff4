"""Whether the name of a model is a folder that holds one, before a library takes it for a name on the Hub."""

from pathlib import Path

from ftp_hf.common.privacy import is_local_path

__all__ = ["check_model_folder"]

_SLASHES = 1
"""At most, in a name on the Hub."""


def check_model_folder(name: str) -> None:
    """
    Raise for the path of a model that is not one: the libraries would take it for a name on the Hub. Hub names pass.

    Raises:
        FileNotFoundError: there is no such folder, or it holds neither a model's config nor an adapter's.
    """
    folder = Path(name)
    if folder.is_file():
        raise FileNotFoundError(f"{name} is a file, not the folder of a model")
    if folder.is_dir():
        if not any((folder / config).is_file() for config in ("config.json", "adapter_config.json", "modules.json")):
            raise FileNotFoundError(f"the folder {name} holds no model: it has no config.json")
    elif is_local_path(name) or name.count("/") > _SLASHES:
        raise FileNotFoundError(f"the folder {name} does not exist")
