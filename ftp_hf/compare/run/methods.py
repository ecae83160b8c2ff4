"""The methods that can be compared: what each is, what is tried with it, and what trains it or computes it."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from transformers import Trainer, TrainingArguments

from ftp_hf.baselines import (
    ALPHAS,
    FLOWTrainerMixin,
    KLTrainerMixin,
    L2SPTrainerMixin,
    LDIFSTrainerMixin,
    LinearProbeTrainerMixin,
    ProbedFLOWTrainerMixin,
    SPDTrainerMixin,
    TPGMTrainerMixin,
    interpolate,
)
from ftp_hf.trainer.arguments import with_ftp_options
from ftp_hf.trainer.ftp import ftp_trainer
from ftp_hf.trainer.plain import plain_trainer

__all__ = ["METHODS", "Derived", "Method", "Projected", "Setting", "Trained"]

Setting = Mapping[str, float]


@dataclass(frozen=True)
class Method:
    """
    What all methods have. Each is [`Trained`], or [`Derived`] from one that is.

    Args:
        title (`str`): as in its paper.
        source (`str`): the paper, or what it is, in a line.
        sweep (mapping, *optional*): setting → values that are tried by default.
        base (`str`, *optional*): the method whose run of the same seed a run of this one needs.
        adapter (`bool`, *optional*, defaults to `False`): whether LoRA's weights are trained instead of the model's.
    """

    title: str
    source: str
    sweep: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    base: str | None = None
    adapter: bool = False


@dataclass(frozen=True, kw_only=True)
class Trained(Method):
    """
    A method that trains. The learning rate is one of its settings, beside those of its sweep, which are keywords of its
    mixin. If it has a base, it starts with the head that the base's run left.

    Args:
        mixin (`type`, *optional*): what makes the method's Trainer of [`PlainTrainer`], which trains without one.
        needs (collection of `str`, *optional*): keywords of the mixin that the comparison has the values for: `"new"`,
            the names of the parameters that the pre-trained checkpoint does not hold (a head that was probed before is
            among them), and `"held_out_dataset"`, the ID validation data, for methods that learn from it too.
        whole (collection of `str`, *optional*): the settings that are whole numbers.
        training (mapping, *optional*): arguments of the training that the method decides, whatever the config says.
    """

    mixin: type | None = None
    needs: Collection[str] = ()
    whole: Collection[str] = ()
    training: Mapping[str, Any] = field(default_factory=dict)

    def arguments(
        self, setting: Setting, options: Mapping[str, Any], kind: type[TrainingArguments] = TrainingArguments
    ) -> TrainingArguments:
        """
        The arguments of a training.

        Args:
            setting (mapping from `str` to `float`): of the run.
            options (mapping): those that all methods have in common.
            kind (`type`, *optional*, defaults to `TrainingArguments`): what the task's Trainer takes.
        """
        return kind(**{**options, **self.training, "learning_rate": setting["learning_rate"]})

    def make_trainer(
        self, setting: Setting, given: Mapping[str, Any], base: type[Trainer] = Trainer, **options: Any
    ) -> Trainer:
        """
        The Trainer of a run.

        Args:
            setting (mapping from `str` to `float`): of the run.
            given (mapping): what a method may need, by its keyword.
            base (`type`, *optional*, defaults to `Trainer`): that of the task.
            **options: its arguments.

        Raises:
            ValueError: a setting is not a whole number, or as the Trainer.
        """
        kind: type[Trainer] = plain_trainer(base)
        if self.mixin:
            kind = type("MethodTrainer", (self.mixin, kind), {})
        own: dict[str, Any] = {name: given[name] for name in self.needs}
        for name, value in _own(setting).items():
            own[name] = _whole(name, value) if name in self.whole else value
        return kind(**options, **own)


@dataclass(frozen=True, kw_only=True)
class Projected(Trained):
    """FTP. Its settings are fields of [`FTPArguments`], where `kappa` is `ftp_kappa`."""

    def arguments(
        self, setting: Setting, options: Mapping[str, Any], kind: type[TrainingArguments] = TrainingArguments
    ) -> TrainingArguments:
        """As those of [`Trained`], with the settings."""
        own = {f"ftp_{name}": value for name, value in _own(setting).items()}
        return with_ftp_options(kind)(**{**options, **own, **self.training, "learning_rate": setting["learning_rate"]})

    def make_trainer(
        self,
        setting: Setting,  # noqa: ARG002
        given: Mapping[str, Any],  # noqa: ARG002
        base: type[Trainer] = Trainer,
        **options: Any,
    ) -> Trainer:
        """The task's Trainer with [`FTPTrainerMixin`], which finds the settings in its arguments."""
        return ftp_trainer(base)(**options)


