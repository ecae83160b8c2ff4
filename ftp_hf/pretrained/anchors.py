"""Where anchors (pre-trained weights) come from: a mapping of tensors, or a safetensors checkpoint read one by one."""

import dataclasses
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ftp_hf.common.names import base_name, canonical_name
from ftp_hf.projection.sharding import whole_tensors

from .converted import ConvertedTensor
from .modules import module_folders

__all__ = ["CheckpointAnchors", "check_one_name_each", "has_whole_weights", "open_anchors", "validate_anchors"]

_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"


class CheckpointAnchors(Mapping[str, Tensor]):
    """
    The tensors of a safetensors checkpoint by parameter name, each read from disk when it is asked for.

    A name is looked up as it is, then without its first component, so that a task model (`bert.encoder.…`) finds its
    tensors in the checkpoint of the base model (`encoder.…`), as `from_pretrained` does; and then the other way round,
    if only one tensor of the checkpoint goes by the shortened name. Of a given model with a base model, the name of
    this alone is left out: the norm of a head (`classifier.layernorm`) is not that of the base model (`layernorm`).
    Tensors that `from_pretrained` renames, merges or splits are found under their new name too, if the folder holds
    the `config.json` that says which model it is; iterating gives both names. A folder of sentence-transformers is
    read with all of its modules. What no checkpoint of the model holds, because the model computes it itself, has the
    model's value.

    Args:
        path (`str` or `Path`): a folder written by `save_pretrained` (one file or shards), or a safetensors file.
        model (`nn.Module`, *optional*): the model that the tensors are for, if it is at hand.

    Raises:
        FileNotFoundError: `path` holds no safetensors weights.
        ValueError: a file of them is damaged.
    """

    def __init__(self, path: str | Path, model: nn.Module | None = None) -> None:
        # Here, because it imports transformers, which the optimizers do without.
        from .renaming import converted_names, rebuilt_parameters  # noqa: PLC0415

        self._place_of: dict[str, tuple[Path, str]] = {}
        self._source_of: dict[str, str | ConvertedTensor] = {}
        modules = {} if model is None else dict(model.named_modules())
        for prefix, part in _modules_of(Path(path).absolute()).items():
            file_of = _locate_tensors(part)
            self._place_of |= {f"{prefix}{key}": (file, key) for key, file in file_of.items()}
            sources = {key: key for key in file_of} | converted_names(
                part if part.is_dir() else part.parent, list(file_of), modules.get(prefix.removesuffix("."))
            )
            self._source_of |= {f"{prefix}{name}": _within(prefix, source) for name, source in sources.items()}
        base = getattr(model, "base_model_prefix", "")
        self._base = base if base and hasattr(model, base) else None
        sources_of = defaultdict(set)
        for name, source in self._source_of.items():
            if "." in name:
                sources_of[name.partition(".")[2]].add(source)
        self._source_of_shortened = {short: held.pop() for short, held in sources_of.items() if len(held) == 1}
        rebuilt = {} if model is None else rebuilt_parameters(model)
        named = {base_name(canonical_name(name)): parameter for name, parameter in rebuilt.items()}
        self._rebuilt = {name: parameter for name, parameter in named.items() if name not in self}
        self._source_of |= {name: name for name in self._rebuilt}

    def _source(self, name: str) -> str | ConvertedTensor | None:
        for source_of, candidate in (
            (self._source_of, name),
            (self._source_of, self._within_base(name)),
            (self._source_of_shortened, name),
        ):
            if candidate in source_of:
                return source_of[candidate]
        return None

    def _within_base(self, name: str) -> str:
        first, _, rest = name.partition(".")
        return rest if self._base in (None, first) else name

    def source(self, name: str) -> str | ConvertedTensor:
        """What of the checkpoint a name stands for: the same for two names of one tensor. Raises `KeyError` if nothing."""
        source = self._source(name)
        if source is None:
            raise KeyError(name)
        return source

    def __getitem__(self, name: str) -> Tensor:
        source = self.source(name)
        return self._read(source) if isinstance(source, str) else source.make(self._read)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, from the headers of the files alone. Raises `KeyError` as `self[name]` does."""
        source = self.source(name)
        return tuple((self._outline(source) if isinstance(source, str) else source.make(self._outline)).shape)

    def _read(self, key: str) -> Tensor:
        if key in self._rebuilt:
            return whole_tensors([self._rebuilt[key].detach()])[0].clone()
        file, name = self._place_of[key]
        with _opened(file) as checkpoint:
            tensor: Tensor = checkpoint.get_tensor(name)
        return tensor

    def _outline(self, key: str) -> Tensor:
        if key in self._rebuilt:
            return torch.empty(self._rebuilt[key].shape, device="meta")
        file, name = self._place_of[key]
        with _opened(file) as checkpoint:
            return torch.empty(checkpoint.get_slice(name).get_shape(), device="meta")

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._source(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._source_of)

    def __len__(self) -> int:
        return len(self._source_of)


def _modules_of(path: Path) -> dict[str, Path]:
    """The folder of each module with weights by its name with a dot, or of a checkpoint that is no list of modules: `""`."""
    folder_of = {prefix: path / folder for prefix, folder in module_folders(path).items()}
    held = {prefix: folder for prefix, folder in folder_of.items() if has_whole_weights(folder)}
    # The checkpoint of a bare model of transformers lies in the same folder.
    return held or {"": path}


def has_whole_weights(folder: Path) -> bool:
    """Whether a folder holds safetensors weights of a whole model, not those of an adapter or of a part of a sharded state."""
    return any((folder / name).is_file() for name in (_WEIGHTS, _INDEX))


def _within(prefix: str, source: str | ConvertedTensor) -> str | ConvertedTensor:
    if isinstance(source, str):
        return f"{prefix}{source}"
    return dataclasses.replace(source, keys=tuple(f"{prefix}{key}" for key in source.keys))


def _locate_tensors(path: Path) -> dict[str, Path]:
    if path.is_dir() and (path / _INDEX).is_file():
        shard_of: dict[str, str] = json.loads((path / _INDEX).read_text())["weight_map"]
        return {name: path / shard for name, shard in shard_of.items()}
    file = path / _WEIGHTS if path.is_dir() else path
    if not file.is_file() or file.suffix != ".safetensors":
        raise FileNotFoundError(
            f"anchors={str(path)!r} holds no safetensors weights: expected a safetensors file, or a folder with "
            f"{_WEIGHTS} or {_INDEX}. Save the pre-trained model with save_pretrained() and pass that folder."
        )
    with _opened(file) as checkpoint:
        return dict.fromkeys(checkpoint.keys(), file)


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    try:
        with safe_open(file, framework="pt") as checkpoint:
            yield checkpoint
    except SafetensorError as error:
        raise ValueError(f"{file} is cut short or damaged ({error}): save or download it again") from error


def open_anchors(anchors: Mapping[str, Tensor] | str | Path) -> Mapping[str, Tensor]:
    """
    Anchors by parameter name, without wrapper prefixes, from a mapping or the path of a checkpoint. A checkpoint's tensors are
    read on access.

    Raises:
        TypeError: they are neither.
        FileNotFoundError: as [`CheckpointAnchors`].
    """
    if isinstance(anchors, CheckpointAnchors):
        return anchors
    if isinstance(anchors, Mapping):
        return {canonical_name(name): tensor for name, tensor in anchors.items()}
    if isinstance(anchors, str | Path):
        return CheckpointAnchors(anchors)
    raise TypeError(
        f"anchors must be a mapping from name to tensor or the path of a checkpoint, got {type(anchors).__name__}"
    )


def check_one_name_each(checkpoint: CheckpointAnchors, names: Iterable[str]) -> None:
    """
    Check that no two parameters would take the same tensor of a checkpoint: of a model with two encoders, a checkpoint of one
    does not show which it is. Names that it does not hold are left out.

    Raises:
        ValueError: names the tensors of the checkpoint, and the parameters of each.
    """
    names_of = defaultdict(list)
    for name in names:
        if name in checkpoint:
            names_of[checkpoint.source(name)].append(name)
    shared = [
        f"{source if isinstance(source, str) else source.name} for {' and '.join(found)}"
        for source, found in names_of.items()
        if len(found) > 1
    ]
    if shared:
        raise ValueError(
            f"anchors do not fit the model: the checkpoint holds one tensor for several parameters: {', '.join(shared)}. "
            "Save the pre-trained model whole, with all of its parts, and pass that; or list the parameters that are not "
            "in the checkpoint in exclude="
        )


def validate_anchors(
    anchors: Mapping[str, Tensor], parameters: Iterable[tuple[str, Tensor]], pretrained_rows: Mapping[str, int]
) -> None:
    """
    Check that every parameter has an anchor of its own, of its shape and with finite values, holding one at a time.

    Args:
        anchors (`Mapping[str, Tensor]`): as [`open_anchors`] returns them.
        parameters (iterable of `(str, Tensor)`): the projected parameters.
        pretrained_rows (mapping from `str` to `int`): how many of the first rows of some of them are projected. Their anchors
            have these rows, and may have more.

    Raises:
        ValueError: names every parameter whose anchor is missing, has another shape, or is not finite; or as
            [`check_one_name_each`].
    """
    parameters = list(parameters)
    if isinstance(anchors, CheckpointAnchors):
        check_one_name_each(anchors, (name for name, _ in parameters))
    missing, misshapen, not_finite = [], [], []
    for name, parameter in parameters:
        try:
            anchor = anchors[name]
        except KeyError:
            missing.append(name)
            continue
        count = pretrained_rows.get(name)
        if anchor.shape != parameter.shape and not _has_rows(anchor, parameter, count):
            misshapen.append(f"{name} (anchor {tuple(anchor.shape)}, parameter {tuple(parameter.shape)})")
        elif not torch.isfinite(anchor if count is None else anchor[:count]).all():
            not_finite.append(name)
    problems = [
        f"{problem}: {', '.join(names)}"
        for problem, names in (
            ("no anchor", missing),
            ("wrong shape", misshapen),
            ("NaN or infinite values", not_finite),
        )
        if names
    ]
    if problems:
        raise ValueError(
            f"anchors do not fit the model: {'; '.join(problems)}. List parameters that have no pre-trained value in "
            "exclude=, and take the anchors from the checkpoint that the model was loaded from."
        )


def _has_rows(anchor: Tensor, parameter: Tensor, count: int | None) -> bool:
    same = anchor.ndim == parameter.ndim and anchor.shape[1:] == parameter.shape[1:]
    return same and count is not None and anchor.shape[0] >= count
