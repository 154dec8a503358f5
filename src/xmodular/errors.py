"""The errors that users meet. Each is also a `ValueError`, and each message names the value and the way out."""

from __future__ import annotations


class XmodularError(Exception):
    """Base class of every error that xmodular raises for its users."""


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
    """A file or a row cannot be read as what it should be."""


class NoTextError(DataError):
    """There is not one line of text where some should be."""


class TrainingError(XmodularError, ValueError):
    """A run cannot go on: its loss is no number, or its checkpoint cannot be written."""
