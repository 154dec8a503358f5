# Written by `python docs/reference/make_options.py` from the verbs and their options.

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from xmodular.catalogue import models as models
from xmodular.comparison.certificate import Certificate
from xmodular.configuration import XmodConfig as XmodConfig
from xmodular.conversion.outcome import Converted
from xmodular.identify import Identifier as Identifier
from xmodular.modeling import XmodForCausalLM as XmodForCausalLM
from xmodular.modeling import XmodForMaskedLM as XmodForMaskedLM
from xmodular.modeling import XmodForMultipleChoice as XmodForMultipleChoice
from xmodular.modeling import XmodForQuestionAnswering as XmodForQuestionAnswering
from xmodular.modeling import XmodForSequenceClassification as XmodForSequenceClassification
from xmodular.modeling import XmodForTokenClassification as XmodForTokenClassification
from xmodular.modeling import XmodModel as XmodModel
from xmodular.modeling import XmodPreTrainedModel as XmodPreTrainedModel
from xmodular.modeling import register as register
from xmodular.pack_verbs.pack_checks import PackList, Verification
from xmodular.packs.pack import Pack
from xmodular.prediction import Predictor as Predictor
from xmodular.prediction.filling import Filling
from xmodular.prediction.predicting import Predicted
from xmodular.results.results import Results
from xmodular.training.runs import Run

__version__: str

def convert(
    source: str | Path,
    *,
    output_dir: str | Path,
    to: Literal["xmodular", "fairseq"] = "xmodular",
    preset: str | None = None,
    overwrite: bool = False,
    revision: str | None = None,
    head: str | None = None,
    tokenizer: bool = True,
) -> Converted:
    """Convert a checkpoint from fairseq's format or to it.

    Nothing in the file runs, and every weight is accounted for: converted, ignored by name, or an error. The weights'
    bytes stay as they are, so fairseq to here and back gives the same tensors.

    Args:
        source: towards this library a fairseq checkpoint (``model.pt``) or a folder with one; else a model folder or
            a name on the Hub.
        output_dir: the folder to make.
        to: The format to convert to.
        preset: Shape of a fairseq checkpoint that does not say its own, such as xmod-base.
        overwrite: Replace a model in `output_dir`.
        revision: Branch, tag or commit of the source on the Hub; name@revision says the same of any name there.
        head: Name of the classification head in fairseq; needed where there are several.
        tokenizer: Convert the vocabulary too, where it lies beside the weights.

    Returns:
        What was converted, and what was not.

    Raises:
        DataError: a file is missing or damaged, or weights are missing, unknown or of the wrong shape.
        ConfigurationError: file, weights and preset contradict each other, or the other format cannot hold the model.
    """

def diff(
    a: XmodPreTrainedModel | str | Path,
    b: XmodPreTrainedModel | str | Path,
    *,
    allow: str | Sequence[str] = (),
    output: str | Path | None = None,
    overwrite: bool = False,
) -> Certificate:
    """Compare two models or packs language by language, bit by bit.

    Two tensors are identical if dtype, shape and all bytes are. A bare encoder is compared with the encoder of a task
    model, a language pack with its language in a model, and two packs with each other, whatever their codes.

    Args:
        a, b: model or pack: a folder or a name on the Hub; or a model object.
        allow: the parts that may differ: languages in any spelling, or names of `PARTS`.
        output: Write the comparison to this JSON file.
        overwrite: Replace the comparison in `output`.

    Returns:
        The certificate; its `ok` says whether all that is not allowed to differ is identical.

    Raises:
        ConfigurationError: there is neither model nor pack, or `allow` names no part.
        DataError: weights are missing or damaged, or what is loaded is not what the files show: two tensors have one
            name, or a shard, an adapter of PEFT or a distributed checkpoint adds to them.
        LanguageError: a pack is compared with a model that has no such language.
        PackError: a pack is damaged.
    """

