"""Charts and tables as parts of a self-contained page, and as pictures. It does not depend on models."""

from xmodular.charts.page import COLOURS, Cell, card, document, facts, panels, section, table
from xmodular.charts.pictures import bar_picture, heat_picture
from xmodular.charts.scale import Scale
from xmodular.charts.svg_charts import Bar, Heat, Line, Mark, chart, heat, legend, ramp
