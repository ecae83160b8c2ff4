"""
What a comparison found, as plain data, and what follows from it: differences, intervals, verdicts. No torch and no pages:
reports read it, and so can anyone who wants other conclusions.
"""

from .results import ComparedRun, ComparisonResults
from .verdict import Verdict, headline, verdicts

__all__ = ["ComparedRun", "ComparisonResults", "Verdict", "headline", "verdicts"]
