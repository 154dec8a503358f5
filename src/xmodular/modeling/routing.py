"""The plan of a forward pass: which tokens are real, their order, and the adapter of each one.

Shapes: B sequences, S tokens per sequence as given (padding included), T tokens that are worked on.

There are two layouts:

* packed: only real tokens, flat as `(T, hidden)`, sequence after sequence, ordered by (language, length). Sequences of
  equal length next to each other form a *run*, which attention views as `(sequences, length)` without copying. If
  every sequence has one language, each language is a contiguous slice.
* grid: all tokens in the order given, as `(B, S, hidden)`. For cached decoding, cross-attention, masks of three or
  four dimensions, attention kernels with their own masks, returned attentions with gradients, and if it is
  requested (`config.layout`). Its static form, in which no size depends on data, is for tracing.

If a language's tokens are not contiguous, the adapters work on a permutation (`order`) and the result is permuted
back. `lang_ids` are checked, and sizes are copied to the host, only here: one transfer, a second one for languages that
change within a sequence, and one for `keep`. What is sent to the device is not waited for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from xmodular.errors import InputError, LanguageError, first_of


@dataclass(frozen=True)
class Groups:
    """The segments of some tokens as tensors, for one product of all languages.

    Attributes:
        ends: *Shape: (G,)*, int32. Where each segment ends.
        owners: *Shape: (tokens, G)*, in the type that products are computed in. 1 where a token is of a segment.
    """

    ends: Tensor
    owners: Tensor


@dataclass(frozen=True)
class Routes:
    """The adapter of each of some tokens.

    Attributes:
        segments: `(language id, number of tokens)`, in the order of the adapters' work.
        order: *Shape: (tokens,)*, int64. Permutation that sorts the tokens by language; None if they are sorted.
        lang_ids: *Shape: (B,)* or *(B, S)*, int64. Used instead of segments if sizes must not depend on data.
        groups: the same segments, where one product serves all languages.
    """

    segments: tuple[tuple[int, int], ...] = ()
    order: Tensor | None = None
    lang_ids: Tensor | None = None
    groups: Groups | None = None

    def grouped(self, device: torch.device, dtype: torch.dtype) -> Routes:
        """The same routes with `groups`."""
        counts = [count for _, count in self.segments]
        ends = sent(torch.tensor(counts).cumsum(0), device)
        places = torch.arange(sum(counts), device=device)[:, None]
        before = torch.cat((ends.new_zeros(1), ends[:-1]))
        owners = ((places >= before) & (places < ends)).to(dtype)
        return replace(self, groups=Groups(ends.int(), owners))

    def chunks(self, sizes: Sequence[int]) -> Iterator[Routes]:
        """Splits sorted tokens into chunks of the sizes, whose sum is their number."""
        segments = list(reversed(self.segments))
        for size in sizes:
            pieces, room = [], size
            while room:
                language, tokens = segments.pop()
                pieces.append((language, min(tokens, room)))
                if tokens > room:
                    segments.append((language, tokens - room))
                room -= pieces[-1][1]
            yield Routes(tuple(pieces))


@dataclass(frozen=True)
class Plan:
    """How the tokens of one batch are laid out and routed.

    Attributes:
        batch_size: B.
        length: S.
        routes: the adapter of each token.
        tokens: *Shape: (T,)*, int64. Position of each token worked on in the flattened `(B·S,)` input; None if these
            are all tokens in order.
        runs: `(sequences, length)` of each run of the packed layout; None in the grid layout.
        slots: *Shape: (T,)*, int64. Column of each token in the input; None if that is its index in its sequence.
        kept: *Shape: (kept tokens,)*, int64. Indices into the T tokens whose last state is needed; None for all.
        kept_routes: the adapter of each kept token.
    """

    batch_size: int
    length: int
    routes: Routes
    tokens: Tensor | None = None
    runs: tuple[tuple[int, int], ...] | None = None
    slots: Tensor | None = None
    kept: Tensor | None = None
    kept_routes: Routes | None = None

    @property
    def packed(self) -> bool:
        """Whether only real tokens are worked on."""
        return self.runs is not None

    @property
    def run_tokens(self) -> list[int]:
        """Number of tokens of each run."""
        return [count * length for count, length in self.runs or ()]

    def pack(self, grid: Tensor) -> Tensor:
        """From `(B, S, ...)` to the tokens worked on, flat in either layout: `(T, ...)`."""
        flat = grid.flatten(0, 1)
        return flat if self.tokens is None else flat.index_select(0, self.tokens)

    def unpack(self, states: Tensor) -> Tensor:
        """From the layers' states to `(B, S, ...)`, zeros for tokens that were not computed."""
        if not self.packed:
            return states
        if self.tokens is not None:
            flat = states.new_zeros(self.batch_size * self.length, *states.shape[1:])
            states = flat.index_copy(0, self.tokens, states)
        return states.unflatten(0, (self.batch_size, self.length))

    def unpack_kept(self, states: Tensor) -> Tensor:
        """From the kept tokens, `(kept, ...)`, to `(B, S, ...)`, zeros elsewhere."""
        if self.kept is None:
            return self.unpack(states)
        where = self.kept if self.tokens is None else self.tokens.index_select(0, self.kept)
        flat = states.new_zeros(self.batch_size * self.length, *states.shape[1:])
        return flat.index_copy(0, where, states).unflatten(0, (self.batch_size, self.length))

    def unpack_attention(self, runs: Sequence[Tensor]) -> Tensor:
        """From the probabilities of each run, `(sequences, heads, length, length)`, to `(B, heads, S, S)`."""
        if not runs:
            raise InputError("no attention to return: every token of the batch is masked.")
        heads = runs[0].shape[1]
        grid = runs[0].new_zeros(self.batch_size, self.length, self.length, heads)
        tokens = self.tokens
        if tokens is None:
            tokens = torch.arange(self.batch_size * self.length, device=grid.device)
        start = 0
        for probabilities, (count, length) in zip(runs, self.runs or (), strict=True):
            here = tokens[start : start + count * length].view(count, length)
            row, column = here[:, :1, None] // self.length, here % self.length
            grid[row, column[:, :, None], column[:, None, :]] = probabilities.permute(0, 2, 3, 1)
            start += count * length
        return grid.permute(0, 3, 1, 2)

    def keep(self, wanted: Tensor) -> Plan:
        """The same plan, with the last states needed at some positions only.

        Args:
            wanted: *Shape: (B, S)*, bool.
        """
        flags = self.pack(wanted)
        # Languages of all tokens, in the order of the layout; the kept ones keep their relative order.
        languages, counts = torch.tensor(self.routes.segments, dtype=torch.long).view(-1, 2).unbind(1)
        language_of = sent(torch.repeat_interleave(languages, counts), flags.device)
        if self.routes.order is not None:
            language_of = torch.empty_like(language_of).index_copy_(0, self.routes.order, language_of)
        kept, routes = _routes_of_tokens(language_of, 1 + int(languages.max()) if len(languages) else 0, flags)
        return self if len(kept) == len(flags) else replace(self, kept=kept, kept_routes=routes)

    def grouped(self, device: torch.device, dtype: torch.dtype, least: int) -> Plan:
        """The same plan, with groups where there are at least so many languages."""

        def grouped(routes: Routes) -> Routes:
            return routes.grouped(device, dtype) if len(routes.segments) >= least else routes

        kept = None if self.kept_routes is None else grouped(self.kept_routes)
        return replace(self, routes=grouped(self.routes), kept_routes=kept)


