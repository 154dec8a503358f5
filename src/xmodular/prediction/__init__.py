"""Predictions on text: the pieces for a mask, and a task's labels, scores, spans or answers."""

from xmodular.prediction.masks import Filling, fill_mask
from xmodular.prediction.predictor import Predictor
from xmodular.prediction.run import Predicted, predict

__all__ = ["Filling", "Predicted", "Predictor", "fill_mask", "predict"]
