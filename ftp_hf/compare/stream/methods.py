"""The methods of streams, by name: what of `compare` trains each stage, and what it knows of the earlier ones."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ftp_hf.compare.run.methods import METHODS

__all__ = ["STREAM_METHODS", "StreamMethod"]


@dataclass(frozen=True, kw_only=True)
class StreamMethod:
    """
    A way to train stage after stage.

    Args:
        title (`str`): as in its paper.
        source (`str`): the paper, or what it is, in a line.
        trains (`str`): the method of a comparison that trains each stage, on the model that the stage before left.
        first (`str`, *optional*): the one that trains the first stage, where there is no model to hold on to.
        joint (`bool`, *optional*, defaults to `False`): all stages are trained at once.
        around_first (`bool`, *optional*, defaults to `False`): anchors are those of the pre-trained model in all stages.
        merged (`bool`, *optional*, defaults to `False`): the adapter of a stage becomes part of the weights at its end.
        earlier (`str`, *optional*): the keyword by which its Trainer takes the training data of the stage before.
        settings (mapping, *optional*): settings of its own, with their defaults. `rows` of earlier stages are replayed.
    """

    title: str
    source: str
    trains: str
    first: str | None = None
    joint: bool = False
    around_first: bool = False
    merged: bool = False
    earlier: str | None = None
    settings: Mapping[str, float] = field(default_factory=dict)


_LORA = METHODS["lora"].source
_FTP = METHODS["ftp"].source

STREAM_METHODS: Mapping[str, StreamMethod] = {
    "plain": StreamMethod(title="sequential", source="plain fine-tuning, one stage after the other", trains="plain"),
    "joint": StreamMethod(
        title="joint", source="plain fine-tuning on all stages at once: the upper bound", trains="plain", joint=True
    ),
    "replay": StreamMethod(
        title="replay",
        source="with some rows of each class of each earlier stage: Chaudhry et al., 2019, arXiv 1902.10486",
        trains="plain",
        settings={"rows": 5},
    ),
    "l2-sp": StreamMethod(title="L2-SP", source=f"{METHODS['l2-sp'].source}; to the previous model", trains="l2-sp"),
    "ewc": StreamMethod(
        title="EWC",
        source=f"{METHODS['ewc'].source}; around the previous model, with the Fisher information of the stage before",
        trains="ewc",
        first="plain",
        earlier="fisher_dataset",
    ),
    "kl": StreamMethod(
        title="KL to previous",
        source="distillation from the previous model on the rows of the stage, as LwF (Li and Hoiem, ECCV 2016, arXiv 1606.09282)",
        trains="kl",
        first="plain",
    ),
    "lora": StreamMethod(title="LoRA", source=f"{_LORA}; one adapter for all stages", trains="lora"),
    "lora-merged": StreamMethod(
        title="LoRA merged", source=f"{_LORA}; an adapter for each stage, merged at its end", trains="lora", merged=True
    ),
    "ftp": StreamMethod(title="FTP, previous", source=f"{_FTP}; each stage around the previous model", trains="ftp"),
    "ftp-first": StreamMethod(
        title="FTP, first", source=f"{_FTP}; all stages around the first model", trains="ftp", around_first=True
    ),
}
"""By the name in a config, in the order of the report."""
