"""
Linear probing, and LP-FT (Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform
Out-of-Distribution", ICLR 2022, arXiv 2202.10054).
"""

from collections.abc import Collection
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from ftp_hf.common.host import Host, optimizer_of
from ftp_hf.pretrained.probing import Probe, parameters_to_freeze

from ._anchored import check_whole, parameters_without_anchor

__all__ = ["LinearProbeTrainerMixin"]


class LinearProbeTrainerMixin(Host):
    """
    For any `Trainer` class: trains the new parameters on the frozen features of the pre-trained model. The whole model is then
    in evaluation mode, as in the authors' code: no dropout, and batch norm keeps the statistics that it came
    with. Only batch norms of the new head, which came with none, go on training. When `train()` is over, the same
    parameters can be trained as before, so LP-FT is two Trainers on one model:

        LinearProbeTrainer(model=model, args=probing, train_dataset=dataset).train()
        PlainTrainer(model=model, args=fine_tuning, train_dataset=dataset).train()

    A later process gets the probed model by [`~ftp_hf.pretrained.loading.load_weights`] from where it was saved. The
    paper takes the probe's and the fine-tuning's learning rate from a sweep each, and its probes are often logistic
    regressions fitted to stored features; by gradient descent, give the probe a large learning rate and no warm-up.

    Args:
        new (collection of `str`, *optional*, defaults to `()`): names or glob patterns of parameters to train beside those
            that the model's checkpoint does not hold: an old head, for example.

    Raises:
        ValueError: no parameter is left to train; a pattern matches no parameter; FSDP or DeepSpeed, which replace the
            parameters, so that they would stay frozen.
    """

    method_name = "linear-probe"

    def __init__(self, *args: Any, new: Collection[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        check_whole(self.method_name, self.model, self.accelerator)
        self._probed = parameters_without_anchor(self.model, new)
        parameters_to_freeze(self.model, self._probed)
        self._probing = Probe()

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """As `Trainer.train`, with all but the new parameters frozen until it returns."""
        with self._probing:
            return super().train(*args, **kwargs)

    def create_optimizer(self, model: Any = None) -> Optimizer:
        """The optimizer of the Trainer class, which is not given what is frozen."""
        # Here, and not in `train`, because only now is the model certain that is trained (`model_init`), and not later,
        # because DDP looks at what is trained when it wraps the model.
        self._probing.begin(self.model if model is None else model, self._probed)
        return optimizer_of(self, super().create_optimizer, model)

    def compute_loss(self, model: nn.Module, *args: Any, **kwargs: Any) -> Tensor | tuple[Tensor, Any]:
        """As `Trainer.compute_loss`, with the model in evaluation mode, from which each training step takes it."""
        self._probing.set_mode(model)
        return super().compute_loss(model, *args, **kwargs)
