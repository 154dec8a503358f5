"""Predictions on text: pieces for a mask, and a task's labels, scores, spans or answers."""

from xmodular.prediction.filling import Filling, fill_mask
from xmodular.prediction.predicting import Predicted, predict
from xmodular.prediction.predictor import Predictor

__all__ = ["Filling", "Predicted", "Predictor", "fill_mask", "predict"]
