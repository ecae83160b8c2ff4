"""What a report says of the distance from the pre-trained model."""

from collections.abc import Iterator

from ftp_hf.compare.evidence.results import ComparisonResults

from .blocks import Block, Table, Text
from .tables import drift_table

__all__ = ["distances"]


def distances(results: ComparisonResults) -> list[Block]:
    """The table of distances and sensitivities, and what its columns are; nothing where nothing was measured."""
    note = (
        "Relative distance is ‖W − W0‖ / ‖W0‖ of all parameters together; a row norm is the L1 norm of a row of W − W0, in "
        "the units of the radii. The bound says how far a layer can move its output, per unit of input and on any input, "
        "from where the pre-trained layer would put it."
    )
    table = drift_table(results)
    notes = [*_function(table), note, *_sensitivity(results)]
    return [table, *map(Text, notes)] if table.rows else []


def _function(table: Table) -> Iterator[str]:
    """What the distances of functions are, where there are any."""
    if any(title.startswith("KL on") for title in table.header):
        yield (
            "KL is KL(pre-trained ‖ fine-tuned) of the answers to the first rows of each data set, in nats an answer: how far the "
            "function moved, whatever the weights did."
        )
    if any(title.startswith("hidden change") for title in table.header):
        yield (
            "Hidden change is ‖h − h0‖ / ‖h0‖ of the last hidden states for the first rows of each data set: how far the function "
            "moved below its new head."
        )


def _sensitivity(results: ComparisonResults) -> Iterator[str]:
    """What the sensitivities are, where there are any."""
    chosen = results.all_chosen()
    if seeds := {run.seed for run in chosen if run.drift and run.drift.fine_tuned is not None}:
        yield (
            f"Sensitivities are of seed {', '.join(map(str, sorted(seeds)))} alone, on a sample of test data: the largest is the "
            "most that any component of the output changed per change of the input, beside the same of the pre-trained model. "
            "Well above that, a model has become nervous: noise that used to pass unnoticed reaches its head."
        )
    if any(run.drift and run.drift.typical_fine_tuned is not None for run in chosen):
        yield (
            "The typical one is the median over the inputs, in root mean squares over the output. Where activations have a "
            "ceiling (ReLU6), the largest can be that ceiling for several methods; the typical one is not."
        )
