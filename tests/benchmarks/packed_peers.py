"""Peers that a user would write or take: ParticleNet on `torch_geometric`'s EdgeConv, a transformer on packed
rows in 40 lines, salt's encoder, and weaver's networks with inputs made ready.

All have the sizes of hepml's taggers. They are what `bench_peers.py` compares with; nothing else uses them.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from padded import dense_features
from torch import Tensor, nn

from hepml.data.batch import JetBatch
from hepml.data.features import KINEMATIC

LENGTH = 128
WIDTH, HEADS, BLOCKS = 128, 8, 10


class WeaverInputs(nn.Module):
    """One of weaver's networks (see `weaver_models.py`) on tensors padded before the clock starts."""

    def __init__(self, tagger: Any, *, points: bool) -> None:
        super().__init__()
        self.points, self.pad, self.network = points, tagger.padded, tagger.network

    def of(self, batch: JetBatch) -> tuple[Tensor, ...]:
        """(points, features, mask) of ParticleNet, (features, four-vectors, mask) of ParT."""
        x, p, mask = self.pad(batch)
        return (x[:, -2:].contiguous(), x, mask) if self.points else (x, p, mask.bool())

    def trimmed(self, ready: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """What the network's trimmer takes, in its order: features, four-vectors or points, mask."""
        return (ready[1], ready[0], ready[2]) if self.points else ready

    def forward(self, *ready: Tensor) -> Tensor:
        """Logits."""
        if self.points:
            return self.network(*ready)  # type: ignore[no-any-return]
        return self.network(ready[0], v=ready[1], mask=ready[2])  # type: ignore[no-any-return]


class PackedEdgeConvNet(nn.Module):
    """ParticleNet on packed nodes with `torch_geometric.nn.EdgeConv`; one distance matrix a jet."""

    def __init__(self, k: int = 16) -> None:
        super().__init__()
        from torch_geometric.nn import EdgeConv

        self.k, self.norm = k, nn.BatchNorm1d(len(KINEMATIC))
        sizes = (len(KINEMATIC), 64, 128, 256)
        self.convs, self.shortcuts = nn.ModuleList(), nn.ModuleList()
        for a, b in pairwise(sizes):
            layers: list[nn.Module] = []
            for i, o in ((2 * a, b), (b, b), (b, b)):
                layers += [nn.Linear(i, o, bias=False), nn.BatchNorm1d(o), nn.ReLU()]
            self.convs.append(EdgeConv(nn.Sequential(*layers), aggr="mean"))
            self.shortcuts.append(nn.Sequential(nn.Linear(a, b, bias=False), nn.BatchNorm1d(b)))
        self.head = nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Dropout(0.1), nn.Linear(256, 2))

    def ready(self, batch: JetBatch) -> tuple[Tensor, ...]:
        return batch.select(KINEMATIC), batch.jet_of, torch.tensor(len(batch))

    def edges(self, at: Tensor, jet_of: Tensor, jets: int) -> Tensor:
        from torch_geometric.utils import to_dense_batch

        dense, mask = to_dense_batch(at.detach(), jet_of, batch_size=jets)
        row = torch.zeros(mask.shape, dtype=torch.int64).masked_scatter_(mask, torch.arange(len(at)))
        d = torch.cdist(dense, dense).masked_fill(~mask[:, None], torch.inf)
        d.diagonal(dim1=1, dim2=2).fill_(torch.inf)
        far, near = d.topk(min(self.k, d.shape[-1] - 1), largest=False, sorted=False)
        keep = torch.isfinite(far) & mask[..., None]
        source = row.gather(1, near.flatten(1)).view_as(near)
        return torch.stack((source[keep], row[..., None].expand_as(near)[keep]))

    def forward(self, x: Tensor, jet_of: Tensor, jets: Tensor) -> Tensor:
        at, x = x[:, -2:], self.norm(x)
        for conv, shortcut in zip(self.convs, self.shortcuts, strict=True):
            x = torch.relu(conv(x, self.edges(at, jet_of, int(jets))) + shortcut(x))
            at = x
        total = x.new_zeros(int(jets), x.shape[1]).index_add(0, jet_of, x)
        return self.head(total / torch.bincount(jet_of, minlength=int(jets)).clamp(min=1)[:, None])  # type: ignore[no-any-return]


