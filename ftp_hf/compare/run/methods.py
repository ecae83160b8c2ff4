"""The methods that can be compared: what each is, what is tried with it, and the Trainer that trains it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from transformers import Trainer

from ftp_hf.baselines import ALPHAS, L2SPTrainerMixin, LinearProbeTrainerMixin, SPDTrainerMixin, TPGMTrainerMixin
from ftp_hf.trainer.ftp import FTPTrainer
from ftp_hf.trainer.plain import PlainTrainer

__all__ = ["METHODS", "Method", "make_trainer", "projection_options"]


@dataclass(frozen=True)
class Method:
    """
    Args:
        title (`str`): as in its paper.
        source (`str`): the paper, or what it is, in a line.
        trainer (`type`, *optional*, defaults to [`PlainTrainer`]): that trains it.
        sweep (mapping, *optional*): setting → values that are tried by default, beside those of the learning rate. The
            settings of a mixin have the names of its keywords.
        adapter (`bool`, *optional*, defaults to `False`): whether LoRA's weights are trained instead of the model's.
        starts_from (`str`, *optional*): the method whose run of the same seed leaves the head that this one starts with.
        derived_from (`str`, *optional*): the method whose run of the same seed this one is computed from, without training.
        options (mapping, *optional*): arguments of the training that belong to the method.
    """

    title: str
    source: str
    trainer: type[Trainer] = PlainTrainer
    sweep: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    adapter: bool = False
    starts_from: str | None = None
    derived_from: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


class _LinearProbeTrainer(LinearProbeTrainerMixin, PlainTrainer):
    pass


class _L2SPTrainer(L2SPTrainerMixin, PlainTrainer):
    pass


class _SPDTrainer(SPDTrainerMixin, PlainTrainer):
    pass


class _TPGMTrainer(TPGMTrainerMixin, PlainTrainer):
    pass


_FTP = "Tian et al., NeurIPS 2023, arXiv 2310.19182"
_LORA = "Hu et al., ICLR 2022, arXiv 2106.09685"

METHODS: Mapping[str, Method] = {
    "plain": Method("plain fine-tuning", "AdamW on all weights"),
    "linear-probe": Method("linear probe", "only the new head is trained", _LinearProbeTrainer),
    "lp-ft": Method("LP-FT", "Kumar et al., ICLR 2022, arXiv 2202.10054", starts_from="linear-probe"),
    "l2-sp": Method(
        "L2-SP", "Li et al., ICML 2018, arXiv 1802.01483", _L2SPTrainer, {"alpha": (0.001, 0.01, 0.1), "beta": (0.01,)}
    ),
    "wise-ft": Method(
        "WiSE-FT",
        "Wortsman et al., CVPR 2022, arXiv 2109.01903",
        sweep={"alpha": tuple(alpha for alpha in ALPHAS if 0 < alpha < 1)},
        derived_from="plain",
    ),
    "tpgm": Method(
        "TPGM",
        "Tian et al., CVPR 2023, arXiv 2303.10720",
        _TPGMTrainer,
        {"radius_lr": (1e-2,), "interval": (1,), "iterations": (1,)},
    ),
    "spd": Method("SPD", "Tian et al., NeurIPS 2024, arXiv 2411.01713", _SPDTrainer, {"lambda_": (0.5, 1.0)}),
    "lora": Method("LoRA", _LORA, adapter=True),
    "ftp": Method("FTP", _FTP, FTPTrainer, {"kappa": (1.0,), "radius_lr": (1e-2,)}),
    "lora+ftp": Method(
        "LoRA + FTP", f"{_LORA}; {_FTP}", FTPTrainer, {"kappa": (1.0,), "radius_lr": (1e-2,)}, adapter=True
    ),
    "lora+factors": Method(
        "LoRA + factors",
        "FTP on A and B, each around its start: no bound on the model's distance",
        FTPTrainer,
        {"kappa": (1.0,), "radius_lr": (1e-2,)},
        adapter=True,
        options={"ftp_adapters": "factors"},
    ),
}
"""By the name in a config, in the order of the report."""

_COUNTS = {"interval", "iterations"}


def projection_options(method: Method, setting: Mapping[str, float]) -> dict[str, Any]:
    """The settings that are fields of `FTPTrainingArguments`: FTP's `kappa` is `ftp_kappa` there."""
    if not issubclass(method.trainer, FTPTrainer):
        return {}
    return {**{f"ftp_{name}": value for name, value in setting.items() if name != "learning_rate"}, **method.options}


def make_trainer(
    method: Method, setting: Mapping[str, float], *, new: Collection[str], held_out: Any, **options: Any
) -> Trainer:
    """
    The Trainer of a method.

    Args:
        method ([`Method`]): one that is trained.
        setting (mapping from `str` to `float`): of the run.
        new (collection of `str`): the parameters that the pre-trained checkpoint does not hold. A head that was probed
            before is among them.
        held_out (`Dataset`): ID validation data, for methods that learn from it too.
        **options: arguments of `Trainer`.
    """
    if issubclass(method.trainer, FTPTrainer):
        return method.trainer(**options)
    own: dict[str, Any] = {
        name: _count(name, value) if name in _COUNTS else value
        for name, value in setting.items()
        if name != "learning_rate"
    }
    if issubclass(method.trainer, TPGMTrainerMixin):
        own["held_out_dataset"] = held_out
    if issubclass(method.trainer, _ANCHORED):
        own["new"] = new
    return method.trainer(**options, **own)


def _count(name: str, value: float) -> int:
    if not float(value).is_integer():
        raise ValueError(f"{name} must be a whole number, got {value!r}")
    return int(value)


_ANCHORED = (LinearProbeTrainerMixin, L2SPTrainerMixin, SPDTrainerMixin, TPGMTrainerMixin)
