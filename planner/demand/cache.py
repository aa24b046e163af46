"""What a sequence leaves on a device between its tokens: keys and values, latents, recurrent states.

One formula for the bytes per token of a model and for the memory ledger of a run. Only layers of the token path that
generates hold a cache: no towers, no encoders, no layers that wait for an image.

========================= =================================================================================
layer                     tokens it keeps of a sequence
========================= =================================================================================
full attention            all
sliding window W          W, and the tokens that the engine reads at once, which stand beside the window
latent attention          all, of the latent (or of every head, see :func:`with_expanded_latents`)
compressed attention      a window of plain keys, and one compressed key for ``rate`` tokens
cross-attention           those of the encoder
linear attention          none; a recurrent state of fixed size in fp32
========================= =================================================================================

Window: ``sliding_window - 1 + max_num_batched_tokens`` in vllm/v1/kv_cache_interface.py (SlidingWindowSpec),
https://github.com/vllm-project/vllm, and ``n_swa + n_ubatch`` in llama.cpp (llama-kv-cache-iswa.cpp),
https://github.com/ggml-org/llama.cpp. State: Qwen3-Next's 1.42 GB of 81 slots over 4 ranks, as SGLang logs it, and the
100.5 MiB of two slots of Qwen3.5-9B that llama.cpp logs, are 4 bytes a value.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from planner.catalogue.schema import Model
from planner.demand.ops import Array, Op, OpTable
from planner.demand.transformer import Demand, Section, demand

STATE_BYTES = 4.0


def cache_values(
    table: OpTable, *, tp: Array, kv_len: Array, encoder_len: float = 0.0, read_at_once: float = 0.0
) -> Array:
    """Cached values of one sequence on one device, shape (n, op): k/v heads over tp, capped by a window.

    Parameters
    ----------
    tp, kv_len : (n,)               kv_len [tokens] of the sequence
    encoder_len : [tokens] of the stream that cross-attention reads
    read_at_once : [tokens] of a prompt that an engine reads in one step, kept beside a window

    Notes
    -----
    Latent attention caches one vector for all heads, which tensor parallelism replicates. What an indexer selects is
    read from a whole cache, so its ``window`` caps nothing here.
    """
    t = table.columns
    heads = np.where(t["decode_kv_heads"] > 0, t["decode_kv_heads"], np.maximum(t["kv_heads"], 1.0))
    window = np.where(t["decode_kv_heads"] > 0, np.inf, t["window"] + read_at_once)
    length = np.where(t["cross"] > 0, encoder_len, np.minimum(np.asarray(kv_len)[:, None], window))
    return np.asarray(t["cache"] * length / np.minimum(np.asarray(tp)[:, None], heads))


def state_values(table: OpTable, *, tp: Array) -> Array:
    """Recurrent state of one sequence on one device, shape (n, op) [values]."""
    return np.asarray(table.columns["state"] / np.asarray(tp)[:, None])


def holds_cache(d: Demand, section: Section) -> bool:
    """Whether a section leaves something of a sequence behind: those on the path of the tokens that are generated."""
    return bool(section.table.ops) and d.runs(section) and d.model.stacks[section.stack].role == "decoder"


def sequence_bytes(
    d: Demand, *, tp: Array, kv_len: Array, width: float, encoder_len: float = 0.0, read_at_once: float = 0.0
) -> Array:
    """Bytes that one sequence keeps on one device in a layer of each section, shape (n, section) [byte].

    Parameters
    ----------
    tp, kv_len : (n,)
    width : [byte] of a cached value; states are fp32
    """
    out = np.zeros((len(tp), len(d.sections)))
    for i, s in enumerate(d.sections):
        if holds_cache(d, s):
            kept = cache_values(s.table, tp=tp, kv_len=kv_len, encoder_len=encoder_len, read_at_once=read_at_once)
            out[:, i] = kept.sum(axis=1) * width + state_values(s.table, tp=tp).sum(axis=1) * STATE_BYTES
    return out


def _whole(model: Model, *, kv_len: float, width: float, encoder_len: float = 0.0, read_at_once: float = 0.0) -> float:
    """Bytes of one sequence over all layers on one device [byte]."""
    d, one = demand(model), np.ones(1)
    held = sequence_bytes(d, tp=one, kv_len=one * kv_len, width=width, encoder_len=encoder_len,
                          read_at_once=read_at_once)[0]  # fmt: skip
    return float(held @ np.array([s.count for s in d.sections]))


def kv_cache_bytes_per_token(model: Model, *, bytes_per_value: float = 2.0) -> float:
    """Cache bytes one more token of context costs while no window is full, summed over decoder layers [byte/token].

    Latent attention caches its latent; layers that share another's keys and values cache nothing. Cross-attention
    caches the encoder's tokens, not the decoder's, and is not counted here.
    """
    return _whole(model, kv_len=1, width=bytes_per_value) - _whole(model, kv_len=0, width=bytes_per_value)


def section_bytes_per_token(d: Demand, section: Section, *, width: float) -> float:
    """The same of one layer of a section [byte/token]."""
    if not holds_cache(d, section):
        return 0.0
    one = np.ones(1)
    return float(cache_values(section.table, tp=one, kv_len=one).sum()) * width


def kv_cache_bytes(
    model: Model, *, context: float, bytes_per_value: float = 2.0, encoder_len: float = 0.0, read_at_once: float = 0.0
) -> float:
    """Cache bytes of one sequence of ``context`` tokens, states apart: windows cap what their layers keep [byte]."""
    held = _whole(model, kv_len=context, width=bytes_per_value, encoder_len=encoder_len, read_at_once=read_at_once)
    return held - recurrent_state_bytes(model)


def recurrent_state_bytes(model: Model, *, bytes_per_value: float = STATE_BYTES) -> float:
    """Recurrent state of one sequence over all layers of linear attention and state space [byte]."""
    return _whole(model, kv_len=0, width=0.0) * bytes_per_value / STATE_BYTES


def caches_latents(d: Demand) -> bool:
    """Whether some layer caches a latent that could be expanded: those with an indexer read the latent alone."""
    ops = [o for s in d.sections for o in s.table.ops]
    return any(map(_latent, ops)) and not any(o.name == "attn.index_core" for o in ops)


def with_expanded_latents(d: Demand) -> Demand:
    """The same model under an engine that caches keys and values of every head in place of their latent.

    heads · (key width + value width) values a token, divided over tp, where the latent is kept whole on every rank:
    the naive form of DeepSeek-V2, section 2.1 (https://arxiv.org/abs/2405.04434), which Hugging Face transformers
    caches. Decoding then reads them as any other attention does.
    """
    return replace(d, sections=tuple(
        replace(s, table=OpTable(tuple(_expanded(o) if _latent(o) else o for o in s.table.ops))) for s in d.sections
    ))  # fmt: skip


def _latent(o: Op) -> bool:
    return o.kernel == "attention" and o.decode_kv_heads > 0 and o.cache > 0


def _expanded(o: Op) -> Op:
    return replace(o, cache=o.heads * (o.qk_dim + o.v_dim), decode_qk_dim=0.0, decode_v_dim=0.0, decode_kv_heads=0.0)