def evaluate(
    model: XmodPreTrainedModel | str | Path | Sequence[XmodPreTrainedModel | str | Path],
    data: Any,
    *,
    output_dir: str | Path | None = None,
    languages: str | Sequence[str] = (),
    adapter: str | Sequence[Literal["right", "source", "relative", "none"]] = ("right", "source"),
    revision: str | None = None,
    split: str = "test",
    columns: str | Mapping[str, str] | None = None,
    skip_bad_rows: bool = False,
    source: str | None = None,
    fallback: Literal["relative"] | None = None,
    tokenizer: str | Path | None = None,
    max_length: int | None = None,
    stride: int | None = None,
    packing: Literal["fill", "documents", "lines"] = "fill",
    batch_tokens: int = 8192,
    precision: Literal["keep", "fp32", "bf16", "fp16"] = "keep",
    answers: Literal["mlqa", "squad"] = "mlqa",
    seed: int = 0,
    predictions: bool = False,
    overwrite: bool = False,
) -> Results:
    """Score one model or several on test data in many languages, all languages mixed in the batches.

    Args:
        model: a fine-tuned model as an object, a folder or a name on the Hub; the folder of a run with several seeds;
            a language model, for perplexities; or several of these with one task. The first is the baseline with
            which others are compared.
        data: a file, or rows as for `finetune`, by language; rows with a column ``language``; or one or several of:
            folders or globs of ``<language>.<split>.<ext>`` files, of which those in the models' languages are read,
            and with `fallback` those in their relatives too; files with a column ``language``; ``<language>=<file>``;
            ``hub:<data set>:<configuration>:<split>`` with ``{language}`` in it.
        output_dir: Where results.json, results.md, report.html and the pictures go.
        languages: Only these languages, comma-separated.
        adapter: right: the language's own adapter; source: the training language's for all (no switching);
            relative: that of the nearest relative; none: no adapter.
        revision: Branch, tag or commit of the models on the Hub; name@revision says the same of any name there.
        split: Which split of a folder to read.
        columns: Names of columns, as text=review,label=stars; default: as in training, where the rows have them.
        skip_bad_rows: Leave out rows that cannot be read, and count them.
        source: The source language; default: the one the model was fine-tuned in.
        fallback: relative: files in languages that the model lacks are read by the adapter of their nearest
            relative.
        tokenizer: Tokenizer folder; default: the model's.
        max_length: Tokens a row, or a window of it, at most; default: as fine-tuned, or 512; of perplexity's blocks
            128.
        stride: Tokens that neighbouring windows of a long context (qa) or sentence (tag) share; default: as fine-
            tuned, or a quarter of `max_length`.
        packing: How perplexity's text becomes rows, as in pretraining.
        batch_tokens: Tokens a forward pass, padding included.
        precision: keep the weights' precision, or run the model in fp32, bf16 or fp16.
        answers: How answers (qa) are normalised before they are compared: mlqa, by language; squad, as English in
            every language, which is how XTREME scores XQuAD and TyDi QA.
        seed: Seed of perplexity's masks.
        predictions: Also write every row's prediction, to predictions.jsonl in `output_dir`.
        overwrite: Replace the results in `output_dir`.

    Returns:
        Rows of values with 95 % intervals, and differences with p-values, saved in `output_dir` if one is given.

    Raises:
        ConfigurationError, DataError, LanguageError: before any work is lost.
    """

