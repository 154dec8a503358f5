"""Results as data, and views of them: tables, pictures, a page."""

from xmodular.results.results import Results
from xmodular.results.rows import Comparison, Row, Score
from xmodular.results.scores import Matrix

__all__ = ["Comparison", "Matrix", "Results", "Row", "Score"]
