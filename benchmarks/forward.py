"""Speed of the encoder at xmod-base shape against transformers' X-MOD and against the stripped limit.

    python benchmarks/forward.py [--rounds 15] [--only dense,ragged,installed]

Random weights, fp32, inference. The peer is `transformers.models.xmod` with sdpa attention and the same weights.
"""

from __future__ import annotations

import argparse

import torch
from transformers.models.xmod import XmodConfig as PeerConfig
from transformers.models.xmod import XmodModel as PeerModel

from harness import interleave, log_normal_lengths, machine, ragged_batch, report, stripped_layers
from xmodular import XmodConfig, XmodModel

VOCAB = 30_000  # the embedding table takes no part in the layers' time


def languages(count: int) -> list[str]:
    return [f"l{index:03d}_XX" for index in range(count)]


def ours_and_peer(count: int) -> tuple[XmodModel, torch.nn.Module]:
    """Both models, with the same parameters in memory."""
    fields = XmodConfig.preset("xmod-base", vocab_size=VOCAB, languages=languages(count)).to_dict()
    ours = XmodModel(XmodConfig(**fields), add_pooling_layer=False).eval()
    fields["adapter_reduction_factor"] = int(fields["adapter_reduction_factor"])
    with torch.device("meta"):
        peer = PeerModel(PeerConfig(**fields, attn_implementation="sdpa"), add_pooling_layer=False)
    peer.load_state_dict(ours.state_dict(), assign=True)
    for name, buffer in list(peer.named_buffers()):
        parent, _, leaf = name.rpartition(".")
        value = torch.arange(buffer.shape[1])[None] if leaf == "position_ids" else torch.zeros(buffer.shape).long()
        setattr(peer.get_submodule(parent), leaf, value)
    return ours, peer.eval()


def dense(rounds: int) -> None:
    """One language, no padding, 81 languages installed."""
    ours, peer = ours_and_peer(81)
    for batch, length, bar in ((1, 16, "1.4"), (8, 32, "1.2"), (32, 128, "1.1")):
        ids = torch.randint(4, VOCAB, (batch, length))
        inputs = {"input_ids": ids, "lang_ids": torch.full((batch,), 5)}
        states = torch.randn(batch * length, 768)
        variants = {
            "peer": lambda inputs=inputs: peer(**inputs),
            "ours": lambda inputs=inputs: ours(**inputs),
            "limit": lambda states=states, batch=batch, length=length: stripped_layers(
                ours, states, [length] * batch, [5] * batch
            ),
        }
        gap = (peer(**inputs).last_hidden_state - ours(**inputs).last_hidden_state).abs().max()
        assert gap < 1e-4, gap
        times = interleave(variants, rounds * (20 if batch == 1 else 4 if batch == 8 else 1))
        limit_bar = "at most 1.15" if batch == 32 else "none"
        report(
            f"{batch} x {length} tokens, one language of 81",
            times,
            [("peer", "ours", f"at least {bar}"), ("ours", "limit", limit_bar)],
        )


def ragged(rounds: int) -> None:
    """32 sequences of log-normal lengths, padded to the longest, in 1, 8 and 30 interleaved languages of 81.

    Three draws of the lengths, one after the other, make one measurement.
    """
    ours, peer = ours_and_peer(81)
    draws = [log_normal_lengths(32, mean=30, longest=128, seed=seed) for seed in range(3)]
    real, padded = sum(map(sum, draws)), sum(32 * max(lengths) for lengths in draws)
    for count in (1, 8, 30):
        batches = [ragged_batch(lengths, count, VOCAB, seed=1) for lengths in draws]
        orders = [sorted(range(32), key=lambda row, ls=ls: (row % count, ls[row])) for ls in draws]
        packed = [
            (torch.randn(sum(ls), 768), [ls[row] for row in order], [row % count for row in order])
            for ls, order in zip(draws, orders, strict=True)
        ]
        variants = {
            "peer": lambda batches=batches: [peer(**inputs) for inputs in batches],
            "ours": lambda batches=batches: [ours(**inputs) for inputs in batches],
            "limit": lambda packed=packed: [stripped_layers(ours, *inputs) for inputs in packed],
        }
        report(
            f"3 times 32 ragged sequences ({real} real of {padded} tokens), {count} languages",
            interleave(variants, rounds),
            [("peer", "ours", "at least 2.5"), ("ours", "limit", "at most 1.25")],
        )


def installed(rounds: int) -> None:
    """The same batch with 1, 81 and 300 languages in the model."""
    lengths = log_normal_lengths(32, mean=30, longest=128, seed=0)
    inputs = ragged_batch(lengths, 1, VOCAB, seed=1)
    models = {
        count: XmodModel(
            XmodConfig.preset("xmod-base", vocab_size=VOCAB, languages=languages(count)), add_pooling_layer=False
        ).eval()
        for count in (1, 81, 300)
    }
    variants = {f"{count} languages": lambda model=model: model(**inputs) for count, model in models.items()}
    report(
        "the same ragged batch of one language",
        interleave(variants, rounds * 4),
        [("81 languages", "1 languages", "within 3 %"), ("300 languages", "1 languages", "within 3 %")],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", default="dense,ragged,installed")
    options = parser.parse_args()
    print(machine())
    torch.set_flush_denormal(True)  # without residuals and norms the limit's states are tiny
    parts = {"dense": dense, "ragged": ragged, "installed": installed}
    with torch.inference_mode():
        for name in options.only.split(","):
            parts[name](options.rounds)


if __name__ == "__main__":
    main()