def extend(
    model: XmodPreTrainedModel | str | Path,
    language: str,
    text: str | Path | None = None,
    *,
    parallel: str | Path | None = None,
    output_dir: str | Path,
    revision: str | None = None,
    init_from: str | Sequence[str] = (),
    new_vocabulary: int | None = None,
    tokenizer: str | Path | None = None,
    start_rows: Literal["pieces", "random"] = "pieces",
    byte_fallback: bool = False,
    trainable: Literal["language", "all"] = "language",
    licence: str | None = None,
    text_field: str = "text",
    max_line: int = 100000,
    dev_text: str | Path | None = None,
    dev_fraction: float = 0.01,
    dev_blocks: int = 32,
    block_size: int = 256,
    packing: Literal["fill", "documents", "lines"] = "fill",
    mask_probability: float = 0.15,
    whole_words: bool = False,
    schedule: Literal["linear", "polynomial", "cosine", "wsd", "constant"] = "linear",
    decay: float = 0.1,
    eval_every: int | None = None,
    save_every: int = 1000,
    keep_checkpoints: int = 2,
    workers: int = 0,
    cache_dir: str | Path | None = None,
    epochs: float = 1.0,
    max_steps: int | None = None,
    batch_size: int = 32,
    accumulation: int = 1,
    learning_rate: float = 0.0005,
    warmup: float = 0.06,
    weight_decay: float = 0.01,
    max_grad_norm: float = 1.0,
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto",
    log_every: int = 50,
    seed: int = 0,
    overwrite: bool = False,
    resume: bool = False,
) -> Run:
    """Add a language to a pretrained model and train it, on its text or on its sentences beside translations.

    Args:
        model: a folder, a name on the Hub, or an object, which gets the language.
        language: the new language's code.
        text: a file, or a folder with the language's files; None where there are translations, `parallel`.
        parallel: In place of `text`: its sentences beside their translations, a .tsv, .csv, .jsonl or .parquet file
            whose columns are named by languages. The adapter learns to give a sentence the states of its
            translations. A tenth is held out, or a hundred, or `dev_fraction` if more; there are 300 steps at least
            without `max_steps`.
        output_dir: Where the model, its tokenizer and its metrics go.
        revision: Branch, tag or commit of the model on the Hub; name@revision says the same of any name there.
        init_from: Start from these languages' adapters: one, several (averaged), or with weights (de=2,nl=1);
            neutral: adds nothing at first; default: random.
        new_vocabulary: Train it a vocabulary of its own, of so many pieces.
        tokenizer: Give it this tokenizer for a vocabulary of its own.
        start_rows: New pieces that the model does not know start as the mean of its pieces that spell them, or at
            random.
        byte_fallback: With `new_vocabulary`: spell unknown characters in bytes (256 pieces).
        trainable: language: its adapter (and vocabulary); all: the whole model, which moves the other languages
            too.
        licence: Licence of the language pack, as an SPDX identifier.
        text_field: Field of JSON Lines, column of Parquet and data sets with the text.
        max_line: Characters a line; longer ones are cut at a space.
        dev_text: Folder of <language>.txt validation files; default: hold out lines.
        dev_fraction: Share of lines held out for validation where there is no `dev_text`.
        dev_blocks: Validation reads at most so many blocks of a language, at 4 bytes a token: the same lines for
            any vocabulary.
        block_size: Tokens a block (a training sequence), the leading <s> included.
        packing: fill: blocks run across lines; documents: no block mixes documents; lines: a line has blocks of its
            own.
        mask_probability: Share of tokens to predict (mlm).
        whole_words: Choose the tokens of a word together (mlm).
        schedule: Learning rate after warm-up; polynomial is of degree 2, wsd falls at the end.
        decay: Share of all steps in which `schedule` wsd falls.
        eval_every: Validate every so many steps; always at the end.
        save_every: Write a checkpoint every so many steps; none: no checkpoints.
        keep_checkpoints: Keep so many checkpoints, the newest ones; 0 keeps all.
        workers: Data loading processes.
        cache_dir: Tokenised blocks are kept here; default: <output-dir>/blocks.
        epochs: Passes over as many rows as there are; ignored with `max_steps`.
        max_steps: Optimiser steps.
        batch_size: Rows (blocks) per device and forward pass.
        accumulation: Forward passes per optimiser step.
        learning_rate: Peak learning rate; linear warm-up, linear decay.
        warmup: Warm-up in steps, or as a share of all steps if below 1.
        weight_decay: AdamW's weight decay.
        max_grad_norm: Gradient clipping by norm; 0: none.
        precision: auto takes bf16 on a GPU that has it and fp32 elsewhere.
        log_every: Log the loss every so many steps.
        seed: Seed of everything that is drawn: initialisation, order, masks, dropout.
        overwrite: Replace the run in `output_dir`, finished or not.
        resume: Go on with the run in `output_dir` although options differ, or it is finished.

    Returns:
        The model with the language, saved in `output_dir` with its language pack (``pack``), the certificate of what
        else moved (``certificate.json``), and ``metrics.json``: the held-out text's loss, perplexity and bits per
        character under each adapter that was there, under the new one at its start, and after training; with
        `parallel`, how many held-out sentences find their translation among all by cosine, and that cosine.

    Raises:
        ConfigurationError, DataError, LanguageError: before any work is lost.
        TrainingError: a weight moved that should not have.
    """

