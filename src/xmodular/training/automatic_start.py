"""The start of a new adapter that `--init-from auto` finds; recorded, so that a broken run goes on with it."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedTokenizerFast, TrainingArguments

from xmodular.console import console
from xmodular.donor_ranking import ranked
from xmodular.errors import ConfigurationError
from xmodular.modeling import XmodForMaskedLM
from xmodular.options import DonorsOptions, ExtendOptions
from xmodular.outputs import DONORS, table_in
from xmodular.text import TextFiles
from xmodular.training.growing import Beginning
from xmodular.training.runs import Start


def decided(
    options: ExtendOptions,
    beginning: Beginning,
    model: XmodForMaskedLM,
    tokenizer: PreTrainedTokenizerFast,
    text: TextFiles,
    start: Start,
    arguments: TrainingArguments,
) -> Beginning:
    """The start of the adapter; where it is to be found, that of the best donors for the training text.

    The first process ranks the donors, and the others read its record, as does a run that goes on: what a processor
    rounds in another way must not change the start.

    Args:
        options: of the run.
        beginning: the start asked for.
        model: the model, without the language or with its old adapter.
        tokenizer: of its shared vocabulary.
        text: to train on.
        start: how the run starts.
        arguments: of the run.

    Raises:
        ConfigurationError: the record in the run's folder is damaged.
    """
    if not beginning.automatic:
        return beginning
    path = options.output_dir / DONORS
    with arguments.main_process_first(local=False, desc="donors"):
        if arguments.process_index == 0 and not (start.goes_on and path.is_file()):
            asked = DonorsOptions(model=options.model, text=Path(options.text or ""), language=options.language)
            found = ranked(asked, model, tokenizer, text)
            console.print(found.table())
            found.to_json(path)
        record = table_in(path)
    names, why = record.get("init_from"), record.get("why")
    if not isinstance(names, str) or not isinstance(why, list):
        raise ConfigurationError(f"{path} is damaged: start over with --overwrite.")
    return Beginning.from_names(
        names.split(","), model, options.language, f"chosen by --init-from auto: {' '.join(map(str, why))}"
    )
