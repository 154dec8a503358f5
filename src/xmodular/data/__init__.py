"""Text on disk → clean lines → tokenised blocks → mixed batches with masks."""

from xmodular.data.blocks import BlockCache, LanguageBlocks, MixedBlocks
from xmodular.data.counts import LineCounts, lines_table
from xmodular.data.hub import HubText, find_dataset
from xmodular.data.masking import CausalLMCollator, MaskedLMCollator, word_starts
from xmodular.data.measuring import MeasuredText, measured_text, say_unknown
from xmodular.data.packing import pack
from xmodular.data.reading import is_text
from xmodular.data.sampling import Batches, Draw, LanguageSampler, Share, block_lengths, language_shares
from xmodular.data.text import TextFiles, find_text

__all__ = [
    "Batches",
    "BlockCache",
    "CausalLMCollator",
    "Draw",
    "HubText",
    "LanguageBlocks",
    "LanguageSampler",
    "LineCounts",
    "MaskedLMCollator",
    "MeasuredText",
    "MixedBlocks",
    "Share",
    "TextFiles",
    "block_lengths",
    "find_dataset",
    "find_text",
    "is_text",
    "language_shares",
    "lines_table",
    "measured_text",
    "pack",
    "say_unknown",
    "word_starts",
]