def fill_mask(
    model: XmodPreTrainedModel | str | Path,
    text: str,
    *,
    language: str,
    top_k: int = 5,
    revision: str | None = None,
    fallback: Literal["relative"] | None = None,
    tokenizer: str | Path | None = None,
) -> list[Filling]:
    """The likeliest pieces for every mask in a text.

    Args:
        model: a masked language model, as an object, a folder or a name on the Hub.
        text: with one or more ``<mask>``, or the tokenizer's own, such as ``[MASK]``; what else in it is spelled like a
            special token is text.
        language: Language of the text; its adapter reads it.
        top_k: Candidates for every <mask>.
        revision: Branch, tag or commit of the model on the Hub; name@revision says the same of any name there.
        fallback: relative: a language that the model lacks is read by the adapter of its nearest relative.
        tokenizer: Tokenizer folder; default: the model's.

    Returns:
        `top_k` candidates for the first mask, then for the next; in a candidate's text the other masks stay.

    Raises:
        ConfigurationError: the model is no masked language model.
        InputError: there is no mask in the text, or the text is too long.
        LanguageError: the model has no such language, nor, with `fallback`, a relative of it.
    """

def finetune(
    model: XmodPreTrainedModel | str | Path,
    train: Any,
    *,
    language: str | None = None,
    task: str = "classify",
    output_dir: str | Path,
    revision: str | None = None,
    recipe: str | None = None,
    dev: Any = (),
    dev_fraction: float | None = None,
    patience: int | None = None,
    columns: str | Mapping[str, str] | None = None,
    skip_bad_rows: bool = False,
    trainable: Literal["shared", "all", "adapters", "head", "all-but-adapters"] = "shared",
    tokenizer: str | Path | None = None,
    max_length: int = 128,
    stride: int | None = None,
    epochs: float | None = None,
    learning_rate: float | None = None,
    head_learning_rate: float | None = None,
    schedule: Literal["linear", "cosine", "constant"] = "linear",
    adam_betas: str | Sequence[float] = (0.9, 0.98),
    adam_epsilon: float = 1e-06,
    classifier_dropout: float | None = None,
    pooling: Literal["first", "mean"] | None = None,
    seeds: str | Sequence[int] = (),
    eval_every: int | None = None,
    save_every: int = 500,
    max_steps: int | None = None,
    batch_size: int = 32,
    accumulation: int = 1,
    warmup: float = 0.06,
    weight_decay: float = 0.01,
    max_grad_norm: float = 1.0,
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto",
    log_every: int = 50,
    seed: int = 0,
    overwrite: bool = False,
    resume: bool = False,
) -> Run:
    """Train a task in one language.

    Args:
        model: a pretrained model's folder or name on the Hub; or a model object with the task's head, which is
            trained in place (its tokenizer is read from where it came from, or from the option `tokenizer`). With
            several `seeds` each starts from a copy of the object. A head that is there goes on, each label keeping its
            own row (see `fit_head`).
        train: the training file or data set, or several; or the rows themselves: mappings of columns, in a list or
            another iterable, a table of pandas, polars or Arrow, or a data set of ``datasets``. So may be `dev`.
        language: Language whose adapter reads the training data; default: what its column `language` or the file's
            name says.
        task: classify: one or two texts and a label; regress: and a number; tag: a label a word; qa: the answer's
            place in a context; choice: one of several.
        output_dir: Where the model, its tokenizer and its metrics go.
        revision: Branch, tag or commit of the model on the Hub; name@revision says the same of any name there.
        recipe: Named preset of options, such as xnli; `xmodular recipes` lists them.
        dev: Validation files, in the training language; the weights that do best on them are kept.
        dev_fraction: Without `dev`: share of the training rows that are held out for validation, the same ones with
            every seed.
        patience: Stop after so many validations without a better one.
        columns: Names of columns, as text=review,label=stars.
        skip_bad_rows: Leave out rows that cannot be read, and count them.
        trainable: What trains; shared: all but embeddings and adapters.
        tokenizer: Tokenizer folder; default: the model's.
        max_length: Tokens a row, or a window of it, at most.
        stride: Tokens that neighbouring windows of a long context (qa) or sentence (tag) share; default: a quarter
            of `max_length`.
        epochs: Passes over the training files; ignored with `max_steps`; default: 5, or as many as make 200 steps.
        learning_rate: Peak learning rate; default: 2e-5 for states 768 wide, more for narrower ones in proportion.
        head_learning_rate: Peak learning rate of the task head; default: `learning_rate`; where that is not given
            either, 50 times it (at most 2e-3) if the model comes without a head for the task.
        schedule: Learning rate after warm-up.
        adam_betas: AdamW's two decay rates.
        adam_epsilon: AdamW's epsilon.
        classifier_dropout: Dropout in the task head; default: the model's.
        pooling: What the head of classify and regress reads: the first token's state, or the mean of all; default:
            what the model says.
        seeds: Train once for each of these seeds, in <output-dir>/seed-<seed>.
        eval_every: Validate every so many steps; default: after each pass, or every 10 steps where passes are
            shorter and neither `epochs` nor `max_steps` is given.
        save_every: Write a checkpoint every so many steps; none: at validations only, if they are the best so far.
        max_steps: Optimiser steps.
        batch_size: Rows (blocks) per device and forward pass.
        accumulation: Forward passes per optimiser step.
        warmup: Warm-up in steps, or as a share of all steps if below 1.
        weight_decay: AdamW's weight decay.
        max_grad_norm: Gradient clipping by norm; 0: none.
        precision: auto takes bf16 on a GPU that has it and fp32 elsewhere.
        log_every: Log the loss every so many steps.
        seed: Seed of everything that is drawn: initialisation, order, masks, dropout.
        overwrite: Replace the run in `output_dir`, finished or not.
        resume: Go on with the run in `output_dir` although options differ, or it is finished.

    Returns:
        The model with its tokenizer, saved in `output_dir` with ``options.json``, ``metrics.json``, ``log.jsonl`` and a
        model card. All its languages are there; ``config.task_language`` says which one it was trained in,
        ``config.id2label`` its labels. With several `seeds`, the one that does best in validation, the first of them
        without validation; all are saved in ``seed-<seed>``, and the metrics are their means and deviations.

    Raises:
        ConfigurationError, DataError, LanguageError: before any work is lost.
        TrainingError: the loss is no finite number any more, or a checkpoint cannot be written.
    """

