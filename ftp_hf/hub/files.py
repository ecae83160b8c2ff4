"""Which files of a finished run go to the Hub, and what must not be in them."""

import json
import mmap
import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from huggingface_hub.constants import SAFETENSORS_INDEX_FILE

from ftp_hf.common.folder import CARD, MODULES, PICTURE, RESULTS
from ftp_hf.common.privacy import find_local_path, holds_token

__all__ = ["check_files", "is_model_file", "is_run_file", "list_run_files"]

_WEIGHTS = ("*.safetensors",)
_CONFIGS = ("config.json", "adapter_config.json")
_MODEL = (
    *_WEIGHTS,
    SAFETENSORS_INDEX_FILE,
    *_CONFIGS,
    "generation_config.json",
    # tokenizers and processors
    "*tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "*.model",
    "*.spm",
    "chat_template.jinja",
    "additional_chat_templates/*.jinja",
    "*processor_config.json",
)
_WHOLE_MODEL = (
    *_MODEL,
    # sentence-transformers, which without its list of modules takes means of tokens, whatever the model was trained with
    MODULES,
    "config_sentence_transformers.json",
    "sentence_*_config.json",
)
# A list of what goes, not of what stays: optimizer states, logs, locks, training_args.bin (a pickle with local paths) and
# whatever else a run folder holds stay. A slash is part of a name here: patterns without one are for the top folder.
_ALLOWED = (
    *_WHOLE_MODEL,
    # what was measured
    RESULTS,
    ".eval_results/*.yaml",
    PICTURE,
)
# Some modules' configs have names of their own (`lstm_config.json`).
_OF_MODULES = (*_MODEL, "*_config.json")
_MODULE_FOLDER = re.compile(r"\d+_\w+")  # as sentence-transformers names them: `1_Pooling`
_IMAGES = {".gif", ".jpeg", ".jpg", ".png", ".svg", ".webp"}
_IMAGE_IN_CARD = re.compile(r"!\[[^\]]*\]\(\s*<?([^)\s>]+)|<img[^>]*?\bsrc=[\"']([^\"']+)")

_TEXT = {".jinja", ".json", ".md", ".svg", ".txt", ".yaml", ".yml"}
# Their words come from the tokenizer's training data, not from this machine.
_VOCABULARIES = {"added_tokens.json", "merges.txt", "tokenizer.json", "vocab.json", "vocab.txt"}


def list_run_files(run: Path) -> list[str]:
    """
    The files of a finished run that belong on the Hub, sorted, as paths relative to `run`, its `output_dir`: model (of
    sentence-transformers with all of its modules), tokenizer or processor, card, the pictures that the card shows, and results.

    Raises:
        ValueError: there is no whole model in the folder.
    """
    if not run.is_dir():
        raise ValueError(f"{run} is not a folder: name the output_dir of a finished run")
    inside = (path.relative_to(run).as_posix() for path in _walk(run))
    found = {name for name in inside if _matches(name, _ALLOWED)}
    if not any(_matches(name, _WEIGHTS) for name in found) or found.isdisjoint(_CONFIGS):
        raise ValueError(
            f"{run} holds no finished model ({' or '.join(_CONFIGS)} beside *.safetensors): name the folder that "
            "trainer.save_model() wrote, not one of checkpoints only"
        )
    if SAFETENSORS_INDEX_FILE in found:
        shards = set(json.loads((run / SAFETENSORS_INDEX_FILE).read_text())["weight_map"].values())
        if missing := sorted(shards - found):
            raise ValueError(f"{run} is not whole: {SAFETENSORS_INDEX_FILE} names {', '.join(missing)}: save it again")
    if MODULES in found:
        found |= _module_files(run)
    if (run / CARD).is_file():
        found |= {CARD, *_pictures(run)}
    return sorted(found)


def is_run_file(name: str) -> bool:
    """Whether a path in the repository or in a run folder is of a kind that a push replaces (the card is not)."""
    return is_model_file(name) or _matches(name, _ALLOWED)


def is_model_file(name: str) -> bool:
    """Whether a path in the folder of a model is of its weights, configs, tokenizer or processor, its own or of a module."""
    path = PurePosixPath(name)
    in_module = bool(_MODULE_FOLDER.fullmatch(str(path.parent))) and _matches(path.name, _OF_MODULES)
    return in_module or _matches(name, _WHOLE_MODEL)


def check_files(run: Path, names: Iterable[str], secrets: Mapping[str, str]) -> None:
    """
    Refuse files of a run that hold an absolute path of this machine, or a secret; `secrets` has a name for each, which the
    error shows.

    Raises:
        ValueError: names the file and what is in it, but not the secret.
    """
    for name in names:
        path = run / name
        if secret := _find_secret(path, secrets):
            raise ValueError(f"{path} holds {secret}, which everybody who reads the repository would see: remove it")
        if local := _find_local_path(path):
            raise ValueError(
                f"{path} names {local!r}, a path of this machine, which means nothing on another: replace it by a Hub "
                "name or a relative path"
            )


def _walk(run: Path) -> Iterable[Path]:
    # Two levels are all that the patterns reach, and checkpoints are large.
    for path in run.iterdir():
        yield from [path] if path.is_file() else (inner for inner in path.glob("*") if inner.is_file())


def _matches(name: str, patterns: Iterable[str]) -> bool:
    path = PurePosixPath(name)
    return any(
        path.parent == PurePosixPath(pattern).parent and fnmatchcase(path.name, PurePosixPath(pattern).name)
        for pattern in patterns
    )


def _module_files(run: Path) -> set[str]:
    listed = [PurePosixPath(module["path"]) for module in json.loads((run / MODULES).read_text(encoding="utf-8"))]
    for folder in listed:
        # A link leads out as well as a path does.
        inside = ".." not in folder.parts and (run / folder).resolve().is_relative_to(run.resolve())
        if not inside or not (run / folder).is_dir():
            raise ValueError(f"{run} is not whole: {MODULES} names '{folder}', which is no folder in it: save it again")
    return {
        (folder / path.name).as_posix()
        for folder in listed
        if folder.parts
        for path in (run / folder).glob("*")
        if path.is_file() and _matches(path.name, _OF_MODULES)
    }


def _pictures(run: Path) -> set[str]:
    shown = ("".join(match) for match in _IMAGE_IN_CARD.findall((run / CARD).read_text(encoding="utf-8")))
    paths = (PurePosixPath(name) for name in shown if "://" not in name)
    return {
        path.as_posix()
        for path in paths
        if path.suffix.lower() in _IMAGES
        and not path.is_absolute()
        and ".." not in path.parts
        and (run / path).is_file()
    }


def _find_secret(path: Path, secrets: Mapping[str, str]) -> str | None:
    if not path.stat().st_size:
        return None
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for name, value in secrets.items():
            if content.find(value.encode()) >= 0:
                return f"the value of {name}"
        return "a token of the Hub (hf_…)" if holds_token(content) else None


def _find_local_path(path: Path) -> str | None:
    if path.suffix not in _TEXT or path.name in _VOCABULARIES:
        return None
    return find_local_path(path.read_text(encoding="utf-8", errors="replace"))
