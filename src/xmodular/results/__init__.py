"""Results as data, and views of them: tables, pictures, a page."""

from xmodular.results.results import Results
from xmodular.results.rows import Comparison, Detail, Row, Score
from xmodular.results.scores import Matrix
