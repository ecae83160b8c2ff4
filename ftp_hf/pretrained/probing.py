"""A new head on the frozen features of a pre-trained model: what is trained, and in which mode."""

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager

from torch import nn

from .origin import has_origin
from .statistics import new_statistics

__all__ = ["Probe", "only_trained", "parameters_to_freeze"]


@contextmanager
def only_trained(model: nn.Module, names: Collection[str]) -> Iterator[None]:
    """
    While it is open, only these parameters of a model are trained. Afterwards those that it froze are trained again.

    It does not stop batch-norm statistics from moving, nor dropout: call `model.eval()` before each forward pass for that.

    Args:
        model (`nn.Module`): any model.
        names (collection of `str`): of the parameters that stay trainable.

    Raises:
        ValueError: none of them is a trainable parameter of the model.
    """
    frozen = parameters_to_freeze(model, names)
    for parameter in frozen:
        parameter.requires_grad = False
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad = True


def parameters_to_freeze(model: nn.Module, names: Collection[str]) -> list[nn.Parameter]:
    """
    What [`only_trained`] freezes.

    Raises:
        ValueError: as [`only_trained`].
    """
    trainable = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not trainable.keys() & set(names):
        if not names and not has_origin(model):
            raise ValueError(
                "no parameter is left to train: nothing tells which are new, because from_pretrained did not make the model. "
                'Name the head, for example new=("classifier.*",)'
            )
        raise ValueError(
            "no parameter is left to train: the checkpoint that the model was loaded from holds all of them. Give the model "
            'a new head (num_labels=, ignore_mismatched_sizes=True), or name the head, for example new=("classifier.*",)'
        )
    return [parameter for name, parameter in trainable.items() if name not in names]


class Probe(ExitStack):
    """Training of a few parameters of a model, on features of its evaluation mode, until it is closed."""

    _new_statistics: tuple[nn.Module, ...] = ()

    def begin(self, model: nn.Module, names: Collection[str]) -> None:
        """Open [`only_trained`], in place of that of an earlier model."""
        self.close()
        self.enter_context(only_trained(model, names))
        self._new_statistics = tuple(new_statistics(model).values())

    def set_mode(self, model: nn.Module) -> None:
        """
        Let a model that is in training mode compute the features of its evaluation: no dropout, and batch norms with the
        statistics that they came with. Batch norms of a new head came with none, and go on training.
        """
        training = model.training
        model.eval()
        for norm in self._new_statistics:
            norm.train(training)
