# Written by `python docs/reference/make_options.py` from the verbs and their options.

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from xmodular.catalogue import models as models
from xmodular.comparison.certificate import Certificate
from xmodular.configuration import XmodConfig as XmodConfig
from xmodular.conversion.outcome import Converted
from xmodular.donor_ranking.ranking import Donors
from xmodular.embeddings import MtebEncoder as MtebEncoder
from xmodular.exporting.exported import Exported
from xmodular.identification import FastTextIdentifier as FastTextIdentifier
from xmodular.identification import Identifier as Identifier
from xmodular.identification import SpanIdentifier as SpanIdentifier
from xmodular.modeling import XmodForCausalLM as XmodForCausalLM
from xmodular.modeling import XmodForMaskedLM as XmodForMaskedLM
from xmodular.modeling import XmodForMultipleChoice as XmodForMultipleChoice
from xmodular.modeling import XmodForQuestionAnswering as XmodForQuestionAnswering
from xmodular.modeling import XmodForSentenceEmbedding as XmodForSentenceEmbedding
from xmodular.modeling import XmodForSequenceClassification as XmodForSequenceClassification
from xmodular.modeling import XmodForTokenClassification as XmodForTokenClassification
from xmodular.modeling import XmodModel as XmodModel
from xmodular.modeling import XmodPreTrainedModel as XmodPreTrainedModel
from xmodular.pack_verbs.pack_checks import PackList, Verification
from xmodular.packs.pack import Pack
from xmodular.prediction import Predictor as Predictor
from xmodular.prediction.filling import Filling
from xmodular.prediction.predicting import Predicted
from xmodular.registration import register as register
from xmodular.results.results import Results
from xmodular.training.runs import Run
from xmodular.trimming.trim_report import Trimmed

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
    """Convert a checkpoint from or to fairseq's format.

    No code in the file is run. Every weight is accounted for: converted, ignored by name, or an error. The weights'
    bytes do not change, so converting from fairseq and back gives the same tensors.

    Args:
        source: a fairseq checkpoint (``model.pt``) or a folder with one; with ``to="fairseq"``, a model folder or
            a name on the Hub.
        output_dir: the folder to create.
        to: The format to convert to.
        preset: Shape of a fairseq checkpoint that does not record it, such as xmod-base.
        overwrite: Replace a model in `output_dir`.
        revision: Branch, tag or commit of the source on the Hub; the same as writing name@revision.
        head: Name of the classification head in fairseq; required if there are several.
        tokenizer: Also convert the vocabulary, if it is next to the weights.

    Returns:
        A report of what was converted and what was not.

    Raises:
        DataError: a file is missing or damaged, or weights are missing, unknown or of the wrong shape.
        ConfigurationError: file, weights and preset contradict each other, or the target format cannot hold the model.
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
    model, a language pack with its language in a model, and two packs with each other, even if their codes differ.

    Args:
        a, b: model or pack: a folder or a name on the Hub; or a model object.
        allow: the parts that may differ: languages in any spelling, or names of `PARTS`.
        output: Write the comparison to this JSON file.
        overwrite: Replace the comparison in `output`.

    Returns:
        The certificate; its `ok` tells whether everything that may not differ is identical.

    Raises:
        ConfigurationError: there is neither model nor pack, or `allow` names no part.
        DataError: weights are missing or damaged, or loading gives other weights than the files: two tensors have one
            name, or a shard, an adapter of PEFT or a distributed checkpoint adds to them.
        LanguageError: a pack is compared with a model that has no such language.
        PackError: a pack is damaged.
    """

def donors(
    model: XmodPreTrainedModel | str | Path,
    text: str | Path,
    language: str | None = None,
    *,
    output: str | Path | None = None,
    overwrite: bool = False,
    revision: str | None = None,
    candidates: str | Sequence[str] = (),
    most: int = 5,
    reference: str | Path | None = None,
    text_field: str = "text",
    sample_bytes: int = 16000,
    block_size: int = 64,
    mask_probability: float = 0.15,
    batch_size: int = 32,
    seed: int = 0,
) -> Donors:
    """Rank a model's languages, and averages of them, as the start for a new language or the reader of a dialect.

    A model with a masked-LM head is measured: bits per character of a sample of the text under each adapter, always
    with the same masks, first on a quarter of the sample, then the best languages on all of it; then the average of
    the best two, three and so on, and mixtures of them that give better languages more weight. In a script that
    the model never saw, the best start is an adapter that adds nothing. Any other model is not measured: its languages
    are ranked by kinship, the language that the lines are taken for, script and pieces.

    Args:
        model: a folder, a name on the Hub, or an object, which is not changed.
        text: a file, or a folder with the language's files.
        language: the text's language, if known.
        output: Write the ranking to this JSON file.
        overwrite: Replace the ranking in `output`.
        revision: Branch, tag or commit of the model on the Hub; the same as writing name@revision.
        candidates: Only these languages of the model, comma-separated; default: all.
        most: Most languages in an average or mixture; 1: only single languages.
        reference: Folder of <language>.* files in the model's languages: also shows how many of the text's pieces
            each uses.
        text_field: Name of the text field (JSON Lines) or text column (Parquet).
        sample_bytes: Bytes of text to measure on, the first lines of every file; a quarter of it for all languages,
            all for the best.
        block_size: Tokens per block, including the leading <s>; a line has its own blocks.
        mask_probability: Share of tokens to predict.
        batch_size: Blocks per forward pass.
        seed: Random seed of the masks, which are the same for all candidates.

    Returns:
        The ranking with all evidence; its `init_from` is the best start, its `reader` the best single language.

    Raises:
        ConfigurationError: the output cannot be written, or no language of the model reads the shared vocabulary.
        DataError: the text cannot be read, or there is none; or there is no tokenizer with the model.
        LanguageError: the model lacks a candidate, or the folder has no text in the language.
    """

