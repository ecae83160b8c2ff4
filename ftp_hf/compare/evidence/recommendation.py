"""Which of the runs is worth going on with."""

from ftp_hf.common.figures import metric_named

from .measures import diverged, robust_kind
from .results import ComparedRun, ComparisonResults
from .rules import all_meet_rules
from .tuning import collapse
from .verdict import Verdict, verdicts

__all__ = ["recommended"]


def recommended(results: ComparisonResults) -> ComparedRun | None:
    """
    The run to go on with; `None` if there is none, or its weights are gone. Its method clearly gains something over plain
    fine-tuning, in robustness or on retained data, clearly loses on no kind of data, diverged in no seed, and all of its runs
    meet the rules; of several, it is the one with the largest clear gain in robustness, or else with gains on most retained
    sets. Of the runs of the method it is the one with the best ID validation: test, OOD and retained data do not choose
    between seeds.
    """
    if collapse(results):
        return None
    gains = {
        verdict.method: gain
        for verdict in verdicts(results)
        if any(gain := _gains(verdict, robust_kind(results)))
        and not diverged(results, verdict.method)
        and all_meet_rules(results, verdict.method)
    }
    kept = [run for run in results.chosen_runs(max(gains, key=gains.__getitem__)) if run.folder] if gains else []
    rank = metric_named(results.metric).rank
    return max(kept, key=lambda run: rank(run.value("validation", results.metric)), default=None)


def _gains(verdict: Verdict, robust: str | None) -> tuple[float, int]:
    """The clear gain in robustness, and on how many retained sets there is one; zero for a method that loses elsewhere."""
    signs = {kind: verdict.sign(kind) for kind in verdict.differences}
    if -1 in signs.values():
        return 0.0, 0
    gain = abs(verdict.differences[robust].mean) if robust and signs.get(robust) == 1 else 0.0
    return gain, sum(sign > 0 for kind, sign in signs.items() if kind.startswith("retained/"))
