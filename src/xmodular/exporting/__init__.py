"""Models as graphs for other runtimes."""

from xmodular.exporting.exported import Exported, export

__all__ = ["Exported", "export"]
