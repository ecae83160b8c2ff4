"""Tensors that are computed together."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

__all__ = ["Batch", "remembered"]

_T = TypeVar("_T")


class Batch(list[Any]):
    """
    Tensors of one kind ([`ProjectedTensor`] or [`LowRankTensor`]), param group, device and dtype, all of them sharded or none.
    It is used only while their memory stays where it is, so that it can cache what depends on that.
    """

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[Hashable, Any] = {}


def remembered(batch: Sequence[Any], key: Hashable, find: Callable[[], _T]) -> _T:
    """
    A value that depends on the memory of the tensors of a batch alone. A [`Batch`] keeps it under its key, another sequence
    does not.
    """
    if not isinstance(batch, Batch):
        return find()
    if key not in batch.known:
        batch.known[key] = find()
    return batch.known[key]  # type: ignore[no-any-return]
