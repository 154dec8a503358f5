"""Read rows from files, data sets and memory, each with its location.

Bad rows are reported; none is lost silently.
"""

from xmodular.rows.hub_rows import hub_sources
from xmodular.rows.memory import InMemory, hash_of_rows, memory_rows, sources_of
from xmodular.rows.opening import files_in, is_file, kind_of, matches
from xmodular.rows.parquet import parquet_schema, parquet_tables
from xmodular.rows.row import (
    BadRows,
    DataRow,
    Knows,
    check_letters,
    columns_of,
    half_surrogate,
    is_absent,
    is_numbered,
    language_of,
)
from xmodular.rows.row_files import FORMATS, SUFFIXES, columns_in, format_of, parquet_files, read_rows
