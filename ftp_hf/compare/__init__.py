"""Methods of fine-tuning side by side: trained alike, chosen on ID validation, evaluated in and out of distribution."""

from .comparison import compare
from .config import ComparisonConfig
from .report import write_report
from .results import ComparisonResults
from .verdict import headline

__all__ = ["ComparisonConfig", "ComparisonResults", "compare", "headline", "write_report"]