def pack_install(
    pack: Pack | str | Path,
    model: XmodPreTrainedModel | str | Path,
    *,
    output_dir: str | Path | None = None,
    language: str | None = None,
    overwrite: bool = False,
    revision: str | None = None,
    force: bool = False,
) -> str:
    """Put a language pack into a model; nothing else of the model moves.

    Args:
        pack: an object, a folder or a name on the Hub.
        model: an object, which is changed, and saved only if there is an `output_dir`; or a folder, which is changed
            in place unless there is an `output_dir`; or a name on the Hub.
        output_dir: Where the model with the language goes; default: the model's own folder.
        language: Install under this code; default: the pack's.
        overwrite: Replace the language if the model has it, or a model in `output_dir`.
        revision: Branch, tag or commit of the model on the Hub; name@revision says the same of any name there.
        force: Install although the weights it was trained beside differ; shapes must fit.

    Returns:
        The language's code in the model.

    Raises:
        ConfigurationError: there is no model, or the output is taken, or missing for a model on the Hub.
        LanguageError: the code is impossible, or taken and `overwrite` is False.
        PackError: the pack is damaged or does not fit; every mismatch is listed.
    """

def pack_list(
    folder: str | Path = ".",
) -> PackList:
    """List the language packs in a folder; damaged ones are listed as such.

    Args:
        folder: a folder with packs in it, or a pack itself.

    Raises:
        DataError: there is no such folder.
    """

def pack_remove(
    model: XmodPreTrainedModel | str | Path,
    language: str,
    *,
    output_dir: str | Path | None = None,
    overwrite: bool = False,
    revision: str | None = None,
) -> str:
    """Take a language out of a model; nothing else of the model moves.

    Args:
        model: an object, a folder or a name on the Hub; where the result goes is as for `pack_install`.
        language: a language of the model.
        output_dir: Where the model goes; default: the model's own folder.
        overwrite: Replace a model in `output_dir`.
        revision: Branch, tag or commit of the model on the Hub; name@revision says the same of any name there.

    Returns:
        The code of the language that is gone.

    Raises:
        ConfigurationError: there is no model, or the output is taken, or missing for a model on the Hub.
        LanguageError: the model has no such language, or no other.
    """

