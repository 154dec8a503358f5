"""Results as data, and views of them: tables, pictures, a page."""

from xmodular.results.results import Results
from xmodular.results.scores import Matrix
from xmodular.results.values import Comparison, Detail, GateOutcome, PairScore, Row, Score