def embed(
    model: XmodPreTrainedModel | str | Path,
    input: Any = "",
    output: str | Path = "-",
    *,
    text: str | None = None,
    language: str | None = None,
    pooling: Literal["first", "mean"] | None = None,
    normalize: bool | None = None,
    prefix: str | None = None,
    vectors: Literal["fp32", "fp16"] = "fp32",
    revision: str | None = None,
    shard_rows: int | None = None,
    identify: bool | str | Any = False,
    identify_languages: str | Sequence[str] = (),
    threshold: float = 0.3,
    default_language: str | None = None,
    fallback: Literal["relative"] | None = None,
    columns: str | Mapping[str, str] | None = None,
    skip_bad_rows: bool = False,
    tokenizer: str | Path | None = None,
    max_length: int | None = None,
    batch_tokens: int = 8192,
    precision: Literal["keep", "auto", "fp32", "bf16", "fp16"] = "keep",
    resident_languages: int | None = None,
    window: int = 2048,
    overwrite: bool = False,
) -> Predicted:
    """Add the vectors of texts to the rows of a file.

    Args:
        model: any X-MOD model, as an object, a folder or a name on the Hub; a head is ignored.
        input: as for `predict`.
        output: .parquet, with the column ``embedding`` as lists of fixed size; .npy, an array (rows, hidden) without
            the other columns; .jsonl (also .gz or .zst); "-" for JSON lines on standard output; with `shard_rows` a
            folder of Parquet files.
        text: A single text, instead of `input`.
        language: Language of rows that do not name one.
        pooling: A text's vector: the first token's state, or the mean of all; default: as recorded in the model,
            else mean.
        normalize: Give vectors the length 1; default: as recorded in the model, else yes.
        prefix: Put before every text, such as "query: "; default: as recorded in the model, else nothing.
        vectors: Precision of the vectors in .parquet and .npy.
        revision: Branch, tag or commit of the model on the Hub; the same as writing name@revision.
        shard_rows: Write files of this many rows, part-00000.jsonl, ... (or .parquet), into the folder `output`.
        identify: Identify the language of rows that do not name one: py3langid (also without a value); spans, the
            language of each word, whose tokens are read by its adapter; fasttext:<file> or glotlid:<file>; a
            function of your own, <module>:<function>; or one of the last three asked word by word, such as
            spans:glotlid:<file>.
        identify_languages: Only these languages are identified, comma-separated; default: all of the model's.
        threshold: Least confidence of an identified language; below it, the default language is used.
        default_language: Language of rows that do not name one (with `identify`: of uncertain rows); default: the
            model's default language (with `identify`, if it has none: the one it was fine-tuned in).
        fallback: relative: rows in a language that the model lacks use the adapter of the most closely related
            language.
        columns: Names of columns, as text=review,language=lang; default: as in training, if the rows have those
            columns.
        skip_bad_rows: Write rows that cannot be read to <output>.bad.jsonl (with `shard_rows`: to that folder) and
            continue.
        tokenizer: Tokenizer folder; default: the model's.
        max_length: Most tokens per row or window; default: as in fine-tuning, or 512.
        batch_tokens: Tokens per forward pass, padding included.
        precision: keep the weights' precision, or run the model in fp32, bf16 or fp16; auto: bf16 where the
            processor computes it fast and 99.5 % of the predictions for some of the rows are the same as in fp32,
            else fp32.
        resident_languages: Most languages in memory; the others are read from the model's folder when rows need
            them, and those used last stay. Default: all.
        window: Number of rows that are sorted by length together.
        overwrite: Replace `output`, and start over if a run was interrupted.

    Returns:
        The number of rows and their location.

    Raises:
        ConfigurationError, DataError, LanguageError: for invalid input; finished rows are kept.
    """

