"""Score models in many languages: which adapter reads what, values with intervals, differences on the same rows."""

from xmodular.evaluation.evaluating import evaluate

__all__ = ["evaluate"]
