"""Makes `weaver_particlenet_*.pt` and `weaver_particlenet.npz`: small ParticleNets of weaver-core 0.5.3 with
random weights, their logits.

Run by hand with weaver-core installed: `python tests/pretrained/data/make_weaver_golden.py`. Features are
random numbers in the place of the 7, 13 or 17 columns of the JetClass recipe; jets have 1 to 40 constituents,
so that some have fewer than k + 1 = 17. Random running statistics take the place of a training. Logits are
weaver's, in float64, padded to the longest jet.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from weaver.nn.model.ParticleNet import ParticleNet

HERE = Path(__file__).parent
COUNTS = (40, 1, 2, 5, 16, 17, 18, 25)
WIDTHS = [(16, (8, 8, 8)), (16, (12, 12, 12)), (16, (16, 16, 16))]


def main() -> None:
    arrays: dict[str, np.ndarray] = {"counts": np.array(COUNTS)}
    states = {}
    for columns in (7, 13, 17):
        torch.manual_seed(columns)
        net = ParticleNet(
            columns, 10, WIDTHS, [(16, 0.1)], use_fusion=columns == 17, use_fts_bn=True, use_counts=True
        )
        for module in net.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 2)
                torch.nn.init.uniform_(module.weight, 0.5, 1.5)
                torch.nn.init.normal_(module.bias, 0, 0.2)
        states[f"{columns}"] = {f"mod.{name}": value.clone() for name, value in net.state_dict().items()}
        features = torch.randn(sum(COUNTS), columns, dtype=torch.float32)
        mask = torch.arange(max(COUNTS)) < torch.tensor(COUNTS)[:, None]
        padded = torch.zeros(len(COUNTS), max(COUNTS), columns, dtype=torch.float64)
        padded[mask] = features.double()
        x = padded.transpose(1, 2)
        with torch.no_grad():  # delta_eta and delta_phi are the last two columns of every recipe
            logits = net.double().eval()(x[:, -2:], x, mask[:, None].double())
        arrays[f"features_{columns}"] = features.numpy()
        arrays[f"logits_{columns}"] = logits.numpy()
    for columns, state in states.items():
        torch.save(state, HERE / f"weaver_particlenet_{columns}.pt")
    np.savez_compressed(HERE / "weaver_particlenet.npz", **arrays)


if __name__ == "__main__":
    main()
