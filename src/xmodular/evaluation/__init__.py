"""Score models in many languages: the adapter for each reading, values with intervals, differences on the same rows."""

from xmodular.evaluation.evaluating import evaluate

__all__ = ["evaluate"]
