"""Charts and tables as pieces of a page that needs nothing else, and as pictures. It knows nothing of models."""

from xmodular.report.charts import Bar, Heat, Line, Mark, chart, heat, legend, ramp
from xmodular.report.page import COLOURS, Cell, card, document, facts, panels, section, table
from xmodular.report.pictures import bar_picture, heat_picture
from xmodular.report.scale import Scale
