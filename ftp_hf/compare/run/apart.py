"""Whether the data sets of a comparison have rows of their own: those that a model learnt from would flatter it in a test."""

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ftp_hf.common.files import checksum
from ftp_hf.tasks.specs import DatasetSpec

__all__ = ["check_names_apart", "check_rows_apart"]

_LEARNT_FROM = {"train", "validation"}


def check_names_apart(content: Mapping[str, Any]) -> None:
    """
    Raise if two keys name the same rows, in whatever spelling, or one of them is learnt from and one has all of a file of
    which the other has some. No file is read.

    Args:
        content (mapping): of a config.

    Raises:
        ValueError: two of them do.
    """
    for keys, one, other in _pairs(content):
        has_all = None in (one.column, other.column) and _is_learnt_from(keys)
        if _place(one) == _place(other) and (has_all or _filter(one) == _filter(other)):
            raise _same(keys, other)


def check_rows_apart(content: Mapping[str, Any]) -> None:
    """
    Raise if two keys name files of the same contents, or one of them is learnt from and they have rows of a file in common.

    Args:
        content (mapping): of a config, whose data sets can be loaded.

    Raises:
        ValueError: two of them do.
    """
    for keys, one, other in _pairs(content):
        if (_place(one) == _place(other) or _is_copy(Path(one.source), Path(other.source))) and (
            _filter(one) == _filter(other) or (_is_learnt_from(keys) and one.rows() & other.rows())
        ):
            raise _same(keys, other)


def _pairs(content: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], DatasetSpec, DatasetSpec]]:
    """The keys of two data sets, and what they name."""
    single = [(key, content[key]) for key in ("train", "validation", "test") if content.get(key)]
    several = [(kind, text) for kind in ("ood", "retained") for text in content.get(kind, [])]
    named = [(key, DatasetSpec.parse(text)) for key, text in (*single, *several)]
    for (key, one), (other_key, other) in itertools.combinations(named, 2):
        yield (key, other_key), one, other


def _is_learnt_from(keys: tuple[str, str]) -> bool:
    return not _LEARNT_FROM.isdisjoint(keys)


def _place(spec: DatasetSpec) -> tuple[str | Path, str | None, str]:
    path = Path(spec.source)
    return path.resolve() if path.exists() else spec.source, spec.config, spec.split


def _filter(spec: DatasetSpec) -> tuple[str | None, str | None]:
    return spec.column, spec.value


def _is_copy(one: Path, other: Path) -> bool:
    if not (one.is_file() and other.is_file()) or one.stat().st_size != other.stat().st_size:
        return False
    return checksum(one) == checksum(other)


def _same(keys: tuple[str, str], other: DatasetSpec) -> ValueError:
    where = f"{other.source}{f'?{other.column}={other.value}' if other.column else ''}"
    return ValueError(f"{' and '.join(keys)} name the same data, {where!r}: each needs rows of its own")
