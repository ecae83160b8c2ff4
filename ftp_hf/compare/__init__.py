"""Methods of fine-tuning side by side: trained alike, chosen on ID validation, evaluated in and out of distribution."""

from .comparison import compare
from .config import ComparisonConfig
from .results import ComparisonResults

__all__ = ["ComparisonConfig", "ComparisonResults", "compare"]
