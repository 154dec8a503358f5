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


@pytest.mark.parametrize("probabilities", [False, True])
@pytest.mark.parametrize("name", ROWS)
def test_the_columns_are_those_of_predictions(folders: dict[str, Path], name: str, probabilities: bool) -> None:
    if probabilities and name in ("regress", "XmodForQuestionAnswering"):
        pytest.skip("these choose from no list")
    predictor = Predictor(folders[name], identify=True, default_language="en", probabilities=probabilities)
    (prediction,) = predictor([ROWS[name]])
    assert list(predictor.columns) == list(prediction)
    for column, value in predictor.columns.items():
        if prediction[column] not in (None, []):  # no span may be found, no confidence be needed
            assert pa.array([value]).type == pa.array([prediction[column]]).type, column
