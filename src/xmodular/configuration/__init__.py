"""The configuration of an X-MOD model: its fields, their checks, its file."""

from xmodular.configuration.config_problems import MOST_LABELS
from xmodular.configuration.embedding_settings import EmbeddingSettings, stored_modules, stored_settings
from xmodular.configuration.stored_config import check_kind, config_content, numbers_in, read_config
from xmodular.configuration.xmod_config import XmodConfig

__all__ = [
    "MOST_LABELS",
    "EmbeddingSettings",
    "XmodConfig",
    "check_kind",
    "config_content",
    "numbers_in",
    "read_config",
    "stored_modules",
    "stored_settings",
]
