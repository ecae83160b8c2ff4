"""
What a comparison found, as plain data, and what follows from it: differences, intervals, verdicts. No torch and no pages:
it is read by reports, and by whoever wants other conclusions.
"""

from .results import ComparedRun, ComparisonResults
from .verdict import Verdict, headline, verdicts

__all__ = ["ComparedRun", "ComparisonResults", "Verdict", "headline", "verdicts"]
