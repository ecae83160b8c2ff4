from .evidence.results import ComparisonResults
from .evidence.verdict import headline
from .report.write import write_report
from .run.comparison import compare
from .run.config import ComparisonConfig

__all__ = ["ComparisonConfig", "ComparisonResults", "compare", "headline", "write_report"]
