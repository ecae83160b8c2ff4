"""Tensors that are computed together."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

__all__ = ["Batch", "remembered"]

_T = TypeVar("_T")


class Batch(list[Any]):
    """
    Tensors of one kind ([`ProjectedTensor`] or [`LowRankTensor`]), param group, device and dtype, all of them sharded or none.
    It is used for as long as their memory stays where it is, so that what is found out of that is found out once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[Hashable, Any] = {}


def remembered(batch: Sequence[Any], key: Hashable, find: Callable[[], _T]) -> _T:
    """
    What is known of where the tensors of a batch are.

    Args:
        batch (sequence of tensors): a [`Batch`] remembers it, another sequence does not.
        key: of what is known.
        find (`Callable`): finds it out.
    """
    if not isinstance(batch, Batch):
        return find()
    if key not in batch.known:
        batch.known[key] = find()
    return batch.known[key]  # type: ignore[no-any-return]
