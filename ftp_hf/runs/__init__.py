"""The facts of a finished run, as plain data, and the rules that it is held to. No torch: reports and the Hub need none."""

from .data import data_facts
from .facts import DataFacts
from .rules import load_rules
from .summary import RunSummary

__all__ = ["DataFacts", "RunSummary", "data_facts", "load_rules"]