def evaluate(
    model: XmodPreTrainedModel | str | Path | Sequence[XmodPreTrainedModel | str | Path],
    data: Any,
    *,
    output_dir: str | Path | None = None,
    languages: str | Sequence[str] = (),
    adapter: str | Sequence[Literal["own", "right", "source", "relative", "none", "identified"]] = ("right", "source"),
    revision: str | None = None,
    split: str = "test",
    columns: str | Mapping[str, str] | None = None,
    skip_bad_rows: bool = False,
    task: Literal["retrieval"] | None = None,
    pivot: str | None = None,
    pairs: Literal["all", "pivot"] = "all",
    candidates: Literal["paired", "all"] = "paired",
    pooling: Literal["first", "mean"] | None = None,
    prefix: str | None = None,
    identify: bool | str | Any = False,
    identify_languages: str | Sequence[str] = (),
    threshold: float = 0.3,
    source: str | None = None,
    fallback: Literal["relative"] | None = None,
    tokenizer: str | Path | None = None,
    max_length: int | None = None,
    stride: int | None = None,
    packing: Literal["fill", "documents", "lines"] = "fill",
    batch_tokens: int = 8192,
    precision: Literal["keep", "auto", "fp32", "bf16", "fp16"] = "keep",
    answers: Literal["mlqa", "squad"] = "mlqa",
    seed: int = 0,
    predictions: bool = False,
    gate: str | Path | Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Results:
    """Score one or more models on test data in many languages, with all languages mixed in the batches.

    Args:
        model: a fine-tuned model as an object, a folder or a name on the Hub; the folder of a run with several seeds;
            a language model, for perplexities; or several of these with the same task. The first is the baseline with
            which the others are compared.
        data: a file, or rows as for `finetune`, by language; rows with a column ``language``; or one or several of:
            folders or globs of ``<language>.<split>.<ext>`` files, of which those in the models' languages are read,
            and with `fallback` those in related languages; files with a column ``language``; ``<language>=<file>``;
            ``hub:<data set>:<configuration>:<split>`` with ``{language}`` in it.
        gate: a file of gates, or a table of the same form: least values by language, and largest drops against earlier
            results. The results have their outcomes as ``gates``, and ``passed``; one that fails is no error.
        output_dir: Folder for results.json, results.md, report.html and the pictures.
        languages: Only these languages, comma-separated.
        adapter: own, or right: the language's own adapter; source: the training language's, for all languages;
            relative: that of the most closely related language; none: no adapter; identified: that of the language
            that each row is identified as.
        revision: Branch, tag or commit of the models on the Hub; the same as writing name@revision.
        split: The split to read from folders.
        columns: Names of columns, as text=review,label=stars; default: as in training, if the rows have those
            columns.
        skip_bad_rows: Skip rows that cannot be read, and count them.
        task: retrieval: find translations by the vectors of sentences, also with a model that has a head; default:
            what the model was fine-tuned for, perplexity of a language model, retrieval of an encoder without a
            head.
        pivot: Retrieval: the language whose sentences the others are matched with; default: English, or the source.
        pairs: Retrieval: match also all other pairs of languages, as a matrix; or only those with the pivot.
        candidates: Retrieval: find a translation among the sentences that have one in the other language; or among
            all, so that lines whose translation is missing make it harder.
        pooling: Retrieval: what a sentence's vector is: mean of its states, or the state of its first token;
            default: as the model records it, or mean.
        prefix: Retrieval: text before every sentence, such as "query: "; default: as the model records it, or none.
        identify: Also read every row with the adapter of the language that it is identified as (`adapter`
            identified): py3langid (also without a value), spans, fasttext:<file>, glotlid:<file>,
            <module>:<function> or spans:<one of the last three>, as for predict.
        identify_languages: Only these languages are identified, comma-separated; default: all of the model's.
        threshold: Least confidence of an identified language; below it, a row is read by the model's default
            language, else by the source language.
        source: The source language; default: the language the model was fine-tuned in.
        fallback: relative: a language that the model lacks uses the adapter of the most closely related language.
        tokenizer: Tokenizer folder; default: the model's.
        max_length: Most tokens per row or window; default: as in fine-tuning, or 512; for perplexity: block size,
            128.
        stride: Tokens shared by neighbouring windows of a long context (qa) or sentence (tag); default: as fine-
            tuned, or a quarter of `max_length`.
        packing: How text is packed into blocks for perplexity, as in pretraining.
        batch_tokens: Tokens per forward pass, padding included.
        precision: keep the weights' precision, or run the model in fp32, bf16 or fp16; auto: bf16 where the
            processor computes it fast and 99.5 % of the predictions for some of the rows are the same as in fp32,
            else fp32.
        answers: How answers (qa) are normalised before comparison: mlqa, by the rules of each language; squad, by
            those of English for all languages, as XTREME scores XQuAD and TyDi QA.
        seed: Random seed of the masks for perplexity.
        predictions: Also write the prediction for each row to predictions.jsonl in `output_dir`.
        overwrite: Replace the results in `output_dir`.

    Returns:
        Values with 95 % intervals, and differences with p-values, saved in `output_dir` if one is given.

    Raises:
        ConfigurationError, DataError, LanguageError: for problems found before the work starts.
    """

def export(
    model: XmodPreTrainedModel | str | Path,
    output: str | Path,
    *,
    languages: str | Sequence[str] = (),
    format: Literal["onnx", "torch"] = "onnx",
    int8: bool = False,
    revision: str | None = None,
    check: str | Sequence[str] = (),
    check_rows: int = 200,
    tokenizer: str | Path | None = None,
    overwrite: bool = False,
) -> Exported:
    """Export a model as a graph, for onnxruntime or torch, and check it on text.

    The folder has the graph, the configuration with the labels, the tokenizer, and ``report.json``. `Predictor` and
    `predict` take it for a model if its format is ONNX. It appears only if the check succeeds.

    Args:
        model: a model with or without a task head, as an object, which is not changed, a folder or a name on the Hub.
        output: Folder for the graph, its tokenizer, configuration and report, such as topic.onnx.
        languages: Languages to export, in the order of their ids; of a single one, the graph has no input lang_ids.
            Default: all of the model's.
        format: onnx, which predict and onnxruntime run; or torch: a .pt2 of torch.export.
        int8: Store the weights of linear layers and embeddings in 8 bits (onnx only).
        revision: Branch, tag or commit of the model on the Hub; the same as writing name@revision.
        check: Rows to check the graph on: files as for predict. Default, and in languages without rows: our
            sentences.
        check_rows: Most rows to check in each language.
        tokenizer: Tokenizer folder; default: the model's.
        overwrite: Replace an exported model in `output`.

    Returns:
        What the check found.

    Raises:
        ConfigurationError: a package or a model is missing, the output is in use, or the model cannot be exported.
        DataError: the graph in fp32 differs from the model by more than 1e-4, or `check` has a bad row.
        LanguageError: the model lacks one of the languages.
    """

def extend(
    model: XmodPreTrainedModel | str | Path,
    language: str,
    text: str | Path | None = None,
    *,
    parallel: str | Path | None = None,
    output_dir: str | Path,
    revision: str | None = None,
    replace: bool = False,
    objective: Literal["distance", "contrast", "both", "linear", "predictions"] = "distance",
    temperature: float = 0.01,
    prefix: str | None = None,
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
    """Add a language to a pretrained model and train it, on text or on sentences with translations.

    Args:
        model: a folder, a name on the Hub, or an object, to which the language is added.
        language: the new language's code.
        text: a file, or a folder with the language's files; None with translations (`parallel`).
        parallel: Instead of `text`: sentences with translations, a .tsv, .csv, .jsonl or .parquet file whose
            columns are named by language. The adapter learns to give a sentence the states of its translations.
            Held out: `dev_fraction` of the rows, but at least 100, or a tenth of a small file. Without `max_steps`,
            there are at least 300 steps.
        output_dir: Folder for the model, its tokenizer and its metrics.
        revision: Branch, tag or commit of the model on the Hub; the same as writing name@revision.
        replace: Give a language that the model already has a new adapter, in place of its own, which is measured
            too.
        objective: With `parallel`: distance, of a sentence's mean state to that of its translations; contrast: by
            cosine, it finds them among all, and they find it in its batch; both; linear: no training, but the best
            linear map in the last layer, which suits a few hundred sentences; predictions: what a fine-tuned
            classifier predicts for the translations, which must be texts such as the task has.
        temperature: Temperature of the softmax over cosines, for contrast.
        prefix: With `parallel`: text before every sentence, such as "query: "; give what the vectors are read with.
        init_from: Start from the adapter of a language, the average of several, or a weighted one (de=2,nl=1);
            auto: from the best of these for the text, as `donors` finds it; neutral: adds nothing at first;
            default: random. With `replace`, the language's old adapter may be among them.
        new_vocabulary: Train a vocabulary for this language, with this many pieces.
        tokenizer: Use this tokenizer as the language's own vocabulary.
        start_rows: pieces: embeddings of new pieces start as the mean of the known pieces that spell them; random:
            random.
        byte_fallback: With `new_vocabulary`: encode unknown characters as bytes (takes 256 pieces).
        trainable: language: its adapter (and vocabulary); all: the whole model, which changes other languages too.
        licence: Licence of the language pack, as an SPDX identifier.
        text_field: Name of the text field (JSON Lines) or text column (Parquet, data sets).
        max_line: Most characters per line; longer lines are split at a space.
        dev_text: Folder of <language>.txt validation files; default: lines are held out.
        dev_fraction: Share of lines held out for validation, without `dev_text`.
        dev_blocks: Most validation blocks per language, counted as 4 bytes per token: the same lines with any
            vocabulary.
        block_size: Tokens per block (training sequence), including the leading <s>.
        packing: fill: blocks cross line ends; documents: no block mixes documents; lines: each line has its own
            blocks.
        mask_probability: Share of tokens to predict (mlm only).
        whole_words: Mask whole words: all tokens of a word together (mlm only).
        schedule: Learning rate after warm-up; polynomial has degree 2, wsd is constant and falls at the end.
        decay: Share of all steps, at the end, in which `schedule` wsd falls.
        eval_every: Steps between validations; there is always one at the end.
        save_every: Steps between checkpoints; none: no checkpoints.
        keep_checkpoints: How many checkpoints to keep, the newest ones; 0: all.
        workers: Number of data loading processes.
        cache_dir: Folder for tokenised blocks; default: <output-dir>/blocks.
        epochs: Passes over the training data; ignored with `max_steps`.
        max_steps: Number of optimiser steps.
        batch_size: Rows per device and forward pass.
        accumulation: Forward passes per optimiser step.
        learning_rate: Peak learning rate; see `schedule`.
        warmup: Warm-up in steps, or as a share of all steps if below 1.
        weight_decay: AdamW's weight decay.
        max_grad_norm: Largest gradient norm (clipping); 0: no clipping.
        precision: auto: bf16 on a GPU that supports it, fp32 elsewhere.
        log_every: Steps between two log entries of the loss.
        seed: Random seed: initialisation, order of the data, masks, dropout.
        overwrite: Replace the run in `output_dir`, finished or not.
        resume: Continue the run in `output_dir` even if options differ or it is finished.

    Returns:
        The model with the language, saved in `output_dir` with its language pack (``pack``), the certificate of the
        other changes (``certificate.json``), and ``metrics.json``: the held-out text's loss, perplexity and bits per
        character with each existing adapter, with the new one before training, and after training, and with the one
        that it replaces (``replaced``); with `parallel`, the share of held-out sentences that find their translation
        among all by cosine, and that cosine.

    Raises:
        ConfigurationError, DataError, LanguageError: for problems found before the work starts.
        TrainingError: a weight changed that should be frozen.
    """

def fill_mask(
    model: XmodPreTrainedModel | str | Path,
    text: str,
    *,
    language: str | None = None,
    top_k: int = 5,
    revision: str | None = None,
    identify: bool | str | Any = False,
    fallback: Literal["relative"] | None = None,
    tokenizer: str | Path | None = None,
) -> list[Filling]:
    """The most probable pieces for every mask in a text.

    Args:
        model: a masked language model, as an object, a folder or a name on the Hub.
        text: a text with one or more ``<mask>``, or the tokenizer's own mask, such as ``[MASK]``; other names of
            special tokens are ordinary text.
        language: Language of the text, whose adapter is used.
        top_k: Number of candidates per <mask>.
        revision: Branch, tag or commit of the model on the Hub; the same as writing name@revision.
        identify: Identify the language, as for predict; with spans, that of each word. `language` is then for text
            that cannot be identified; default: the model's default language, else the one it was fine-tuned in,
            else English.
        fallback: relative: for a language that the model lacks, use the adapter of the most closely related one.
        tokenizer: Tokenizer folder; default: the model's.

    Returns:
        `top_k` candidates for the first mask, then for the next; the other masks stay in a candidate's text.

    Raises:
        ConfigurationError: the model is not a masked language model.
        InputError: there is no mask in the text, or the text is too long.
        LanguageError: the model has neither the language nor, with `fallback`, a relative of it.
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
    temperature: float | None = None,
    positive_language: str | None = None,
    prefix: str | None = None,
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
    """Fine-tune a model on a task in one language.

    Args:
        model: a pretrained model's folder or name on the Hub; or a model object with the task's head, which is
            trained in place (its tokenizer is read from its folder, or from the option `tokenizer`). With
            several `seeds`, each starts from a copy of the object. So is a ``PeftModel`` around one, of which PEFT
            decides what trains; the folder then has its adapter. An existing head is kept, each label with its
            row (see `fit_head`).
        train: the training file or data set, or several; or the rows themselves: mappings of columns, in a list or
            another iterable, a table of pandas, polars or Arrow, or a data set of ``datasets``. So may be `dev`.
        language: Language of the training data, whose adapter is used; default: from a column `language` or the
            file name.
        task: classify: one or two texts, a label; regress: the same, a number; tag: a label per word; qa: an answer
            within a context; choice: one of several choices; embed: a text and its positive, a translation or a
            similar text.
        output_dir: Folder for the model, its tokenizer and its metrics.
        revision: Branch, tag or commit of the model on the Hub; the same as writing name@revision.
        recipe: Use the options of a recipe, such as xnli; `xmodular recipes` lists them.
        dev: Validation files, in the training language; the weights with the best score on them are kept.
        dev_fraction: Without `dev`: share of the training rows to hold out for validation, the same rows for every
            seed.
        patience: Stop after this many validations without improvement.
        columns: Names of columns, as text=review,label=stars.
        skip_bad_rows: Skip rows that cannot be read, and count them.
        trainable: Parameters to train; shared: all but embeddings and adapters.
        tokenizer: Tokenizer folder; default: the model's.
        max_length: Most tokens per row, or per window of a long row.
        stride: Tokens shared by neighbouring windows of a long context (qa) or sentence (tag); default: a quarter
            of `max_length`.
        epochs: Passes over the training files; ignored with `max_steps`; default: 5, or more to reach 200 steps.
        learning_rate: Peak learning rate; default: 2e-5 at hidden size 768, proportionally more for smaller hidden
            sizes, and 20 times as much (at most 2e-3) for a PEFT model.
        head_learning_rate: Peak learning rate of the task head; default: `learning_rate`; if that is not given
            either, and the model has no head for the task yet, 50 times its default (at most 2e-3).
        schedule: Learning rate after warm-up.
        adam_betas: AdamW's two decay rates.
        adam_epsilon: AdamW's epsilon.
        classifier_dropout: Dropout in the task head; default: the model's.
        pooling: Input of the classify and regress heads, and the vector of embed: the first token's state, or the
            mean of all; default: as recorded in the model.
        temperature: For embed: the temperature of the softmax over cosines; default: 0.05.
        positive_language: For embed: language of the positives whose rows do not name it in a column
            positive_language; default: that of the file's name, or of the text.
        prefix: For embed: put before every text, such as "query: "; default: as recorded in the model.
        seeds: Train once with each of these seeds, in <output-dir>/seed-<seed>.
        eval_every: Steps between validations; default: after each pass, or every 10 steps if passes are shorter and
            neither `epochs` nor `max_steps` is given.
        save_every: Steps between checkpoints; none: only at validations that are the best so far.
        max_steps: Number of optimiser steps.
        batch_size: Rows per device and forward pass.
        accumulation: Forward passes per optimiser step.
        warmup: Warm-up in steps, or as a share of all steps if below 1.
        weight_decay: AdamW's weight decay.
        max_grad_norm: Largest gradient norm (clipping); 0: no clipping.
        precision: auto: bf16 on a GPU that supports it, fp32 elsewhere.
        log_every: Steps between two log entries of the loss.
        seed: Random seed: initialisation, order of the data, masks, dropout.
        overwrite: Replace the run in `output_dir`, finished or not.
        resume: Continue the run in `output_dir` even if options differ or it is finished.

    Returns:
        The model with its tokenizer, saved in `output_dir` with ``options.json``, ``metrics.json``, ``log.jsonl`` and a
        model card. It has all its languages; ``config.task_language`` is the one it was trained in,
        ``config.id2label`` its labels. With several `seeds`, the one with the best validation score, or the first
        without validation; all are saved in ``seed-<seed>``, and the metrics are means and standard deviations.

    Raises:
        ConfigurationError, DataError, LanguageError: for problems found before the work starts.
        TrainingError: the loss is no longer finite, or a checkpoint cannot be written.
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
    """Install a language pack in a model; nothing else in the model changes.

    Args:
        pack: an object, a folder or a name on the Hub.
        model: an object, which is changed, and saved only if there is an `output_dir`; or a folder, which is changed
            in place unless there is an `output_dir`; or a name on the Hub.
        output_dir: Folder for the model with the language; default: the model's own folder.
        language: Install under this code; default: the pack's.
        overwrite: Replace the language if the model has it already, or a model in `output_dir`.
        revision: Branch, tag or commit of the model on the Hub; the same as writing name@revision.
        force: Install even if the pack was trained with other shared weights; shapes must match.

    Returns:
        The language's code in the model.

    Raises:
        ConfigurationError: there is no model, the output is in use, or it is missing for a model on the Hub.
        LanguageError: the code is not valid, or is in use and `overwrite` is False.
        PackError: the pack is damaged or does not fit; every mismatch is listed.
    """

def pack_list(
    folder: str | Path = ".",
) -> PackList:
    """List the language packs in a folder; damaged ones are listed as such.

    Args:
        folder: a folder with packs, or a single pack.

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
    """Remove a language from a model; nothing else in the model changes.

    Args:
        model: an object, a folder or a name on the Hub; the result is saved as for `pack_install`.
        language: a language of the model.
        output_dir: Folder for the model; default: the model's own folder.
        overwrite: Replace a model in `output_dir`.
        revision: Branch, tag or commit of the model on the Hub; the same as writing name@revision.

    Returns:
        The code of the removed language.

    Raises:
        ConfigurationError: there is no model, the output is in use, or it is missing for a model on the Hub.
        LanguageError: the model does not have the language, or has no other.
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
        revision: Branch, tag or commit of the model on the Hub; the same as writing name@revision.
        precision: keep the weights' precision, or store them as fp32, bf16 or fp16.
        note: Note for the model card: where the text came from, how the adapter was trained.
        results: A results.json, whose scores of the language are stored in the pack.
        push_to_hub: Also upload it to this repository, such as name/xmod-gsw.
        private: Make the repository private.

    Returns:
        The pack.

    Raises:
        ConfigurationError: there is no model, or `results` has no rows of the language.
        LanguageError: the model has no such language.
        PackError: the pack's folder is in use, or the Hub refuses the upload.
    """

def pack_verify(
    pack: Pack | str | Path,
    *,
    model: XmodPreTrainedModel | str | Path | None = None,
    revision: str | None = None,
) -> Verification:
    """Check a language pack: its format, checksums and, with a model, whether it fits that model.

    Args:
        pack, model: an object, a folder or a name on the Hub.
        revision: Branch, tag or commit of the pack on the Hub; the same as writing name@revision.

    Returns:
        The result; its `ok` tells whether there are no problems.

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
    probabilities: bool = False,
    stride: int | None = None,
    engine: Literal["local", "ray"] | None = None,
    workers: int = 1,
    worker_threads: int | None = None,
    worker_gpus: float = 0.0,
    revision: str | None = None,
    shard_rows: int | None = None,
    identify: bool | str | Any = False,
    identify_languages: str | Sequence[str] = (),
    threshold: float = 0.3,
    default_language: str | None = None,
    fallback: Literal["relative"] | None = None,
    columns: str | Mapping[str, str] | None = None,
    skip_bad_rows: bool = False,
    tokenizer: str | Path | None = None,
    max_length: int | None = None,
    batch_tokens: int = 8192,
    precision: Literal["keep", "auto", "fp32", "bf16", "fp16"] = "keep",
    resident_languages: int | None = None,
    window: int = 2048,
    overwrite: bool = False,
) -> Predicted:
    """Add a model's predictions to the rows of a file.

    Args:
        model: a fine-tuned model, as an object, a folder or a name on the Hub.
        input: a file of rows, a .txt file (a text per line), a folder of Parquet files, "-" for JSON lines on standard
            input, or "hub:<data set>:<configuration>:<split>"; or the rows themselves, as for `finetune`. None where
            the option `text` has a single text instead. With `engine` a folder of files, or a pattern.
        output: .jsonl, .csv, .tsv or, of tags, .conll (all also .gz or .zst), or .parquet; "-" for JSON lines on
            standard output; with `shard_rows` a folder, with Parquet files if the input is Parquet; with `engine` a
            folder, with a file for each one of the input.
        text: A single text, instead of `input`.
        language: Language of rows that do not name one.
        probabilities: Also write the probabilities of all labels, tags or choices.
        stride: Tokens shared by neighbouring windows of a long context (qa) or sentence (tag); default: as fine-
            tuned, or a quarter of `max_length`.
        engine: Predict each file of `input` into a file of its own in `output`. local: on this machine; ray: on a
            Ray cluster, or on this machine if there is none.
        workers: With `engine`: number of processes, each with the model.
        worker_threads: With `engine`: threads (for Ray: CPUs) of each worker; default: 1, and all for a single
            local one.
        worker_gpus: With `engine` ray: GPUs of each worker; with 0.5, two workers share one.
        revision: Branch, tag or commit of the model on the Hub; the same as writing name@revision.
        shard_rows: Write files of this many rows, part-00000.jsonl, ... (or .parquet), into the folder `output`.
        identify: Identify the language of rows that do not name one: py3langid (also without a value); spans, the
            language of each word, whose tokens are read by its adapter; fasttext:<file> or glotlid:<file>; a
            function of your own, <module>:<function>; or one of the last three asked word by word, such as
            spans:glotlid:<file>.
        identify_languages: Only these languages are identified, comma-separated; default: all of the model's.
        threshold: Least confidence of an identified language; below it, the default language is used.
        default_language: Language of rows that do not name one (with `identify`: of uncertain rows); default: the
            model's default language (with `identify`, if it has none: the one it was fine-tuned in).
        fallback: relative: rows in a language that the model lacks use the adapter of the most closely related
            language.
        columns: Names of columns, as text=review,language=lang; default: as in training, if the rows have those
            columns.
        skip_bad_rows: Write rows that cannot be read to <output>.bad.jsonl (with `shard_rows`: to that folder) and
            continue.
        tokenizer: Tokenizer folder; default: the model's.
        max_length: Most tokens per row or window; default: as in fine-tuning, or 512.
        batch_tokens: Tokens per forward pass, padding included.
        precision: keep the weights' precision, or run the model in fp32, bf16 or fp16; auto: bf16 where the
            processor computes it fast and 99.5 % of the predictions for some of the rows are the same as in fp32,
            else fp32.
        resident_languages: Most languages in memory; the others are read from the model's folder when rows need
            them, and those used last stay. Default: all.
        window: Number of rows that are sorted by length together.
        overwrite: Replace `output`, and start over if a run was interrupted.

    Returns:
        The number of rows and their location.

    Raises:
        ConfigurationError, DataError, LanguageError: for invalid input; finished rows are kept.
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
    """Pretrain from scratch (text → tokenizer → blocks → masked LM), or continue with a model; batches mix languages.

    Args:
        model: a folder or a name on the Hub, or a model object, which is not changed: the model to continue; the
            result has its shape, languages and tokenizer.
        text: folder of ``<language>.<anything>.txt``, ``.jsonl`` or ``.parquet`` files, or ``hub:<data set>``.
        output_dir: Folder for the model, its tokenizer and its metrics.
        preset: Model shape: tiny, mini, small, base, large-prenorm, or a released checkpoint; default: small.
        max_steps: Number of optimiser steps.
        revision: Branch, tag or commit of the model on the Hub; the same as writing name@revision.
        trainable: Parameters to train; anything but all needs `model`.
        head_steps: First train only the masked-LM head, for this many steps; a `model` without a head gets a new
            one.
        languages: Train on these languages only, comma-separated; default: all in the folder.
        dataset_config: Configuration of the data set; {language} is the language's code, {subtag} its first part.
        dataset_split: Split of the data set; {language} and {subtag} as above.
        dataset_streaming: Stream the data set in every pass instead of downloading it.
        dataset_rows: Rows to read per language; default: all.
        tokenizer: Tokenizer folder or sentencepiece.bpe.model; default: the one of `model`, or a new one is
            trained.
        vocab_size: Size of a newly trained vocabulary, with special tokens; default: 32000.
        byte_fallback: Encode unknown characters as bytes (takes 256 pieces of the vocabulary).
        overrides: Changes to the preset, as name=value,name=value; with `model`, only dropout may change.
        alpha: Smoothing: a language with share p of the text is sampled in proportion to p^alpha.
        alpha_end: Value of alpha at the end of training, reached linearly; default: the same.
        mixing: tokens: a batch mixes languages; batch: each batch of a process has one language.
        batch_tokens: Tokens per device and forward pass, instead of `batch_size`.
        shared: Use one adapter for all languages: a dense model of the same active size.
        objective: mlm: predict masked tokens; clm: predict the next token; default: the objective of `model`, or
            mlm.
        fsdp: Shard weights, gradients and optimiser state over the processes (torchrun).
        report_to: tensorboard: also log losses to <output-dir>/tensorboard.
        text_field: Name of the text field (JSON Lines) or text column (Parquet, data sets).
        max_line: Most characters per line; longer lines are split at a space.
        dev_text: Folder of <language>.txt validation files; default: lines are held out.
        dev_fraction: Share of lines held out for validation, without `dev_text`.
        dev_blocks: Most validation blocks per language, counted as 4 bytes per token: the same lines with any
            vocabulary.
        block_size: Tokens per block (training sequence), including the leading <s>.
        packing: fill: blocks cross line ends; documents: no block mixes documents; lines: each line has its own
            blocks.
        mask_probability: Share of tokens to predict (mlm only).
        whole_words: Mask whole words: all tokens of a word together (mlm only).
        schedule: Learning rate after warm-up; polynomial has degree 2, wsd is constant and falls at the end.
        decay: Share of all steps, at the end, in which `schedule` wsd falls.
        eval_every: Steps between validations; there is always one at the end.
        save_every: Steps between checkpoints; none: no checkpoints.
        keep_checkpoints: How many checkpoints to keep, the newest ones; 0: all.
        workers: Number of data loading processes.
        cache_dir: Folder for tokenised blocks; default: <output-dir>/blocks.
        epochs: Passes over the training data; ignored with `max_steps`.
        batch_size: Rows per device and forward pass.
        accumulation: Forward passes per optimiser step.
        learning_rate: Peak learning rate; see `schedule`.
        warmup: Warm-up in steps, or as a share of all steps if below 1.
        weight_decay: AdamW's weight decay.
        max_grad_norm: Largest gradient norm (clipping); 0: no clipping.
        precision: auto: bf16 on a GPU that supports it, fp32 elsewhere.
        log_every: Steps between two log entries of the loss.
        seed: Random seed: initialisation, order of the data, masks, dropout.
        overwrite: Replace the run in `output_dir`, finished or not.
        resume: Continue the run in `output_dir` even if options differ or it is finished.

    Returns:
        The model with its tokenizer, saved in `output_dir` with ``options.json`` and ``metrics.json`` (training
        loss; validation loss and perplexity of each language). With the option `model` the metrics also have the
        validation ``before`` training, and ``certificate.json`` tells what changed.

    Raises:
        ConfigurationError, DataError, LanguageError: for problems found before the work starts.
        TrainingError: the loss is no longer finite, a checkpoint cannot be written, or a weight changed that
            should be frozen.
    """

def serve(
    model: str | Mapping[str, str],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    identify: bool | str | Any = True,
    identify_languages: str | Sequence[str] = (),
    threshold: float = 0.3,
    default_language: str | None = None,
    fallback: Literal["relative"] | None = None,
    batch_tokens: int = 2048,
    batch_wait: float = 2.0,
    queue_rows: int = 1024,
    max_body: int = 1000000,
    max_rows: int = 256,
    max_characters: int = 20000,
    max_tokens: int = 32768,
    max_connections: int = 1024,
    header_timeout: float = 10.0,
    timeout: float = 30.0,
    drain: float = 1.0,
    max_length: int | None = None,
    stride: int | None = None,
    resident_languages: int | None = None,
    precision: Literal["keep", "fp32", "bf16", "fp16"] = "keep",
) -> None:
    """Serve models over HTTP until SIGTERM or Ctrl-C, which lets the accepted requests be finished.

    Args:
        model: the models by name, each a folder or a name on the Hub; or a single one.
        host: Address to listen on. The default is this machine alone; other machines can reach, for example,
            0.0.0.0. There is no password.
        port: Port to listen on; 0 takes a free one.
        identify: Identify the language of rows that do not name one: py3langid (also without a value); spans, the
            language of each word, whose tokens are read by its adapter; fasttext:<file> or glotlid:<file>; a
            function of your own, <module>:<function>; or one of the last three asked word by word, such as
            spans:glotlid:<file>.
        identify_languages: Only these languages are identified, comma-separated; default: all of the model's.
        threshold: Least confidence of an identified language; below it, the default language is used.
        default_language: Language of rows that do not name one (with `identify`: of uncertain rows); default: the
            model's default language (with `identify`: the one it was fine-tuned in).
        fallback: relative: rows in a language that a model lacks use the adapter of the most closely related
            language.
        batch_tokens: Tokens per forward pass, from as many requests as fit.
        batch_wait: Milliseconds that a request waits for others to share its batch.
        queue_rows: Rows that may wait for a model; a request with more than are free is answered with status 429.
        max_body: Most bytes in the body of a request.
        max_rows: Most rows in a request.
        max_characters: Most characters in a text.
        max_tokens: Most tokens in a row, all its windows and choices together.
        max_connections: Most connections that are open at once; a further one gets status 503.
        header_timeout: Seconds that the headers of a request may take.
        timeout: Seconds until a request without an answer is given up, with status 504.
        drain: Seconds after a signal to stop in which new requests are still answered, so that clients can go
            elsewhere.
        max_length: Most tokens per row or window; default: as in fine-tuning, or 512.
        stride: Tokens shared by neighbouring windows of a long context (qa) or sentence (tag); default: as fine-
            tuned, or a quarter of `max_length`.
        resident_languages: Most languages in memory; the others are read from the model's folder when rows need
            them, and those used last stay. Default: all.
        precision: keep the weights' precision, or run the models in fp32, bf16 or fp16.

    Raises:
        ConfigurationError: the packages of the extra are missing, the port is taken, or a model has no task head.
    """

def trim(
    model: str | Path,
    languages: str | Sequence[str] = (),
    *,
    text: str | Sequence[str] = (),
    scripts: bool = False,
    output_dir: str | Path,
    overwrite: bool = False,
    revision: str | None = None,
    dev_text: str | Path | None = None,
    min_count: int = 1,
    coverage: float = 1.0,
    text_field: str = "text",
    own_vocabularies: Literal["trim", "keep"] = "trim",
    tokenizer: str | Path | None = None,
) -> Trimmed:
    """Trim a model to some of its languages, and to the pieces of the vocabulary that their text needs.

    What stays: every piece that a line of the text uses, all pieces in the languages' scripts with `scripts`, and a
    safety set: special and added tokens, bytes, ASCII, digits, punctuation and symbols, and all characters of the text,
    capital and small. Unigram, WordPiece and BPE tokenizers are rewritten such that all of the text is cut into the
    same pieces as before, which is checked line by line; with `min_count` or `coverage`, the lines are counted. States
    are those of the source, and so are the logits of a language-model head at pieces that stay.

    Args:
        model: a folder or a name on the Hub.
        output_dir: the folder to create.
        languages: Languages to keep, such as de,sw; default: all of the model.
        text: Text whose pieces stay: folders of <language>.* files, or such files (.txt, .jsonl, .parquet); for one
            language, files of any name.
        scripts: Keep all pieces in the scripts of the languages, such as Latin and Cyrillic.
        overwrite: Replace a model in `output_dir`.
        revision: Branch, tag or commit of the model on the Hub; the same as writing name@revision.
        dev_text: Other text to measure on, a folder of <language>.* files; default: 5 % of the lines of `text`,
            measured with the pieces of the other lines.
        min_count: Keep pieces that the text uses at least this often. From 2 on, the vocabulary is smaller, and the
            lines with rarer pieces are cut into other ones.
        coverage: Share of each language's text, counted in pieces, for which its most frequent pieces stay. Below
            1, the vocabulary is smaller, and lines with rarer pieces are cut into other ones.
        text_field: Name of the text field (JSON Lines) or text column (Parquet).
        own_vocabularies: Trim the vocabularies that belong to single languages too, or keep them as they are.
        tokenizer: Folder or name of the tokenizer; default: the one next to the weights.

    Returns:
        A report of sizes and of how text is cut before and after; also in the folder, as ``trim.json``.

    Raises:
        ConfigurationError: there is no such model, or neither text nor `scripts` is given.
        LanguageError: the model lacks a language, or there is no text in it.
        DataError: a file cannot be read, or the tokenizer cannot be trimmed.
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
    """Turn a dense encoder into an X-MOD model with equal states and an adapter per language that adds nothing yet.

    BERT, RoBERTa, XLM-RoBERTa, CamemBERT and RoBERTa-PreLayerNorm encoders, bare or with a head, become X-MODs whose
    states at real tokens equal the source's in every language (sparse upcycling: Komatsuzaki et al. 2023). For an
    X-MOD source, the shared weights and the adapters of its languages are kept.

    Args:
        model: a folder or a name on the Hub.
        languages: codes, tags or names of the languages to add adapters for, in the order of their ids.
        output_dir: the folder to create.
        pooling: Input of a classification head: the first token's state, or the mean of all, as sentence encoders
            are trained; default: mean if 1_Pooling/config.json says so, else first.
        overwrite: Replace a model in `output_dir`.
        revision: Branch, tag or commit of the model on the Hub; the same as writing name@revision.
        tokenizer: Folder or name of the tokenizer; default: the one next to the weights.
        reduction: Hidden size divided by the adapters' bottleneck size.
        head: Convert the head too, if the model has one.
        seed: Random seed of the adapters' down-projections; the up-projections are zero.

    Returns:
        A report of the conversion.

    Raises:
        ConfigurationError: X-MOD cannot compute what the source computes; the message names the missing part.
        DataError: weights are missing, unknown or of the wrong shape, or the tokenizer is not the model's.
        LanguageError: a language is named twice, or ambiguous.
    """
