"""Which runs a comparison needs and how many, and where they lie."""

import hashlib
import itertools
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from ftp_hf.runs.facts import PRETRAINED

from .config import ComparisonConfig
from .method_kinds import OF_TRAINING, Averaged, Continued, Method, Setting, Trained
from .methods import METHODS, PROBE
from .trackers import WATCHING

__all__ = ["Run", "averaged_epochs", "base_of", "count_runs", "describe_plan", "method_of", "settings_of"]

Kind = TypeVar("Kind", bound=Method)

# How runs are evaluated is not part of how they are trained, nor is which other ones there are.
_OF_EVALUATION = {"test", "ood", "retained", "max_eval_samples", "corruptions", "every_setting", "rules"}
_EVALUATED_ON = {"test", "ood", "retained", "max_eval_samples", "corruptions", "label_aliases"}
_OF_OTHER_RUNS = {"name", "methods", "seeds", "probe_first", *OF_TRAINING}  # a run that was probed first has a base


@dataclass(frozen=True)
class Run:
    """
    A method with a setting and a seed.

    Args:
        method (`str`): its name.
        setting (mapping from `str` to `float`): what was tried.
        seed (`int`): of the run.
        base (`Run`, *optional*): the run that it starts from, or is computed from.
        config ([`ComparisonConfig`], *optional*): its own, where it is not that of a comparison but of a stage of a stream.
    """

    method: str
    setting: Setting
    seed: int
    base: "Run | None" = None
    config: ComparisonConfig | None = None

    def folder(self, runs: Path, config: ComparisonConfig) -> Path:
        """
        Where the run is kept, in the folder of all runs. It is named after all that defines the run, so that a finished run is
        found by every comparison that asks for the same, and by no other.
        """
        return runs / f"{self.method}-{_digest(self._definition(config))}-seed{self.seed}"

    def evaluation_file(self, runs: Path, config: ComparisonConfig) -> Path:
        """Where its evaluation is kept: named after the data that it is evaluated on."""
        data = {key: value for key, value in asdict(self.config or config).items() if key in _EVALUATED_ON}
        if not (self.config or config).retained:
            del data["retained"]  # which there was not in files of before
        return self.folder(runs, config) / f"evaluated-{_digest(data)}.json"

    def _definition(self, config: ComparisonConfig) -> dict[str, Any]:
        config = self.config or config
        common = {key: value for key, value in asdict(config).items() if key not in _OF_EVALUATION | _OF_OTHER_RUNS}
        common["training"] = {key: value for key, value in common["training"].items() if key not in WATCHING}
        if self.method == PRETRAINED or not METHODS[self.method].adapter:
            del common["lora"]
        if not config.freeze_statistics:
            del common["freeze_statistics"]  # which there was not in runs of before
        base = self.base._definition(config) if self.base else None
        return {"method": self.method, "setting": dict(self.setting), "seed": self.seed, "base": base, **common}

    @property
    def tracked_name(self) -> str:
        """What trackers call the run: `METHOD/SETTING/seed=SEED`."""
        return f"{self.method}/{','.join(f'{name}={value:g}' for name, value in self.setting.items())}/seed={self.seed}"

    def describe(self) -> str:
        """Method, setting and seed in a line."""
        settings = [f"{name.rstrip('_').replace('_', ' ')} {value:g}" for name, value in self.setting.items()]
        title = PRETRAINED if self.method == PRETRAINED else METHODS[self.method].title
        return ", ".join([title, *settings, f"seed {self.seed}"])


def method_of(run: Run, kind: type[Kind]) -> Kind:
    """The method of a run, which has to be of a kind."""
    method = METHODS[run.method]
    if not isinstance(method, kind):
        raise TypeError(f"{run.describe()} is {type(method).__name__}, not {kind.__name__}")
    return method


def base_of(config: ComparisonConfig, method: str) -> str | None:
    """The method whose run of the same seed a run of a method needs; with `probe_first`, that may be linear probing."""
    probed = config.probe_first and isinstance(METHODS[method], Trained) and method != PROBE
    return PROBE if probed else METHODS[method].base


def settings_of(config: ComparisonConfig, method: str) -> list[dict[str, float]]:
    """All combinations of the values that a method is tried with, in the order of the config."""
    sweep = config.methods[method]
    return [dict(zip(sweep, values, strict=True)) for values in itertools.product(*sweep.values())]


def count_runs(config: ComparisonConfig, method: str) -> int:
    """
    How many runs of a method there are: each setting with the first seed, the chosen one (or each) with the others. Of a
    method that is [`Continued`], how many there are at most beside those of its base.
    """
    settings, others = settings_of(config, method), len(config.seeds) - 1
    tried = int(settings[0]["most"]) if isinstance(METHODS[method], Continued) else len(settings)
    return tried * (1 + others) if config.every_setting else tried + others


def averaged_epochs(config: ComparisonConfig, base: str) -> int:
    """After how many of its last epochs the weights of a method's runs are averaged by others of the comparison."""
    averaging = (name for name in config.methods if isinstance(METHODS[name], Averaged) and METHODS[name].base == base)
    return max((int(last) for name in averaging for last in config.methods[name]["last"]), default=0)


def describe_plan(config: ComparisonConfig) -> str:
    """What a comparison is going to train, in a line."""
    counts = {
        name: count_runs(config, name) for name in config.methods if isinstance(METHODS[name], Trained | Continued)
    }
    most = {name: "up to " for name in counts if isinstance(METHODS[name], Continued)}
    total = sum(counts.values())
    each = ", ".join(f"{METHODS[name].title} {most.get(name, '')}{count}" for name, count in counts.items())
    derived = [METHODS[name].title for name in config.methods if name not in counts]
    computed = f"; computed from them: {', '.join(derived)}" if derived else ""
    return f"{'up to ' * bool(most)}{total} run{'s' * (total > 1)} to train ({each}){computed}; what is finished is not repeated"


def _digest(definition: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()[:10]
