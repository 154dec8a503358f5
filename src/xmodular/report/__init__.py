"""Charts and tables as pieces of a page that needs nothing else, and as pictures. It knows nothing of models."""

from xmodular.report.charts import Bar, Heat, Line, Mark, chart, heat, legend, ramp
from xmodular.report.page import COLOURS, Cell, card, document, facts, panels, section, table
from xmodular.report.pictures import bar_picture, heat_picture
from xmodular.report.scale import Scale

__all__ = [
    "COLOURS",
    "Bar",
    "Cell",
    "Heat",
    "Line",
    "Mark",
    "Scale",
    "bar_picture",
    "card",
    "chart",
    "document",
    "facts",
    "heat",
    "heat_picture",
    "legend",
    "panels",
    "ramp",
    "section",
    "table",
]