def pack_save(
    model: XmodPreTrainedModel | str | Path,
    language: str,
    *,
    output_dir: str | Path,
    licence: str | None = None,
    overwrite: bool = False,
    revision: str | None = None,
    precision: Literal["keep", "fp32", "bf16", "fp16"] = "keep",
    note: str | None = None,
    results: str | Path | None = None,
    push_to_hub: str | None = None,
    private: bool = False,
) -> Pack:
    """Save one language of a model as a language pack.

    Args:
        model: an object, a folder or a name on the Hub.
        language: a language of the model.
        output_dir: The pack's folder.
        licence: Licence of the pack, as an SPDX identifier such as cc-by-4.0.
        overwrite: Replace the pack in `output_dir`.
        revision: Branch, tag or commit of the model on the Hub; name@revision says the same of any name there.
        precision: keep the weights' precision, or store them as fp32, bf16 or fp16.
        note: Where the language's text came from, how it was trained: goes on the card.
        results: A results.json; the language's rows go into the pack as its scores.
        push_to_hub: Also upload it to this repository, such as name/xmod-gsw.
        private: Make the repository private.

    Returns:
        The pack.

    Raises:
        ConfigurationError: there is no model, or `results` has no rows of the language.
        LanguageError: the model has no such language.
        PackError: the pack's folder is taken, or the Hub refuses.
    """

def pack_verify(
    pack: Pack | str | Path,
    *,
    model: XmodPreTrainedModel | str | Path | None = None,
    revision: str | None = None,
) -> Verification:
    """Check a language pack: form, checksums and, with a model, whether it fits.

    Args:
        pack, model: an object, a folder or a name on the Hub.
        revision: Branch, tag or commit of the pack on the Hub; name@revision says the same of any name there.

    Returns:
        What was found; its `ok` says whether all is well.

    Raises:
        ConfigurationError: there is no model.
    """

def predict(
    model: XmodPreTrainedModel | str | Path,
    input: Any = "",
    output: str | Path = "-",
    *,
    text: str | None = None,
    language: str | None = None,
    revision: str | None = None,
    probabilities: bool = False,
    identify: bool = False,
    threshold: float = 0.3,
    default_language: str | None = None,
    fallback: Literal["relative"] | None = None,
    columns: str | Mapping[str, str] | None = None,
    skip_bad_rows: bool = False,
    shard_rows: int | None = None,
    tokenizer: str | Path | None = None,
    max_length: int | None = None,
    stride: int | None = None,
    batch_tokens: int = 8192,
    precision: Literal["keep", "fp32", "bf16", "fp16"] = "keep",
    window: int = 2048,
    overwrite: bool = False,
) -> Predicted:
    """Add a model's predictions to the rows of a file.

    Args:
        model: a fine-tuned model, as an object, a folder or a name on the Hub.
        input: a file of rows, a .txt file with a text a line, a folder of Parquet files, "-" for JSON lines on standard
            input, or "hub:<data set>:<configuration>:<split>"; or the rows themselves, as for `finetune`. None where
            the option `text` has the one text to read.
        output: .jsonl, .csv, .tsv or, of tags, .conll (all also .gz or .zst), or .parquet; "-" for JSON lines on
            standard output; with `shard_rows` a folder, of Parquet files where the input is Parquet.
        text: One text to read, in place of `input`.
        language: Language of the rows that name none.
        revision: Branch, tag or commit of the model on the Hub; name@revision says the same of any name there.
        probabilities: Also write the probabilities of all labels, tags or choices.
        identify: Identify the language of rows for which none is known.
        threshold: Identifications with less confidence leave the language unsure.
        default_language: Language of rows that name none, with `identify` of unsure ones; default: the model's own,
            with `identify` the one it was fine-tuned in.
        fallback: relative: rows in languages that the model lacks are read by the adapter of their nearest
            relative.
        columns: Names of columns, as text=review,language=lang; default: as in training, where the rows have them.
        skip_bad_rows: Put rows that cannot be read into <output>.bad.jsonl and go on.
        shard_rows: Write part-00000.jsonl, ... (.parquet of Parquet) of so many rows into the folder `output`.
        tokenizer: Tokenizer folder; default: the model's.
        max_length: Tokens a row, or a window of it, at most; default: as fine-tuned, or 512.
        stride: Tokens that neighbouring windows of a long context (qa) or sentence (tag) share; default: as fine-
            tuned, or a quarter of `max_length`.
        batch_tokens: Tokens a forward pass, padding included.
        precision: keep the weights' precision, or run the model in fp32, bf16 or fp16.
        window: Rows that are sorted by length together, and saved together.
        overwrite: Replace `output`, and begin anew where a run was interrupted.

    Returns:
        How many rows there are and where.

    Raises:
        ConfigurationError, DataError, LanguageError: before any work is lost; rows done so far are kept.
    """