def check_lang_ids(lang_ids: object, batch_size: int, length: int, languages: Sequence[str]) -> Tensor:
    """Checks the form of `lang_ids`; their values are checked when the plan is made.

    Returns:
        The ids as int64, *Shape: (B,)* or *(B, S)*.

    Raises:
        InputError: if they are not an integer tensor of one of these shapes.
    """

    def allowed() -> str:
        return (
            f"lang_ids must be an integer tensor of shape (batch,) = ({batch_size},), (1,) for the whole batch, or "
            f"(batch, sequence) = ({batch_size}, {length})"
        )

    if not isinstance(lang_ids, Tensor):
        names = (
            [lang_ids] if isinstance(lang_ids, str) else list(lang_ids) if isinstance(lang_ids, list | tuple) else []
        )
        if names and all(isinstance(name, str) for name in names):
            raise InputError(
                f"lang_ids got the language names {names}: {allowed()}; model.lang_ids({names}) turns names into ids."
            )
        raise InputError(f"lang_ids is {lang_ids!r} of type {type(lang_ids).__name__}: {allowed()}.")
    if lang_ids.is_floating_point() or lang_ids.is_complex() or lang_ids.dtype == torch.bool:
        raise InputError(f"lang_ids has dtype {lang_ids.dtype}: {allowed()}, indices into {first_of(languages, 8)}.")
    if lang_ids.dim() == 1 and (torch.jit.is_tracing() or lang_ids.shape[0] in (1, batch_size)):
        return lang_ids.long().expand(batch_size)
    if lang_ids.dim() == 2 and (torch.jit.is_tracing() or tuple(lang_ids.shape) == (batch_size, length)):
        return lang_ids.long()
    raise InputError(f"lang_ids has shape {tuple(lang_ids.shape)}: {allowed()}.")


