"""The configuration of a model folder or of a repository on the Hub."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers.configuration_utils import PretrainedConfig

from xmodular.catalogue import RELEASES
from xmodular.configuration.peft_folder import base_of, is_peft_folder, peft_config_content
from xmodular.configuration.xmod_config import XmodConfig
from xmodular.errors import ConfigurationError, XmodularError, of_system
from xmodular.files import is_missing_folder, no_model_in
from xmodular.hub import hub_source, on_hub, refusal


def numbers_in(config: XmodConfig) -> int:
    """A lower bound for the number of parameters of a model with a configuration."""
    hidden, layers = config.hidden_size, config.num_hidden_layers
    rows = config.vocab_size * (1 if config.tie_word_embeddings else 2) + sum(config.vocabularies.values())
    rows += config.max_position_embeddings + config.type_vocab_size + (config.num_labels or 0)
    layer = hidden * (4 * hidden * (2 if config.add_cross_attention else 1) + 2 * config.intermediate_size)
    if config.position_embedding_type != "absolute":
        layer += 2 * config.max_position_embeddings * (hidden // config.num_attention_heads)
    return rows * hidden + layers * (layer + 2 * hidden * config.bottleneck_size * len(config.languages))


def read_config(source: str | Path) -> XmodConfig:
    """The configuration of a model folder or Hub repository.

    Raises:
        ConfigurationError: there is no X-MOD model, or its config.json cannot be read.
    """
    content = config_content(source)
    check_kind(source, content)
    if (other := content.get("transformers_weights")) is not None:
        raise ConfigurationError(
            f"{source} has transformers_weights in its config.json ({other!r:.80}), so files other than "
            "model.safetensors would be loaded: remove the field, or rename the file."
        )
    try:
        return XmodConfig.from_dict(content)
    except XmodularError:
        raise
    except (OSError, ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:  # of the base class
        raise ConfigurationError(f"{source} has a config.json that cannot be read: {error!s:.200}") from error


def check_kind(source: Any, content: Mapping[str, Any]) -> None:
    """Check that a ``config.json`` is that of an X-MOD model, or does not name a model type.

    Raises:
        ConfigurationError: it says that the model is another architecture's.
    """
    if (kind := content.get("model_type", XmodConfig.model_type)) != XmodConfig.model_type:
        raise ConfigurationError(
            f"{source} is a {kind!s:.60} model, which has no adapters. Make it modular first: "
            f"xmodular upcycle --model {source} --languages en,de --output-dir modular"
        )


def config_content(source: str | Path) -> dict[str, Any]:
    """The content of a model's ``config.json``, of any model type; code that it names (``auto_map``) never runs.

    Args:
        source: model folder or Hub repository; or the folder of an adapter of PEFT, which has that of its base.

    Raises:
        ConfigurationError: there is no model, or its config.json cannot be read.
    """
    path = Path(source)
    if is_peft_folder(source):
        base = base_of(source)
        try:
            return peft_config_content(source, config_content(base))
        except ConfigurationError as error:
            raise ConfigurationError(f"{source} is an adapter of PEFT for the model {base}. {error}") from error
    if path.exists() and not (path / "config.json").is_file():
        raise ConfigurationError(no_model_in(source))
    if is_missing_folder(source):
        raise ConfigurationError(f"There is no folder {source}.")
    if not path.exists() and len(path.parts) == 1:
        named = on_hub(source)[0]
        example = RELEASES[named].hub_id if named in RELEASES else "facebook/xmod-base"
        raise ConfigurationError(f"There is no folder {source}; on the Hub, models have names such as {example}.")
    name, where = hub_source(source)
    try:
        if path.exists():
            (path / "config.json").open("rb").close()  # a file that may not be read is called missing below
        content, _ = PretrainedConfig.get_config_dict(name, **where)
    except OSError as error:
        if path.exists():
            said = of_system(error) if error.errno else f"{path / 'config.json'} cannot be read: {error!s:.200}"
            raise ConfigurationError(f"{said}") from error
        raise ConfigurationError(f"No model {source}: {refusal(source, error)}.") from error
    except Exception as error:  # the base class has many, of its own too
        raise ConfigurationError(f"{source} has a config.json that cannot be read: {error!s:.200}") from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"{source} has a config.json that is not a table of names and values.")
    return content
