"""The errors shown to users. Each is also a `ValueError`; each message names the value and what to do."""

from __future__ import annotations

import difflib
import errno
import functools
import re
from collections.abc import Callable, Iterable, Sequence
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

# Characters that control a terminal: control characters, line separators, and those that change the direction of
# text. Marks that Persian, Arabic or Hindi need are not among them.
_ACTS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_OF_RUST = re.compile(r"\(os error (\d+)\)")
_TIDIED = 300  # characters of a library's message


def visible(text: str) -> str:
    """A text with control characters escaped, as in ``\\x1b``; tabs and line ends stay."""
    return _ACTS.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), text)


class XmodularError(Exception):
    """Base class of every error that xmodular raises for its users."""

    def __str__(self) -> str:
        """The message with control characters escaped: it may contain file names and data."""
        return visible(super().__str__())


class ConfigurationError(XmodularError, ValueError):
    """A model configuration or a run's options do not fit together."""


class LanguageError(XmodularError, ValueError):
    """A language is unknown, ambiguous, or not in this model."""


class AmbiguousLanguageError(LanguageError):
    """A name fits several languages of this model."""


class InputError(XmodularError, ValueError):
    """A tensor or an argument has the wrong type, shape or values."""


class PackError(XmodularError, ValueError):
    """A language pack is damaged, malformed, or does not fit the model."""


class DataError(XmodularError, ValueError):
    """A file or a row does not have the expected content."""


class NoTextError(DataError):
    """There is no text where some is needed."""


class TrainingError(XmodularError, ValueError):
    """A run cannot continue: its loss is not a number, or its checkpoint cannot be written."""


class StorageError(DataError):
    """A file cannot be read or written: permission denied, disk full, or not a regular file."""


def in_one_line(error: BaseException) -> str:
    """The message of a library's error on one line, cut to a readable length."""
    said = " ".join(str(error).split())
    return said[:_TIDIED] or type(error).__name__


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "no name is like it.", likeness: float = 0.6) -> str:
    """A hint for a message: the most similar of the known names, or else another hint."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=likeness)
    return f"did you mean {near[0]!r}?" if near else otherwise


def first_of(names: Sequence[str], most: int) -> str:
    """Names for a message: the first ones and, if there are others, how many."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def listed(lines: Sequence[str], most: int | None = None) -> str:
    """Problems as the lines that follow a message's first one; beyond `most` only how many more there are."""
    shown = list(lines[:most])
    if more := len(lines) - len(shown):
        shown.append(f"and {more:,} more")
    return "".join(f"\n  - {line}" for line in shown)


def of_system(error: BaseException) -> str | None:
    """The message of a failed read or write as a sentence; None for any other error."""
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, BrokenPipeError):
        return None  # the reader of a pipe has closed it
    if isinstance(error, OSError):
        places = " and ".join(f"{name!s:.{_TIDIED}}" for name in (error.filename, error.filename2) if name is not None)
        what = error.strerror or in_one_line(error)
        said = f"{places}: {what}" if places and error.strerror else what
    elif found := _OF_RUST.search(str(error)):
        number, said = int(found[1]), in_one_line(error)
    elif "PytorchStreamWriter failed" in str(error) or "inline_container.cc" in str(error):
        number, said = errno.ENOSPC, f"torch could not write a file ({in_one_line(error):.100})"  # it has no number
    elif isinstance(error, RuntimeError) and "Symlink loop" in str(error):  # no OSError before Python 3.13
        number, said = errno.ELOOP, in_one_line(error)
    else:
        return None
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"{said.rstrip('.')}. The disk is full: free some space, and start again."
    return f"{said.rstrip('.')}."


def speaking(function: Callable[P, T]) -> Callable[P, T]:
    """A decorator for public functions: failed reads and writes are raised as `StorageError`."""

    @functools.wraps(function)
    def spoken(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except XmodularError:
            raise
        except BaseException as error:
            if type(error).__name__ == "PanicException":  # of Rust, and no child of Exception
                raise DataError(f"The tokenizer is damaged: {in_one_line(error)}.") from error
            if not isinstance(error, Exception) or (said := of_system(error)) is None:
                raise
            raise StorageError(said) from error

    return spoken