def check_range(low: int, high: int, languages: Sequence[str]) -> None:
    if low < 0 or high >= len(languages):
        raise LanguageError(
            f"lang_ids has {low if low < 0 else high}, which is out of range: this model has {len(languages)} "
            f"language{'s' * (len(languages) != 1)}, ids 0 to {len(languages) - 1} for {first_of(languages, 8)}."
        )


def sent(values: Tensor, device: torch.device | None) -> Tensor:
    """Values of the host on a device, which the host does not wait for."""
    if device is None or device.type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


def _places(flags: Tensor, count: int) -> Tensor:
    """Where flags *(N,)* are set, if that is known to be `count` times: as nonzero, but nobody waits for a size."""
    if flags.device.type == "cpu":
        return flags.nonzero().squeeze(1)
    return torch.searchsorted(flags.cumsum(0), torch.arange(1, count + 1, device=flags.device))


def _routes_of_tokens(ids: Tensor, languages: int, chosen: Tensor | None = None) -> tuple[Tensor, Routes]:
    """Which tokens are chosen, *(chosen,)*, and their routes; one transfer to the host.

    Args:
        ids: *Shape: (tokens,)*, language ids below `languages`.
        chosen: *Shape: (tokens,)*, bool; None for all.
    """
    chosen = torch.ones_like(ids, dtype=torch.bool) if chosen is None else chosen
    numbers = ids.new_zeros(languages + 1).index_add_(0, ids, chosen.long())
    seen = ids.masked_fill(~chosen, -1)
    numbers[-1] = ((seen.cummax(0).values == ids) | ~chosen).all()  # whether they are sorted
    *counts, in_order = numbers.tolist()
    segments = tuple((language, count) for language, count in enumerate(counts) if count)
    kept = _places(chosen, sum(counts))
    return kept, Routes(segments, None if in_order else ids.index_select(0, kept).argsort(stable=True))