class PackedBlock(nn.Module):
    """A pre-norm block whose linear maps see real rows alone; attention in rectangles of similar jets."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down, self.drop = (
            nn.Linear(WIDTH, 4 * WIDTH),
            nn.Linear(4 * WIDTH, WIDTH),
            nn.Dropout(0.1),
        )

    def forward(self, x: Tensor, groups: list[tuple[int, Tensor, Tensor]]) -> Tensor:
        parts = []
        for qkv, (_, at, mask) in zip(
            self.qkv(self.norm1(x)).split([g[0] for g in groups]), groups, strict=True
        ):
            b, p = mask.shape
            dense = qkv.new_zeros(b * p, 3 * WIDTH).index_copy(0, at, qkv).view(b, p, 3, HEADS, -1)
            q, k, v = dense.permute(2, 0, 3, 1, 4)
            a = F.scaled_dot_product_attention(q, k, v, mask[:, None, None])
            parts.append(a.transpose(1, 2).reshape(b * p, WIDTH)[at])
        x = x + self.drop(self.out(torch.cat(parts)))
        return x + self.drop(self.down(self.drop(F.gelu(self.up(self.norm2(x))))))  # type: ignore[no-any-return]


class PackedTransformer(nn.Module):
    """`transformer` in plain torch on packed rows, jets sorted by length and taken eight at a time."""

    def __init__(self, together: int = 8) -> None:
        super().__init__()
        self.together = together
        self.norm_in, self.embed = nn.BatchNorm1d(len(KINEMATIC)), nn.Linear(len(KINEMATIC), WIDTH)
        self.token = nn.Parameter(0.02 * torch.randn(WIDTH))
        self.blocks = nn.ModuleList(PackedBlock() for _ in range(BLOCKS))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 2)

    def ready(self, batch: JetBatch) -> tuple[Any, ...]:
        order = torch.argsort(batch.counts, stable=True)
        jets, groups = batch.take(order), []
        counts = (jets.counts + 1).split(self.together)
        for n in counts:
            mask = torch.arange(int(n.max())) < n[:, None]
            groups.append((int(n.sum()), mask.flatten().nonzero()[:, 0], mask))
        first = torch.cat(counts).cumsum(0) - torch.cat(counts)
        real = torch.ones(int(torch.cat(counts).sum()), dtype=torch.bool)
        real[first] = False
        return jets.select(KINEMATIC), first, real.nonzero()[:, 0], groups, torch.argsort(order)

    def forward(self, x: Tensor, first: Tensor, real: Tensor, groups: Any, back: Tensor) -> Tensor:
        rows = self.embed(self.norm_in(x))
        h = rows.new_zeros(len(first) + len(real), WIDTH).index_copy(0, real, rows)
        h = h.index_copy(0, first, self.token.expand(len(first), -1))
        for block in self.blocks:
            h = block(h, groups)
        return self.head(self.norm(h[first]))[back]  # type: ignore[no-any-return]


class SaltTransformer(nn.Module):
    """salt's encoder (the FTAG framework of ATLAS) of the same size on padded jets."""

    def __init__(self) -> None:
        super().__init__()
        from salt.models.transformer import Transformer

        self.embed = nn.Linear(len(KINEMATIC), WIDTH)
        self.encoder = Transformer(
            num_layers=BLOCKS,
            embed_dim=WIDTH,
            attn_type="torch-math",
            attn_kwargs={"num_heads": HEADS},
            dense_kwargs={"hidden_dim": 4 * WIDTH, "activation": "GELU", "dropout": 0.1},
        )
        self.head = nn.Linear(WIDTH, 2)

    def ready(self, batch: JetBatch) -> tuple[Tensor, ...]:
        x, mask = dense_features(batch, KINEMATIC)  # salt's loader pads to the largest jet of the batch
        return x.contiguous(), ~mask

    def forward(self, x: Tensor, absent: Tensor) -> Tensor:
        h, _ = self.encoder(self.embed(x), absent)
        return self.head(h[:, -1])  # type: ignore[no-any-return]
