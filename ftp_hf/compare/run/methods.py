"""The methods that can be compared: what each is, what is tried with it, and what trains it or computes it."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn
from transformers import Trainer, TrainingArguments

from ftp_hf.baselines import (
    ALPHAS,
    EWCTrainerMixin,
    FLOWTrainerMixin,
    KLTrainerMixin,
    L2SPTrainerMixin,
    LDIFSTrainerMixin,
    LinearProbeTrainerMixin,
    MoFOTrainerMixin,
    ProbedFLOWTrainerMixin,
    SPDTrainerMixin,
    TPGMTrainerMixin,
    attach_corda,
    attach_kappatune,
    attach_lora,
    attach_osf,
    fapm,
    interpolate,
    save_as_lora,
)
from ftp_hf.trainer.arguments import with_ftp_options
from ftp_hf.trainer.ftp import ftp_trainer
from ftp_hf.trainer.plain import plain_trainer

__all__ = [
    "DATA",
    "METHODS",
    "PROBE",
    "Averaged",
    "Continued",
    "Data",
    "Derived",
    "Method",
    "Projected",
    "Setting",
    "Trained",
]

Setting = Mapping[str, float]


class Data(NamedTuple):
    """What a method takes besides the training data."""

    what: str
    labels: bool
    """Whether it is of use only with labels."""


DATA: Mapping[str, Data] = {"held_out_dataset": Data("ID validation data", labels=True)}
"""Those of the keywords in [`Trained.needs`] that are data."""


@dataclass(frozen=True)
class Method:
    """
    What all methods have. Each is [`Trained`], [`Derived`] or [`Averaged`] from one that is, or [`Continued`] from one.

    Args:
        title (`str`): as in its paper.
        source (`str`): the paper, or what it is, in a line.
        sweep (mapping, *optional*): setting → values that are tried by default.
        base (`str`, *optional*): the method whose run of the same seed a run of this one needs.
        adapter (`bool`, *optional*, defaults to `False`): whether an adapter is trained instead of the model's weights.
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
        attach (callable, *optional*, defaults to [`attach_lora`]): what makes a `PeftModel` of the model, if the method
            has an adapter, from the arguments of `peft.LoraConfig`.
        of_adapter (collection of `str`, *optional*): the settings that are keywords of `attach`, not of the mixin.
        calibrated (`bool`, *optional*, defaults to `False`): whether `attach` also takes what runs the model on a sample of
            the training inputs.
        save (callable, *optional*): writes a trained `PeftModel` into a folder, where what its Trainer saves fits no other
            copy of the pre-trained model.
    """

    mixin: type | None = None
    needs: Collection[str] = ()
    whole: Collection[str] = ()
    training: Mapping[str, Any] = field(default_factory=dict)
    attach: Callable[..., nn.Module] = attach_lora
    of_adapter: Collection[str] = ()
    calibrated: bool = False
    save: Callable[[Any, Path], None] | None = None

    @property
    def data(self) -> list[Data]:
        """What it takes besides the training data."""
        return [DATA[name] for name in self.needs if name in DATA]

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

    def with_adapter(
        self, model: nn.Module, setting: Setting, options: Mapping[str, Any], run: Callable[[nn.Module], None]
    ) -> nn.Module:
        """
        The model with the adapter of a run.

        Args:
            model (`nn.Module`): pre-trained; changed in place.
            setting (mapping from `str` to `float`): of the run.
            options (mapping): arguments of `peft.LoraConfig`.
            run (callable): runs a model on a sample of the training inputs.

        Raises:
            ValueError: as [`attach`].
        """
        own = {name: setting[name] for name in self.of_adapter}
        return self.attach(model, options, *([run] if self.calibrated else []), **own)

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
        for name, value in _own(setting, self.of_adapter).items():
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


@dataclass(frozen=True, kw_only=True)
class Averaged(Method):
    """
    A method that trains nothing: the weights of a run are the [`~ftp_hf.baselines.average`] of those after the last epochs
    of its base's run, which keeps them for it. Its setting is `last`, of how many.
    """

    def last(self, setting: Setting) -> int:
        """
        How many epochs.

        Raises:
            ValueError: it is not a whole number, or below 2.
        """
        last = _whole("last", setting["last"])
        if last < 2:
            raise ValueError(f"last must be at least 2, got {last}: the mean of one epoch is that epoch")
        return last


@dataclass(frozen=True, kw_only=True)
class Continued(Method):
    """
    A method that tries its base at ever smaller learning rates, until ID validation falls. All of its runs are runs of the
    base, those at the base's own rates included, and its settings say which rates follow: `factor`, by which each is smaller
    than the one before, and `most`, how many there are at most.
    """

    def check(self, setting: Setting) -> None:
        """
        Raises:
            ValueError: a factor is below 1.5, or `most` is not a whole number of at least 1.
        """
        if setting["factor"] < 1.5:
            raise ValueError(f"factor must be at least 1.5, got {setting['factor']!r}")
        if _whole("most", setting["most"]) < 1:
            raise ValueError(f"most must be at least 1, got {setting['most']!r}")

    def rates(self, setting: Setting, smallest: float) -> list[float]:
        """
        The learning rates that follow, in two digits: 0.00032, 0.0001, 0.000032, … below 0.001.

        Args:
            setting (mapping from `str` to `float`): `factor` and `most`.
            smallest (`float`): of the base's rates.
        """
        steps = range(1, int(setting["most"]) + 1)
        return [float(f"{smallest / setting['factor'] ** step:.1e}") for step in steps]


def _own(setting: Setting, others: Collection[str] = ()) -> dict[str, float]:
    """The settings that only the method knows."""
    return {name: value for name, value in setting.items() if name not in ("learning_rate", *others)}


def _whole(name: str, value: float) -> int:
    if not float(value).is_integer():
        raise ValueError(f"{name} must be a whole number, got {value!r}")
    return int(value)


_FLOW = "Sanyal et al., ICML 2025, arXiv 2502.02797"
_FTP = "Tian et al., NeurIPS 2023, arXiv 2310.19182"
_LORA = "Hu et al., ICLR 2022, arXiv 2106.09685"
_NO_DECAY = {"weight_decay": 0.0}  # whose place these methods take, or which would shrink what is pre-trained
_RADII = {"kappa": (1.0,), "radius_lr": (1e-2,)}
_SHARE = {"kappa": (1.0,), "radius_share": (0.03,)}

METHODS: Mapping[str, Trained | Derived | Averaged | Continued] = {
    "plain": Trained("plain fine-tuning", "AdamW on all weights"),
    "small-lr": Continued(
        "small learning rate",
        "plain fine-tuning below its usual rates, as small as ID validation allows: Lin et al., ICLR 2026, arXiv 2509.20758",
        {"factor": (3.16,), "most": (4,)},  # half a power of ten
        base="plain",
    ),
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
    "fapm": Derived(
        "FAPM",
        "Huang et al., EMNLP 2025, arXiv 2509.08255",
        {"ratio": (0.1, 0.3, 0.5)},
        base="plain",
        weights=fapm,
    ),
    "average": Averaged(
        "last epochs averaged", "LAWA: Kaddour, 2022, arXiv 2209.14981", {"last": (2, 3)}, base="plain"
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
    "mofo": Trained(
        "MoFO",
        "Chen et al., TMLR 2025, arXiv 2407.20999",
        {"fraction": (0.05, 0.2)},
        mixin=MoFOTrainerMixin,
        needs=["new"],
    ),
    "ewc": Trained(
        "EWC",
        "Kirkpatrick et al., PNAS 2017, arXiv 1612.00796",
        {"lambda_": (1e1, 1e3, 1e5)},
        mixin=EWCTrainerMixin,
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
    "corda": Trained(
        "CorDA",
        "Yang et al., NeurIPS 2024, arXiv 2406.05223; keeps what the training inputs need",
        adapter=True,
        attach=attach_corda,
        calibrated=True,
        save=save_as_lora,
        training=_NO_DECAY,
    ),
    "osf": Trained(
        "OSF",
        "Nayak et al., 2025, arXiv 2504.07097",
        {"effective_rank": (0.5,)},
        adapter=True,
        attach=attach_osf,
        of_adapter=["effective_rank"],
        training=_NO_DECAY,
    ),
    "kappatune": Trained(
        "KappaTune with LoRA",
        "Ludwig, 2025, arXiv 2506.16289",
        {"top_p": (0.2,)},
        adapter=True,
        attach=attach_kappatune,
        of_adapter=["top_p"],
    ),
    "ftp": Projected("FTP", _FTP, _RADII),
    "ftp-share": Projected("FTP, ρ", f"{_FTP}, with radii that learn at ρ · lr · fan-in", _SHARE),
    "lora+ftp": Projected("LoRA + FTP", f"{_LORA}; {_FTP}", _RADII, adapter=True),
    "lora+ftp-share": Projected(
        "LoRA + FTP, ρ", f"{_LORA}; {_FTP}, with radii that learn at a share of s · lr · Σ|A|", _SHARE, adapter=True
    ),
    "lora+factors": Projected(
        "LoRA + factors",
        "FTP on A and B, each around its start: no bound on the model's distance",
        _RADII,
        adapter=True,
        training={"ftp_adapters": "factors"},
    ),
}
"""By the name in a config, in the order of the report."""

PROBE = "linear-probe"
"""Whose head the other methods that train start with, where heads are probed first."""
