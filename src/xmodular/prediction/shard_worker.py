"""A worker of a run over shards: predicts files, each into a file of its own.

It writes a shard's output beside its place and gives it its name once it is whole; then it writes a note. A shard is
finished if its note is there and its output has the size that is noted, so any run can go on after any other, and two
workers at one shard do no harm.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from xmodular.console import console
from xmodular.errors import XmodularError, speaking
from xmodular.options import PredictOptions
from xmodular.outputs import held
from xmodular.prediction.parts import sync
from xmodular.prediction.predictor import Predictor, settings_of
from xmodular.prediction.row_counts import counts_of
from xmodular.prediction.shard_folder import ShardFolder
from xmodular.prediction.shards import Shard
from xmodular.rows.folders import copied_here
from xmodular.rows.writers import bad_lines, read_lines
from xmodular.saved_models import most_resident

Note = dict[str, Any]
PredictFile = Callable[[Predictor, PredictOptions], Any]  # `predict` for one file, with a predictor that is loaded


class ShardWorker:
    """Predicts shards, one after another, with one model, which is loaded with the first.

    It can be pickled. Adapters are loaded when rows first need them.

    Args:
        options: of the run over shards; the output is that of the run.
        predict_file: `predict` for one file.
    """

    def __init__(self, options: PredictOptions, predict_file: PredictFile) -> None:
        self.options = options
        self.predict_file = predict_file
        self.folder = ShardFolder(options.place)
        self._predictor: Predictor | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_predictor": None}

    def attempt(self, shard: Shard) -> Note | XmodularError:
        """The note of a finished shard, or why it is not finished."""
        try:
            return self(shard)
        except XmodularError as error:
            return error

    @speaking
    def __call__(self, shard: Shard) -> Note:
        """Predict a shard unless it is finished.

        Returns:
            Its note.

        Raises:
            DataError: the shard, or one of its rows, cannot be read.
            ConfigurationError, LanguageError: the options do not suit the model, or all shards.
        """
        with self.folder.staged(shard.name) as stage, held(stage, wait=True):
            if (note := self.folder.note(shard.name)) is not None and note["state"] == shard.state:
                return note  # another worker has finished it in the meantime
            with copied_here(shard.source) as input:
                note = self._predict(shard, input, stage)
            self.folder.publish(shard.name, stage, note)
        return note

    def _predict(self, shard: Shard, input: str, stage: Path) -> Note:
        start, busy = time.monotonic(), time.process_time()
        with console.kept() as heard:
            if self._predictor is None:
                self._predictor = predictor_of(self.options)
            before = counts_of(self._predictor)
            single: dict[str, Any] = {"engine": None, "workers": 1, "worker_threads": None, "worker_gpus": 0.0}
            own = replace(self.options, input=input, output=str(stage), overwrite=True, **single)
            try:
                done = self.predict_file(self._predictor, own)
            except XmodularError as error:  # it names the copy of a file at an address
                raise type(error)(str(error).replace(input, shard.source)) from error
        doubts = {name: count - before[name] for name, count in counts_of(self._predictor).items()}
        if done.bad and input != shard.source:
            _rename_places(done.bad_rows, input, shard.source)
        times = {"seconds": time.monotonic() - start, "core_seconds": time.process_time() - busy}
        counts = {
            "rows": done.rows,
            "bad": done.bad,
            **doubts,
            **{name: round(each, 3) for name, each in times.items()},
        }
        told = self.folder.with_final_names(heard.getvalue().replace(input, shard.source), shard.name, stage)
        said = [line for line in told.splitlines() if line.strip()]
        languages = list(self._predictor.model.resident_languages)
        return {"input": shard.source, "state": shard.state, **counts, "languages": languages, "said": said}


def predictor_of(options: PredictOptions) -> Predictor:
    """The predictor of a worker."""
    settings = settings_of(options)
    if options.resident_languages is None:
        settings["resident_languages"] = most_resident(options.model)
    predictor = Predictor(options.model, options.tokenizer, **settings)
    options.check_kind(predictor.task.kinds, f"{options.model} is a model for {predictor.task.name}")
    return predictor


def _rename_places(path: Path, here: str, there: str) -> None:
    """In a file of bad rows, name the file that was copied, not its copy."""
    noted = [{**row, "place": row["place"].replace(here, there, 1)} for row in read_lines(path)]
    path.write_bytes(b"".join(bad_lines(noted)))
    sync(path)
