"""The verb `embed`: adds vectors to rows, in order; a killed run can be resumed."""

from __future__ import annotations

from xmodular.embeddings.row_embedder import RowEmbedder
from xmodular.modeling import XmodPreTrainedModel
from xmodular.options import EmbedOptions
from xmodular.prediction.predicting import Predicted, add_columns, named_input, prepared
from xmodular.prediction.predictor import settings_of
from xmodular.rows.vectors import WRITTEN
from xmodular.saved_models import given_model
from xmodular.signatures import verb


@verb(
    EmbedOptions,
    "model",
    "input",
    "output",
    objects={"model": given_model},
    rows={"input": named_input},
    holds="locked",
)
def embed(options: EmbedOptions, given: XmodPreTrainedModel | None) -> Predicted:
    """Add the vectors of texts to the rows of a file.

    Args:
        model: any X-MOD model, as an object, a folder or a name on the Hub; a head is ignored.
        input: as for `predict`.
        output: .parquet, with the column ``embedding`` as lists of fixed size; .npy, an array (rows, hidden) without
            the other columns; .jsonl (also .gz or .zst); "-" for JSON lines on standard output; with `shard_rows` a
            folder of Parquet files.

    Returns:
        The number of rows and their location.

    Raises:
        ConfigurationError, DataError, LanguageError: for invalid input; finished rows are kept.
    """
    options = prepared(options, given, WRITTEN)
    predictor = RowEmbedder(
        given if given is not None else options.model,
        options.tokenizer,
        pooling=options.pooling,
        normalize=options.normalize,
        prefix=options.prefix,
        **settings_of(options),
    )
    return add_columns(predictor, options, given)
