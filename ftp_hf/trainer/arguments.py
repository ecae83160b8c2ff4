"""Command-line flags and YAML keys of [`FTPTrainer`]."""

from dataclasses import dataclass, fields, make_dataclass
from numbers import Real
from typing import Any, get_type_hints

from transformers import TrainingArguments

from ftp_hf.common.documented import with_help
from ftp_hf.optim.options import DEFAULTS

__all__ = ["PRETRAINED", "PREVIOUS", "FTPArguments", "FTPTrainingArguments", "named_anchors", "with_ftp_options"]

PRETRAINED, PREVIOUS = "pretrained", "previous"
"""What `ftp_anchors` can be other than the name of a model: where the anchors of the stages of a stream come from."""


@with_help
@dataclass
class FTPArguments:
    """
    The options of the projection, to combine with any `TrainingArguments` class:

        @dataclass
        class FTPSFTConfig(FTPArguments, SFTConfig): ...

    Args:
        ftp_kappa (`float`, *optional*, defaults to 1.0): factor κ in [0, 1] on radius gradients that would shrink the
            radius. 1 regularises most; with 0 the radius never shrinks.
        ftp_radius_lr (`float`, *optional*, defaults to 1e-2): learning rate μ of the radii, in units of a row's L1
            norm.
        ftp_radius_share (`float`, *optional*): ρ, instead of `ftp_radius_lr`: the radii learn at a rate of `ρ · lr ·
            fan-in`, a share of what an Adam-like optimizer could move a row by in a step. It has no unit, and follows the
            schedule of the learning rate. By default the rate is `ftp_radius_lr`, as in the paper.
        ftp_radius_beta1 (`float`, *optional*, defaults to 0.9): decay of the radii's first Adam moment.
        ftp_radius_beta2 (`float`, *optional*, defaults to 0.999): decay of the radii's second Adam moment.
        ftp_exclude (`list[str]`, *optional*): names or glob patterns of more parameters to leave unprojected.
        ftp_exclude_new (`bool`, *optional*, defaults to `True`): leave the parameters that the model's checkpoint does
            not hold, such as a new classification head, unprojected.
        ftp_anchors (`str`, *optional*): the pre-trained model whose weights are the anchors: a local folder, a
            safetensors file or a name on the Hub. By default the weights that training starts from. For trainings one
            after the other, `"pretrained"` or `"previous"`: all around the weights that the first one started from, which
            are found in the checkpoint that the model was loaded from, or each around those that it starts from
            (docs/streams.md). A folder of such a name is `"./pretrained"`.
        ftp_restart_radii (`bool`, *optional*, defaults to `False`): with each further training around the same anchors, the
            radii start again, at the distances that the weights have by then. By default they go on.
        ftp_anchor_device (`"cpu"`, *optional*): keep the anchors in host memory, for a model that fits the GPU only
            just. By default they are beside the weights.
        ftp_stochastic_rounding (`bool`, *optional*, defaults to `False`): train bfloat16 weights without float32 masters: each
            step is rounded at random, so that it is right on average. 10 bytes a parameter with AdamW instead of 18.
        ftp_adapters (`str`, *optional*, defaults to `"product"`): of a model with adapters of PEFT, project what they add
            to each weight where that can be done exactly (`"product"`), each of their parameters around its first value
            (`"factors"`), or none of them (`"none"`). docs/adapters.md says which method is which.
        ftp_freeze_statistics (`bool`, *optional*, defaults to `False`): batch norms keep their pre-trained running
            statistics, which no projection of weights holds ([`FrozenStatisticsMixin`]).
        ftp_probe_epochs (`float`, *optional*, defaults to 0.0): train the new parameters alone for so many epochs first, on
            the features of the pre-trained model ([`ProbeFirstMixin`]).
        ftp_probe_learning_rate (`float`, *optional*): of these epochs; by default that of the training.
        ftp_log_parameters (`bool`, *optional*, defaults to `False`): log the radius of each parameter, in addition to the
            summary over all of them.

    Raises:
        TypeError: a number is a text, or `ftp_exclude` a single name.
    """

    ftp_kappa: float = DEFAULTS["kappa"]
    ftp_radius_lr: float = DEFAULTS["radius_lr"]
    ftp_radius_share: float | None = DEFAULTS["radius_share"]
    ftp_radius_beta1: float = DEFAULTS["radius_betas"][0]
    ftp_radius_beta2: float = DEFAULTS["radius_betas"][1]
    ftp_exclude: list[str] | None = None
    ftp_exclude_new: bool = True
    ftp_anchors: str | None = None
    ftp_restart_radii: bool = False
    ftp_anchor_device: str | None = DEFAULTS["anchor_device"]
    ftp_stochastic_rounding: bool = DEFAULTS["stochastic_rounding"]
    ftp_adapters: str = "product"
    ftp_freeze_statistics: bool = False
    ftp_probe_epochs: float = 0.0
    ftp_probe_learning_rate: float | None = None
    ftp_log_parameters: bool = False

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(FTPArguments).items():
            value = getattr(self, name)
            if kind in (float, float | None) and not isinstance(value, Real | kind):
                point = "; in YAML 1e-1 is a text, and 1.0e-1 or 0.1 is a number" if isinstance(value, str) else ""
                raise TypeError(f"{name} must be a number, got {value!r}{point}")
        if isinstance(self.ftp_exclude, str):
            raise TypeError(
                "ftp_exclude must be a list of parameter names or glob patterns, got "
                f"{self.ftp_exclude!r}; for a single one write [{self.ftp_exclude!r}]"
            )
        # Of the class of arguments that this one stands before.
        getattr(super(), "__post_init__", lambda: None)()

    @classmethod
    def of(cls, args: Any) -> "FTPArguments":
        """
        The projection's options among any training arguments; those that `args` does not have keep their defaults.

        Args:
            args (`TrainingArguments`): with or without the fields of this class.

        Returns:
            `FTPArguments`: only the projection's options.
        """
        return FTPArguments(
            **{option.name: getattr(args, option.name) for option in fields(FTPArguments) if hasattr(args, option.name)}
        )


def named_anchors(value: str | None) -> str | None:
    """The model that `ftp_anchors` names; `None` where it is left out or is a policy."""
    return None if value in (PRETRAINED, PREVIOUS) else value


@dataclass
class FTPTrainingArguments(FTPArguments, TrainingArguments):
    """
    `TrainingArguments` with the options of the projection.

    Args:
        *args, **kwargs: the fields of `TrainingArguments` and those of [`FTPArguments`].
    """


def with_ftp_options(kind: type[TrainingArguments]) -> type[TrainingArguments]:
    """
    The arguments of another Trainer, such as `Seq2SeqTrainingArguments`, with the options of the projection. Instances can be
    pickled, as `training_args.bin` is.
    """
    if kind is TrainingArguments:
        return FTPTrainingArguments

    def reduce(self: TrainingArguments, _: int) -> tuple[Any, ...]:
        return _restored, (kind, vars(self))

    return make_dataclass(f"FTP{kind.__name__}", [], bases=(FTPArguments, kind), namespace={"__reduce_ex__": reduce})


def _restored(kind: type[TrainingArguments], state: dict[str, Any]) -> TrainingArguments:
    """Of a class that is in no module, which pickle could not find again."""
    made = with_ftp_options(kind)
    arguments = made.__new__(made)
    vars(arguments).update(state)
    return arguments