def make_plan(
    lang_ids: Tensor | int,
    attention_mask: Tensor | None,
    batch_size: int,
    length: int,
    languages: Sequence[str],
    *,
    pack: bool,
    static: bool = False,
) -> Plan:
    """Makes the plan of a forward pass.

    Args:
        lang_ids: one id for the whole batch, or checked ids, *Shape: (B,)* or *(B, S)*, int64.
        attention_mask: *Shape: (B, S)*, nonzero where a token is real; None if all are. Used by the packed layout.
        batch_size: B.
        length: S.
        languages: the model's languages.
        pack: whether to use the packed layout.
        static: whether sizes must not depend on data; then the layout is the grid.

    Raises:
        LanguageError: if an id at a real token is out of range.
    """
    if static:
        return _static_plan(lang_ids, batch_size, length, len(languages))
    real = None if attention_mask is None or not pack else attention_mask != 0
    # The one transfer to the host: per sequence its lowest and highest language id, and its number of real tokens.
    facts = [] if isinstance(lang_ids, int) else list(_language_range(lang_ids, real, length))
    if real is not None:
        facts.append(real.sum(1))
    columns: Any = torch.stack(facts).tolist() if facts else []
    lengths = columns.pop() if real is not None else [length] * batch_size
    lows: list[int]
    highs: list[int]
    lows, highs = columns or ([lang_ids] * batch_size, [lang_ids] * batch_size)  # type: ignore[assignment]
    occupied = [row for row in range(batch_size) if lengths[row] > 0]
    if occupied:
        check_range(min(lows[row] for row in occupied), max(highs[row] for row in occupied), languages)
    switching = any(lows[row] != highs[row] for row in occupied)
    per_token = lang_ids if switching and isinstance(lang_ids, Tensor) else None

    if not pack:
        if per_token is not None:
            return Plan(batch_size, length, _routes_of_tokens(per_token.flatten(), len(languages))[1])
        device = lang_ids.device if isinstance(lang_ids, Tensor) else None
        return _grid_plan(lows, batch_size, length, device)

    # Sequences that switch language stand last: their tokens cannot lie in a language's slice anyway.
    rows_in_order = sorted(occupied, key=lambda row: (lows[row] != highs[row], lows[row], lengths[row]))
    runs: list[tuple[int, int]] = []
    segments: list[tuple[int, int]] = []
    for row in rows_in_order:
        if runs and runs[-1][1] == lengths[row]:
            runs[-1] = (runs[-1][0] + 1, lengths[row])
        else:
            runs.append((1, lengths[row]))
        if segments and segments[-1][0] == lows[row]:
            segments[-1] = (lows[row], segments[-1][1] + lengths[row])
        else:
            segments.append((lows[row], lengths[row]))
    in_order = rows_in_order == list(range(batch_size))
    full = all(lengths[row] == length for row in occupied) and len(occupied) == batch_size
    if in_order and full:
        plan = Plan(batch_size, length, Routes(tuple(segments)), runs=tuple(runs))
    else:
        device = real.device if real is not None else lang_ids.device if isinstance(lang_ids, Tensor) else None
        sequences = sent(torch.tensor(rows_in_order, dtype=torch.long), device)
        if real is None or full:
            tokens = (sequences[:, None] * length + torch.arange(length, device=device)).flatten()
        else:
            tokens = _real_tokens(real, sequences, length, sum(count for _, count in segments))
        plan = Plan(batch_size, length, Routes(tuple(segments)), tokens=tokens, runs=tuple(runs), slots=tokens % length)
    if per_token is not None:
        plan = replace(plan, routes=_routes_of_tokens(plan.pack(per_token), len(languages))[1])
    return plan


def _real_tokens(real: Tensor, sequences: Tensor, length: int, count: int) -> Tensor:
    """Flat positions of the `count` real tokens, sequence after sequence in the order of `sequences`."""
    places = _places(real.index_select(0, sequences).flatten(), count)
    return sequences.index_select(0, places // length) * length + places % length


def _language_range(lang_ids: Tensor, real: Tensor | None, length: int) -> tuple[Tensor, Tensor]:
    """Lowest and highest id over the real tokens of each sequence, *Shape: (B,)* each."""
    if lang_ids.dim() == 1:
        return lang_ids, lang_ids
    if length == 0:
        return lang_ids.new_zeros(len(lang_ids)), lang_ids.new_zeros(len(lang_ids))
    if real is None:
        return lang_ids.amin(1), lang_ids.amax(1)
    extremes = torch.iinfo(torch.int64)
    return lang_ids.masked_fill(~real, extremes.max).amin(1), lang_ids.masked_fill(~real, extremes.min).amax(1)


def _grid_plan(ids: list[int], batch_size: int, length: int, device: torch.device | None) -> Plan:
    """The grid layout when every sequence has one language."""
    rows = sorted(range(batch_size), key=lambda row: ids[row])
    segments: list[tuple[int, int]] = []
    for row in rows:
        if segments and segments[-1][0] == ids[row]:
            segments[-1] = (ids[row], segments[-1][1] + length)
        else:
            segments.append((ids[row], length))
    order = None
    if rows != list(range(batch_size)):
        sorted_rows = sent(torch.tensor(rows), device)
        order = (sorted_rows[:, None] * length + torch.arange(length, device=device)).flatten()
    return Plan(batch_size, length, Routes(tuple(segments), order))


def _static_plan(lang_ids: Tensor | int, batch_size: int, length: int, languages: int) -> Plan:
    """The grid layout with adapters chosen by index: no size depends on data."""
    if isinstance(lang_ids, int):
        return Plan(batch_size, length, Routes(((lang_ids, batch_size * length),)))
    # Looked up, so that an id out of range is an error here too; elsewhere than in torch, -1 would mean the last one.
    table = torch.arange(languages, device=lang_ids.device)
    ids = table.index_select(0, torch.where(lang_ids < 0, languages, lang_ids).flatten())
    return Plan(batch_size, length, Routes(lang_ids=ids.view_as(lang_ids)))
