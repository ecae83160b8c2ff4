"""What a run's summary is made of: plain records of data, figures, radii, hardware and rules."""

import math
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "KINDS",
    "PLAIN",
    "PRETRAINED",
    "BaseModel",
    "DataFacts",
    "EarlierOptions",
    "Evaluation",
    "GuardCheck",
    "Hardware",
    "LogRow",
    "OtherModel",
    "ProjectionFacts",
    "RadiusFacts",
    "RuleResult",
    "StageFacts",
]

KINDS = ("train", "validation", "id", "earlier", "ood", "retained", "corrupted")
"""
Of data, in the order of tables. `"earlier"` data were the ID test data of an earlier stage, `"retained"` data are of what the
pre-trained model could do before.
"""

PRETRAINED, PLAIN = "pre-trained", "plain fine-tuning"
"""What reports call the model that training starts from, and training without any method."""


@dataclass
class BaseModel:
    """The model that training started from."""

    name: str
    """Its name on the Hub, or the last part of a local path."""
    on_hub: bool = False
    revision: str | None = None
    parameters: int | None = None
    dtype: str | None = None


@dataclass
class DataFacts:
    """A data set, by the name that it has in the results."""

    name: str
    kind: str
    """One of `KINDS`; `"corrupted"` data are corrupted copies of ID test data."""
    size: int | None = None
    columns: list[str] = field(default_factory=list)
    source: str | None = None
    """Its name on the Hub, or the last part of a local path."""
    on_hub: bool = False
    config: str | None = None
    split: str | None = None
    revision: str | None = None


@dataclass
class Evaluation:
    """What was measured on one data set."""

    data: str
    """The name of a [`DataFacts`]."""
    kind: str
    metrics: dict[str, dict[str, float]]
    """Metric → seed → value; accuracies are in [0, 1]. NaN where it is not finite."""
    details: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Metric → seed → what was measured and is no number: values of each class, a text."""

    def figures(self, metric: str) -> dict[str, float]:
        """
        A metric by seed; empty where it was not measured. NaN where the loss is known and not finite: a model whose answers
        are NaN is taken to say the first class, which has an accuracy.
        """
        loss = self.metrics.get("loss", {})
        values = self.metrics.get(metric, {})
        return {seed: value if math.isfinite(loss.get(seed, 0.0)) else math.nan for seed, value in values.items()}


@dataclass
class OtherModel:
    """Another model on the same data: the pre-trained one, or plain fine-tuning."""

    name: str
    """`"pre-trained"` and `"plain fine-tuning"` have a meaning: forgetting is measured against the first."""
    results: list[Evaluation]
    optimizer: str | None = None


@dataclass
class RadiusFacts:
    """The radius that a projected parameter ended with, and its distance from the anchors; see [`Radius`]."""

    radius: float
    deviation: float


@dataclass
class EarlierOptions:
    """The options of the projection that were in force until a run was resumed with others."""

    until: int
    """The last step that was taken with them."""
    kappa: float
    radius_lr: float
    radius_betas: list[float]
    radius_share: float | None = None
    """ρ, which took the place of `radius_lr`; `None` where it did not."""


@dataclass
class ProjectionFacts:
    """How FTP projected."""

    kappa: float
    radius_lr: float
    radius_betas: list[float]
    radii: dict[str, RadiusFacts] = field(default_factory=dict)
    """By the name of the parameter. Empty if the radii of the kept weights are not known."""
    projected: list[str] = field(default_factory=list)
    excluded: list[str] = field(default_factory=list)
    """Trained, but not projected."""
    pretrained_rows: dict[str, int] = field(default_factory=dict)
    """How many of the first rows are projected, of the projected parameters whose other rows are new."""
    anchors: str | None = None
    """Where the anchors came from, if not from the weights that training started from."""
    earlier: list[EarlierOptions] = field(default_factory=list)
    """Other options that were in force before, the earliest first."""
    radius_share: float | None = None
    """ρ, which took the place of `radius_lr`; `None` where it did not."""


@dataclass
class LogRow:
    """What was logged at a step."""

    step: int
    epoch: float | None = None
    loss: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    """Of the validation data, without `eval_`."""
    radius_median: float | None = None
    radius_max: float | None = None
    details: dict[str, Any] = field(default_factory=dict)
    """What was measured on the validation data and is no number."""


@dataclass
class Hardware:
    """What the run took."""

    device: str
    processes: int = 1
    seconds_per_step: float | None = None
    """The median over all steps: forward, backward and optimizer."""
    total_seconds: float | None = None
    peak_memory_bytes: int | None = None
    """Of the device; on the CPU, of the first process as a whole."""


@dataclass
class RuleResult:
    """The result of a rule; see `rules.py`."""

    rule: str
    passed: bool
    value: float | None = None
    """`None` where it is not known, or not a number."""
    threshold: float | None = None
    why: str | None = None
    """Why there is nothing to compare; the rule has failed then."""
    data: str | None = None
    """The earlier stage that was nearest to breaking it, where it is about the worst of them."""


@dataclass
class StageFacts:
    """A stage of training, of several one after the other."""

    figures: dict[str, dict[str, float | None]] = field(default_factory=dict)
    """Of the model that it left, set → metric → value: on its own test data (`"id/march"`), on those of the stages before
    (`"earlier/february"`), and on others."""


@dataclass
class GuardCheck:
    """What [`RobustnessGuard`] found at a step, and did."""

    step: int
    epoch: float | None = None
    figures: dict[str, dict[str, float | None]] = field(default_factory=dict)
    """Set (`"id/test"`, `"ood/sketch"`) → metric → value; `None` where it is not finite."""
    rules: list[RuleResult] = field(default_factory=list)
    """Empty before the first step: there is nothing to hold the model to yet."""
    action: str | None = None
    """`"alert"`, `"stop"` or `"roll_back"`; `None` where every rule was met, or none had to be yet."""
    restored_step: int | None = None
    """The step whose weights replaced these."""
