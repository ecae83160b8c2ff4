"""Which runs a stream needs: a chain of stages for each method, order and seed."""

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from transformers.utils import SAFE_WEIGHTS_NAME

from ftp_hf.compare.evidence.results import RATE
from ftp_hf.compare.run.plan import Run

from .config import JoinedStage, StageConfig, StreamConfig
from .methods import STREAM_METHODS

__all__ = ["Chain", "chains", "describe_stream", "stage_of", "stages_before"]


@dataclass(frozen=True)
class Chain:
    """
    What a method trains in one order of the stages.

    Args:
        method (`str`): of `STREAM_METHODS`.
        order (tuple of `str`): of the stages.
        seed (`int`): of all of the runs.
    """

    method: str
    order: tuple[str, ...]
    seed: int

    def describe(self, length: int | None = None) -> str:
        """In a few words; `length` is how many stages are named, by default all."""
        kind = STREAM_METHODS[self.method]
        stages = "all stages" if kind.joint else " → ".join(self.order[:length])
        return f"{kind.title}, {stages}, seed {self.seed}"

    def runs(self, config: StreamConfig, rolled_back: Collection[int] = ()) -> list[Run]:
        """
        Its runs, each of which starts from the one before, but not from those at the places that were rolled back: one for
        each stage, and a single one of a method that trains all of them at once. Runs of several chains that are alike are the
        same.
        """
        kind, setting = STREAM_METHODS[self.method], config.methods[self.method]
        trained = {key: value for key, value in setting.items() if key not in kind.settings}
        if kind.joint:
            first, *others = config.stages.values()
            joined = [JoinedStage(other.stage, other.train, other.validation) for other in others]
            stage = dataclasses.replace(first, joined=joined)
            return [Run(kind.trains, trained, self.seed, config=stage)]
        runs: list[Run] = []
        base: Run | None = None
        for place, name in enumerate(self.order):
            if base is None and kind.first:
                runs.append(Run(kind.first, {RATE: setting[RATE]}, self.seed, config=config.stages[name]))
            else:
                stage = _at_place(config, self.method, name, first=base is None)
                runs.append(Run(kind.trains, trained, self.seed, base, stage))
            base = base if place in rolled_back else runs[-1]
        return runs


def chains(config: StreamConfig) -> list[Chain]:
    """All that a stream trains: each method in each order with each seed, but joint training in one order."""
    return [
        Chain(method, tuple(order), seed)
        for method in config.methods
        for order in config.orders[: 1 if STREAM_METHODS[method].joint else None]
        for seed in config.seeds
    ]


def _at_place(config: StreamConfig, method: str, stage: str, *, first: bool) -> StageConfig:
    """The config of one stage: `merged` always; replayed rows and fixed anchors from the second stage on."""
    kind, plain = STREAM_METHODS[method], config.stages[stage]
    changes: dict[str, object] = {"merged": True} if kind.merged else {}
    if not first:
        if "rows" in kind.settings:
            changes["replayed"] = int(config.methods[method]["rows"])
        if kind.around_first:
            changes["anchors"] = _weights(plain.model)
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def _weights(model: str) -> str:
    """The file of a model, if it is one: a folder of sentence-transformers is read by the names of its modules."""
    file = Path(model, SAFE_WEIGHTS_NAME)
    return str(file) if file.is_file() else model


def stage_of(run: Run) -> StageConfig:
    """The stage of a run of a stream."""
    if not isinstance(run.config, StageConfig):
        raise TypeError(f"{run.describe()} is not of a stage")
    return run.config


def stages_before(run: Run) -> list[str]:
    """The names of the stages that a run comes after, in their order."""
    return [] if run.base is None else [*stages_before(run.base), stage_of(run.base).stage]


def describe_stream(config: StreamConfig, count: int) -> str:
    """What a stream is going to train, in a line; `count` is the number of runs of stages."""
    titles = ", ".join(STREAM_METHODS[method].title for method in config.methods)
    counts = f"{len(config.orders)} order{'s' * (len(config.orders) > 1)}, {len(config.seeds)} seed{'s' * (len(config.seeds) > 1)}"
    return (
        f"{count} runs of stages ({titles}; {len(config.stages)} stages in {counts}; what streams have in common at the start is "
        "trained once); what is finished is not repeated"
    )
