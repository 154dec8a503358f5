"""A task names the columns of its predictions, so that nothing need be predicted to know them."""

from pathlib import Path

import pyarrow as pa
import pytest

from xmodular import Predictor

ROWS = {
    "XmodForSequenceClassification": {"text": "a"},
    "regress": {"text": "a"},
    "XmodForTokenClassification": {"words": ["a", "b"]},
    "XmodForQuestionAnswering": {"question": "a", "context": "b c"},
    "XmodForMultipleChoice": {"context": "a", "choices": ["b", "c"]},
}


_CHOOSE = [name for name in ROWS if name not in ("regress", "XmodForQuestionAnswering")]


@pytest.mark.parametrize(
    ("name", "probabilities"), [*((name, False) for name in ROWS), *((name, True) for name in _CHOOSE)]
)
def test_the_columns_are_those_of_predictions(folders: dict[str, Path], name: str, probabilities: bool) -> None:
    predictor = Predictor(folders[name], identify=True, default_language="en", probabilities=probabilities)
    (prediction,) = predictor([ROWS[name]])
    assert list(predictor.columns) == list(prediction)
    for column, value in predictor.columns.items():
        if prediction[column] not in (None, []):  # no span may be found, no confidence be needed
            assert pa.array([value]).type == pa.array([prediction[column]]).type, column