@dataclass(frozen=True, kw_only=True)
class Derived(Method):
    """
    A method that trains nothing: the weights of a run are computed from those that its base started and ended with.

    Args:
        weights (callable): as [`~ftp_hf.baselines.interpolate`], from the state dicts at the base's start and end, the
            settings by name, and the names of the new parameters (`new`, by default none) to a state dict.
    """

    weights: Callable[..., dict[str, Tensor]]


def _own(setting: Setting) -> dict[str, float]:
    """The settings that only the method knows."""
    return {name: value for name, value in setting.items() if name != "learning_rate"}


def _whole(name: str, value: float) -> int:
    if not float(value).is_integer():
        raise ValueError(f"{name} must be a whole number, got {value!r}")
    return int(value)


_FLOW = "Sanyal et al., ICML 2025, arXiv 2502.02797"
_FTP = "Tian et al., NeurIPS 2023, arXiv 2310.19182"
_LORA = "Hu et al., ICLR 2022, arXiv 2106.09685"
_NO_DECAY = {"weight_decay": 0.0}  # whose place these methods take
_RADII = {"kappa": (1.0,), "radius_lr": (1e-2,)}

METHODS: Mapping[str, Trained | Derived] = {
    "plain": Trained("plain fine-tuning", "AdamW on all weights"),
    "linear-probe": Trained(
        "linear probe", "only the new head is trained", mixin=LinearProbeTrainerMixin, needs=["new"]
    ),
    "lp-ft": Trained("LP-FT", "Kumar et al., ICLR 2022, arXiv 2202.10054", base="linear-probe"),
    "l2-sp": Trained(
        "L2-SP",
        "Li et al., ICML 2018, arXiv 1802.01483",
        {"alpha": (0.001, 0.01, 0.1), "beta": (0.01,)},
        mixin=L2SPTrainerMixin,
        needs=["new"],
        training=_NO_DECAY,
    ),
    "wise-ft": Derived(
        "WiSE-FT",
        "Wortsman et al., CVPR 2022, arXiv 2109.01903",
        {"alpha": tuple(alpha for alpha in ALPHAS if 0 < alpha < 1)},
        base="plain",
        weights=interpolate,
    ),
    "tpgm": Trained(
        "TPGM",
        "Tian et al., CVPR 2023, arXiv 2303.10720",
        {"radius_lr": (1e-2,), "interval": (1,), "iterations": (1,)},
        mixin=TPGMTrainerMixin,
        needs=["new", "held_out_dataset"],
        whole=["interval", "iterations"],
    ),
    "spd": Trained(
        "SPD",
        "Tian et al., NeurIPS 2024, arXiv 2411.01713",
        {"lambda_": (0.5, 1.0)},
        mixin=SPDTrainerMixin,
        needs=["new"],
        training=_NO_DECAY,
    ),
    "kl": Trained(
        "KL anchor",
        "loss + λ · KL(pre-trained ‖ model) of the answers",
        {"lambda_": (0.1, 1.0)},
        mixin=KLTrainerMixin,
        needs=["new"],
    ),
    "ldifs": Trained(
        "LDIFS", "Mukhoti et al., TMLR 2024, arXiv 2308.13320", {"lambda_": (0.1, 1.0)}, mixin=LDIFSTrainerMixin
    ),
    "flow": Trained("FLOW", _FLOW, mixin=FLOWTrainerMixin, needs=["new"]),
    "lp-flow": Trained("LP-FLOW", f"{_FLOW}, from a linear probe", mixin=ProbedFLOWTrainerMixin, base="linear-probe"),
    "lora": Trained("LoRA", _LORA, adapter=True),
    "ftp": Projected("FTP", _FTP, _RADII),
    "lora+ftp": Projected("LoRA + FTP", f"{_LORA}; {_FTP}", _RADII, adapter=True),
    "lora+factors": Projected(
        "LoRA + factors",
        "FTP on A and B, each around its start: no bound on the model's distance",
        _RADII,
        adapter=True,
        training={"ftp_adapters": "factors"},
    ),
}
"""By the name in a config, in the order of the report."""
