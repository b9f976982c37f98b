"""Recurrent networks over padded sequences, for an exported graph: steps beyond a sequence's end are taken
and not read.

torch's packed sequences skip them, by lengths that only the data know; ONNX has its recurrent operators for
rectangles.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def last_states(rnn: nn.LSTM | nn.GRU, x: Tensor, lengths: Tensor, backwards: bool = False) -> Tensor:
    """The last state of the last layer, of both directions where there are two; zero for empty sequences.

    Args:
        rnn: not `batch_first`, in evaluation.
        x: [B, T, C], what is there first.
        lengths: [B].
        backwards: read each sequence from its last to its first.

    Returns:
        [B, directions · hidden].
    """
    at = torch.arange(x.shape[1], device=x.device)
    reverse = (lengths[:, None] - 1 - at).where(at < lengths[:, None], at)  # of what is there alone
    if backwards:
        x = _taken(x, reverse)
    last = (lengths - 1).clamp_min(0)[:, None]
    ends: list[Tensor] = []
    for layer in range(rnn.num_layers):
        outputs, ends = [], []
        for suffix in ("", "_reverse")[: 2 if rnn.bidirectional else 1]:
            given = _taken(x, reverse) if suffix else x
            states = _read(rnn, given, f"_l{layer}{suffix}")
            ends.append(_taken(states, last)[:, 0])
            outputs.append(_taken(states, reverse) if suffix else states)
        x = torch.cat(outputs, dim=2)
    return torch.cat(ends, dim=1).masked_fill((lengths == 0)[:, None], 0.0)


def _read(rnn: nn.LSTM | nn.GRU, x: Tensor, suffix: str) -> Tensor:
    """The states of one layer in one direction. Shapes: [B, T, C] -> [B, T, hidden]."""
    names = [f"{kind}{suffix}" for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    weights = [getattr(rnn, name) for name in names]
    first = x.new_zeros((1, x.shape[0], rnn.hidden_size))
    x = x.transpose(0, 1)
    if isinstance(rnn, nn.LSTM):
        found = torch.lstm(x, (first, first), weights, True, 1, 0.0, False, False, False)
    else:
        found = torch.gru(x, first, weights, True, 1, 0.0, False, False, False)
    states: Tensor = found[0].transpose(0, 1)
    return states


def _taken(x: Tensor, at: Tensor) -> Tensor:
    """Rows of each sequence. Shapes: [B, T, C], [B, K] -> [B, K, C]."""
    return x.gather(1, at[..., None].expand(-1, -1, x.shape[2]))
