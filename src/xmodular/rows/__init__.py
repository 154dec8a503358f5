"""Files and data sets → rows, each with its place; rows that are wrong are reported, and none is lost silently."""

from xmodular.rows.hub import hub_sources
from xmodular.rows.reading import FORMATS, SUFFIXES, format_of, read_rows
from xmodular.rows.row import BadRows, Knows, Row, columns_of, half_surrogate, language_of

__all__ = [
    "FORMATS",
    "SUFFIXES",
    "BadRows",
    "Knows",
    "Row",
    "columns_of",
    "format_of",
    "half_surrogate",
    "hub_sources",
    "language_of",
    "read_rows",
]
