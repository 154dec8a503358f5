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
