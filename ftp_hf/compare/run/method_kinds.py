"""The kinds of methods that can be compared: those that train, and those that are computed from what another one trained."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import Trainer, TrainingArguments

from ftp_hf.baselines import attach_lora
from ftp_hf.trainer.arguments import with_ftp_options
from ftp_hf.trainer.ftp import ftp_trainer
from ftp_hf.trainer.plain import plain_trainer

__all__ = [
    "OF_TRAINING",
    "Averaged",
    "Continued",
    "Derived",
    "Method",
    "Projected",
    "Setting",
    "Trained",
]

Setting = Mapping[str, float]

OF_TRAINING = ("learning_rate", "num_train_epochs")
"""The settings that are arguments of the training, which every method has that trains."""


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
    A method that trains. [`OF_TRAINING`] are among its settings, beside those of its sweep, which are keywords of its
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

    def arguments(
        self, setting: Setting, options: Mapping[str, Any], kind: type[TrainingArguments] = TrainingArguments
    ) -> TrainingArguments:
        """The arguments of a training: the options that all methods have in common, and those of the setting."""
        return kind(**{**options, **self.training, **_of_training(setting)})

    def with_adapter(
        self, model: nn.Module, setting: Setting, options: Mapping[str, Any], run: Callable[[nn.Module], None]
    ) -> nn.Module:
        """
        The model, changed in place, with the adapter of a run: `options` are arguments of `peft.LoraConfig`, and `run` runs a
        model on a sample of the training inputs.

        Raises:
            ValueError: as [`attach`].
        """
        own = {name: setting[name] for name in self.of_adapter}
        return self.attach(model, options, *([run] if self.calibrated else []), **own)

    def make_trainer(
        self, setting: Setting, given: Mapping[str, Any], base: type[Trainer] = Trainer, **options: Any
    ) -> Trainer:
        """
        The Trainer of a run. `given` is what a method may need, by its keyword; `base` is the Trainer class of the task, and
        `options` are its arguments.

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
        return with_ftp_options(kind)(**{**options, **own, **self.training, **_of_training(setting)})

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
        """The learning rates that follow the smallest of the base, in two digits: 0.00032, 0.0001, 0.000032, … below 0.001."""
        steps = range(1, int(setting["most"]) + 1)
        return [float(f"{smallest / setting['factor'] ** step:.1e}") for step in steps]


def _own(setting: Setting, others: Collection[str] = ()) -> dict[str, float]:
    """The settings that only the method knows."""
    return {name: value for name, value in setting.items() if name not in (*OF_TRAINING, *others)}


def _of_training(setting: Setting) -> dict[str, float]:
    return {name: value for name, value in setting.items() if name in OF_TRAINING}


def _whole(name: str, value: float) -> int:
    if not float(value).is_integer():
        raise ValueError(f"{name} must be a whole number, got {value!r}")
    return int(value)
