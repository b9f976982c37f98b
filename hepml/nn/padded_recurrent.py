"""Recurrent networks over padded sequences, for an exported graph: steps beyond a sequence's end are taken
and not read.

torch's packed sequences skip them, by lengths that only the data know; ONNX has its recurrent operators for
rectangles.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan


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
    w_x, w_h, b_x, b_h = (getattr(rnn, name) for name in names)
    given = F.linear(x, w_x, b_x).transpose(0, 1)
    first = x.new_zeros((x.shape[0], rnn.hidden_size))
    step = _lstm_step if isinstance(rnn, nn.LSTM) else _gru_step

    def one(carry: tuple[Tensor, Tensor], gates: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        h, c = step(*carry, gates, w_h, b_h)
        return (h, c), h.clone()

    _, states = scan(one, (first, first.clone()), given)
    outputs: Tensor = states.transpose(0, 1)
    return outputs


def _lstm_step(h: Tensor, c: Tensor, gates: Tensor, w_h: Tensor, b_h: Tensor) -> tuple[Tensor, Tensor]:
    i, f, g, o = (gates + F.linear(h, w_h, b_h)).chunk(4, dim=1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def _gru_step(h: Tensor, c: Tensor, gates: Tensor, w_h: Tensor, b_h: Tensor) -> tuple[Tensor, Tensor]:
    """A GRU has no state beside h; c is kept."""
    (r, z, n), (hr, hz, hn) = gates.chunk(3, dim=1), F.linear(h, w_h, b_h).chunk(3, dim=1)
    z = torch.sigmoid(z + hz)
    return (1 - z) * torch.tanh(n + torch.sigmoid(r + hr) * hn) + z * h, c.clone()


def _taken(x: Tensor, at: Tensor) -> Tensor:
    """Rows of each sequence. Shapes: [B, T, C], [B, K] -> [B, K, C]."""
    return x.gather(1, at[..., None].expand(-1, -1, x.shape[2]))