def pretrain(
    text: str | Path,
    *,
    output_dir: str | Path,
    model: XmodPreTrainedModel | str | Path | None = None,
    preset: str | None = None,
    max_steps: int | None = None,
    revision: str | None = None,
    trainable: Literal["shared", "all", "adapters", "head", "all-but-adapters"] = "all",
    head_steps: int | None = None,
    languages: str | Sequence[str] = (),
    dataset_config: str | None = None,
    dataset_split: str = "train",
    dataset_streaming: bool = False,
    dataset_rows: int | None = None,
    tokenizer: str | Path | None = None,
    vocab_size: int | None = None,
    byte_fallback: bool = False,
    overrides: str | Mapping[str, Any] | None = None,
    alpha: float = 0.3,
    alpha_end: float | None = None,
    mixing: Literal["tokens", "batch"] = "tokens",
    batch_tokens: int | None = None,
    shared: bool = False,
    objective: Literal["mlm", "clm"] | None = None,
    fsdp: bool = False,
    report_to: Literal["none", "tensorboard"] = "none",
    text_field: str = "text",
    max_line: int = 100000,
    dev_text: str | Path | None = None,
    dev_fraction: float = 0.01,
    dev_blocks: int = 32,
    block_size: int = 256,
    packing: Literal["fill", "documents", "lines"] = "fill",
    mask_probability: float = 0.15,
    whole_words: bool = False,
    schedule: Literal["linear", "polynomial", "cosine", "wsd", "constant"] = "linear",
    decay: float = 0.1,
    eval_every: int | None = None,
    save_every: int = 1000,
    keep_checkpoints: int = 2,
    workers: int = 0,
    cache_dir: str | Path | None = None,
    epochs: float = 1.0,
    batch_size: int = 32,
    accumulation: int = 1,
    learning_rate: float = 0.0005,
    warmup: float = 0.06,
    weight_decay: float = 0.01,
    max_grad_norm: float = 1.0,
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto",
    log_every: int = 50,
    seed: int = 0,
    overwrite: bool = False,
    resume: bool = False,
) -> Run:
    """Pretrain from scratch (text → tokenizer → blocks → masked LM), or go on with a model; batches mix languages.

    Args:
        model: a folder or a name on the Hub, or a model object, which stays as it is: training goes on with it, and
            its shape, languages and tokenizer stay.
        text: folder of ``<language>.<anything>.txt``, ``.jsonl`` or ``.parquet`` files, or ``hub:<data set>``.
        output_dir: Where the model, its tokenizer and its metrics go.
        preset: Model shape: tiny, mini, small, base, large-prenorm, or a released checkpoint; default: small.
        max_steps: Optimiser steps.
        revision: Branch, tag or commit of the model on the Hub; name@revision says the same of any name there.
        trainable: What trains; anything but all needs `model`.
        head_steps: Train the masked-LM head alone for so many steps first; a `model` without a head gets a new one.
        languages: Only these languages, comma-separated; default: all in the folder.
        dataset_config: Configuration of the data set; {language} is the language's code, {subtag} its first part.
        dataset_split: Split of the data set; {language} and {subtag} as above.
        dataset_streaming: Read the data set from afar in every pass instead of downloading it.
        dataset_rows: Read so many rows of each language; default: all.
        tokenizer: Tokenizer folder or sentencepiece.bpe.model; default: that of `model`, else train one.
        vocab_size: Size of the trained vocabulary, special tokens included; default: 32000.
        byte_fallback: Spell unknown characters in bytes (256 pieces of the vocabulary).
        overrides: Changes to the preset, as name=value,name=value; with `model`, its dropout may change.
        alpha: Smoothing of language shares: q proportional to p^alpha.
        alpha_end: Alpha of the last draw, on a line from `alpha`; default: the same.
        mixing: tokens: a batch mixes languages; batch: one language a batch and process.
        batch_tokens: Tokens per device and forward pass, in place of `batch_size`.
        shared: One adapter for all languages: the dense model of the same active size.
        objective: mlm: restore masked tokens; clm: predict each next token; default: what `model` was trained for,
            else mlm.
        fsdp: Shard weights, gradients and optimiser over the processes (torchrun).
        report_to: tensorboard: losses also go to <output-dir>/tensorboard.
        text_field: Field of JSON Lines, column of Parquet and data sets with the text.
        max_line: Characters a line; longer ones are cut at a space.
        dev_text: Folder of <language>.txt validation files; default: hold out lines.
        dev_fraction: Share of lines held out for validation where there is no `dev_text`.
        dev_blocks: Validation reads at most so many blocks of a language, at 4 bytes a token: the same lines for
            any vocabulary.
        block_size: Tokens a block (a training sequence), the leading <s> included.
        packing: fill: blocks run across lines; documents: no block mixes documents; lines: a line has blocks of its
            own.
        mask_probability: Share of tokens to predict (mlm).
        whole_words: Choose the tokens of a word together (mlm).
        schedule: Learning rate after warm-up; polynomial is of degree 2, wsd falls at the end.
        decay: Share of all steps in which `schedule` wsd falls.
        eval_every: Validate every so many steps; always at the end.
        save_every: Write a checkpoint every so many steps; none: no checkpoints.
        keep_checkpoints: Keep so many checkpoints, the newest ones; 0 keeps all.
        workers: Data loading processes.
        cache_dir: Tokenised blocks are kept here; default: <output-dir>/blocks.
        epochs: Passes over as many rows as there are; ignored with `max_steps`.
        batch_size: Rows (blocks) per device and forward pass.
        accumulation: Forward passes per optimiser step.
        learning_rate: Peak learning rate; linear warm-up, linear decay.
        warmup: Warm-up in steps, or as a share of all steps if below 1.
        weight_decay: AdamW's weight decay.
        max_grad_norm: Gradient clipping by norm; 0: none.
        precision: auto takes bf16 on a GPU that has it and fp32 elsewhere.
        log_every: Log the loss every so many steps.
        seed: Seed of everything that is drawn: initialisation, order, masks, dropout.
        overwrite: Replace the run in `output_dir`, finished or not.
        resume: Go on with the run in `output_dir` although options differ, or it is finished.

    Returns:
        The model with its tokenizer, saved in `output_dir` with ``options.json`` and ``metrics.json`` (training
        loss; validation loss and perplexity of each language). With the option `model` the metrics also have the
        validation ``before`` training, and ``certificate.json`` says what moved.

    Raises:
        ConfigurationError, DataError, LanguageError: before any work is lost.
        TrainingError: the loss is no finite number any more, a checkpoint cannot be written, or a weight moved that
            should not have.
    """

