"""What every run of a comparison needs, made once and kept in memory for as long as there is room."""

import pickle
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, cast
from weakref import WeakKeyDictionary, finalize

from datasets import Dataset
from torch import Tensor, nn
from torch.utils.data import get_worker_info

from ftp_hf.tasks import Task
from ftp_hf.tasks.task import says_of_itself

__all__ = ["KeptAnswers", "KeptRows", "Room", "preparing_once"]

_BYTES, _TRAINING_BYTES = 2**31, 2**30


class Room:
    """
    A byte budget shared by several caches.

    Args:
        size (`int`, *optional*, defaults to 2 GiB): bytes.
    """

    def __init__(self, size: int = _BYTES) -> None:
        self._left = size

    def take(self, size: int) -> bool:
        """Whether there is room for so many bytes; if so, it is taken."""
        if fits := size <= self._left:
            self._left -= size
        return fits

    def give_back(self, size: int) -> None:
        """Bytes that were taken."""
        self._left += size


class KeptAnswers:
    """
    A cache of CPU tensors, as far as the budget allows.

    Args:
        room ([`Room`]): for them.
    """

    def __init__(self, room: Room) -> None:
        self._room, self._known = room, dict[Hashable, Tensor]()

    def get(self, key: Hashable, make: Callable[[], Tensor]) -> Tensor:
        """The tensor of a key. If it is not known it is made, and kept if there is room."""
        if key in self._known:
            return self._known[key]
        made = make()
        if self._room.take(made.nbytes):
            self._known[key] = made.cpu()
        return made


class KeptRows(Dataset):  # type: ignore[misc] # of no known type
    """
    A data set whose rows are made when they are read, each of them once for as long as there is room. The workers of a
    `DataLoader` keep none: they end with what they were asked for.

    Args:
        dataset (`Dataset`): with a transform that makes the same of a row each time.
        room ([`Room`]): for its rows.
    """

    def __init__(self, dataset: Dataset, room: Room) -> None:
        self.__dict__.update(dataset.__dict__)
        self._room, self._kept = room, dict[int, dict[str, Any]]()
        finalize(self, _give_back, room, self._kept).atexit = False

    def __getitem__(self, key: Any) -> Any:
        """As of `Dataset`; a single row is kept."""
        return self.__getitems__([key])[0] if isinstance(key, int) else super().__getitem__(key)

    def __getitems__(self, keys: list[int]) -> list[dict[str, Any]]:
        """Rows, as a `DataLoader` asks for them."""
        missing = [key for key in keys if key not in self._kept]
        made = dict(zip(missing, super().__getitems__(missing), strict=True)) if missing else {}
        if get_worker_info() is None:
            self._kept |= {key: row for key, row in made.items() if self._room.take(_bytes_of(row))}
        # Copies, as a collator may take something out of a row.
        return [dict(made[key] if key in made else self._kept[key]) for key in keys]


class _PreparingOnceMixin(Task[Any]):
    """
    For any [`Task`]: what is prepared is kept, unless it is augmented, and its rows if they are made when read. Models are in
    float32.
    """

    kind: type[Task[Any]]
    room: Room
    training_room: Room

    def __init__(self, *args: Any, **about: Any) -> None:
        super().__init__(*args, **about)
        self._prepared = WeakKeyDictionary[Dataset, dict[tuple[bool, Any], Dataset]]()

    def __reduce__(self) -> tuple[Any, ...]:
        """Without what is kept, as the fingerprint of a data set is made of what prepares it."""
        return _unprepared, (self.kind, {name: value for name, value in vars(self).items() if name != "_prepared"})

    def load_model(self, **options: Any) -> nn.Module:
        """As of [`Task`], in float32: in 16 bits the small steps of those methods would be lost that have no masters."""
        model = super().load_model(**options)
        # Which refuses to be converted.
        is_quantized = any(getattr(module, "is_quantized", False) for module in model.modules())
        return model if is_quantized else model.float()

    def prepare(
        self, dataset: Dataset, *, augment: bool = False, corrupt: Callable[[Any], Any] | None = None
    ) -> Dataset:
        """As of [`Task`]."""
        if augment and (self.augments or not says_of_itself(self.kind, "augments", "prepare")):
            return super().prepare(dataset, augment=True, corrupt=corrupt)
        known, key = self._prepared.setdefault(dataset, {}), (augment, corrupt)
        if key not in known:
            made = super().prepare(dataset, augment=augment, corrupt=corrupt)
            room = self.training_room if augment else self.room
            known[key] = KeptRows(made, room) if made.format["type"] == "custom" else made
        return known[key]


def preparing_once(kind: type[Task[Any]], room: Room) -> type[Task[Any]]:
    """
    A task that prepares each data set once for each corruption, and once to train on, unless it is augmented. Its models are
    in float32, whatever their checkpoints are in, unless they are quantized. `room` is for rows to evaluate on; those to train
    on have another gigabyte.
    """
    own = {"kind": kind, "room": room, "training_room": Room(_TRAINING_BYTES)}
    return cast("type[Task[Any]]", type(kind.__name__, (_PreparingOnceMixin, kind), own))


def _give_back(room: Room, rows: Mapping[int, Mapping[str, Any]]) -> None:
    room.give_back(sum(map(_bytes_of, rows.values())))


def _unprepared(kind: type[Task[Any]], state: Mapping[str, Any]) -> Task[Any]:
    task = kind.__new__(kind)
    vars(task).update(state)
    return task


def _bytes_of(row: Mapping[str, Any]) -> int:
    sizes: Sequence[int] = [
        value.nbytes if hasattr(value, "nbytes") else len(pickle.dumps(value)) for value in row.values()
    ]
    return sum(sizes)
