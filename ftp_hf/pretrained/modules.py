"""Checkpoints of sentence-transformers: a list of modules, each with a folder of its own, and a router with one for each of its own."""

import json
from collections.abc import Iterator
from pathlib import Path

from ftp_hf.common.folder import MODULES

__all__ = ["ROUTER", "module_folders"]

ROUTER = "router_config.json"


def module_folders(checkpoint: Path) -> dict[str, str]:
    """
    The folders of the modules of a checkpoint: what the names of a module's parameters begin with → its folder within the
    checkpoint, `""` for the checkpoint itself. Empty for a checkpoint that is no list of modules.
    """
    if not (checkpoint / MODULES).is_file():
        return {}
    listed = json.loads((checkpoint / MODULES).read_text(encoding="utf-8"))
    return dict(found for module in listed for found in _folders(checkpoint, module["path"], f"{module['name']}."))


def _folders(checkpoint: Path, folder: str, prefix: str) -> Iterator[tuple[str, str]]:
    yield prefix, folder
    router = checkpoint / folder / ROUTER
    if router.is_file():
        for route, modules in json.loads(router.read_text(encoding="utf-8"))["structure"].items():
            for number, module in enumerate(modules):
                yield from _folders(
                    checkpoint, f"{folder}/{module}".lstrip("/"), f"{prefix}sub_modules.{route}.{number}."
                )
