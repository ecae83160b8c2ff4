"""Methods of fine-tuning side by side: trained alike, chosen on ID validation, evaluated in and out of distribution."""

from .comparison import compare
from .config import ComparisonConfig
from .evidence.results import ComparisonResults
from .evidence.verdict import headline
from .report.write import write_report

__all__ = ["ComparisonConfig", "ComparisonResults", "compare", "headline", "write_report"]