def upcycle(
    model: str | Path,
    languages: str | Sequence[str],
    *,
    output_dir: str | Path,
    pooling: Literal["first", "mean"] | None = None,
    overwrite: bool = False,
    revision: str | None = None,
    tokenizer: str | Path | None = None,
    reduction: float = 2.0,
    head: bool = True,
    seed: int = 0,
) -> Converted:
    """Make an X-MOD of a dense encoder, with equal states and an adapter per language that adds nothing yet.

    BERT, RoBERTa, XLM-RoBERTa, CamemBERT and RoBERTa-PreLayerNorm encoders, bare or with a head, become X-MODs whose
    states at real tokens are those of the source in every language (sparse upcycling: Komatsuzaki et al. 2023). Of an
    X-MOD, the shared weights and the adapters of languages that it has are kept.

    Args:
        model: a folder or a name on the Hub.
        languages: codes, tags or names of the languages that are to have an adapter, in the order of their ids.
        output_dir: the folder to make.
        pooling: What a classification head is to read: the first token's state, or the mean of all, as sentence
            encoders are trained; default: mean where 1_Pooling/config.json says so, else first.
        overwrite: Replace a model in `output_dir`.
        revision: Branch, tag or commit of the model on the Hub; name@revision says the same of any name there.
        tokenizer: Folder or name of the tokenizer; default: the one beside the weights.
        reduction: The encoder's width divided by the adapters'.
        head: Bring the head along, where the model has one.
        seed: Seed of the adapters' first matrices; the second are zero.

    Returns:
        What was made.

    Raises:
        ConfigurationError: X-MOD cannot compute what the source does; the part that it lacks is named.
        DataError: weights are missing, unknown or of the wrong shape, or the tokenizer is not the model's.
        LanguageError: a language is named twice, or ambiguous.
    """
