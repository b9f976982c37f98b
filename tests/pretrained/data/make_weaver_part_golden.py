"""Makes `weaver_part_*.pt` and `weaver_part.npz`: small Particle Transformers of weaver-core 0.5.3 with
random weights, their logits.

Run by hand with weaver-core installed: `python tests/pretrained/data/make_weaver_part_golden.py`. Features
are random numbers in the place of the 7, 13 or 17 columns of the JetClass recipe; jets have 1 to 40
constituents of a few GeV with masses that float32 resolves. Random running statistics, norms and scales take
the place of a training. One file has the names of older weaver versions (`in_proj_weight`). Logits are
weaver's, in float64, padded to the longest jet.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from weaver.nn.model.ParticleTransformer import ParticleTransformer

HERE = Path(__file__).parent
COUNTS = (40, 1, 2, 5, 16, 17, 18, 25)
OUTPUTS = {7: 2, 13: 10, 17: 10}


def main() -> None:
    torch.manual_seed(1)
    momentum = 3 * torch.randn(sum(COUNTS), 3) + torch.tensor([4.0, 2.0, -3.0])
    mass = 0.2 + torch.rand(sum(COUNTS), 1)
    momenta = torch.cat(((momentum.square().sum(1, keepdim=True) + mass**2).sqrt(), momentum), dim=1)
    mask = torch.arange(max(COUNTS)) < torch.tensor(COUNTS)[:, None]
    arrays: dict[str, np.ndarray] = {"counts": np.array(COUNTS), "four_momenta": momenta.numpy()}
    for columns, outputs in OUTPUTS.items():
        torch.manual_seed(columns)
        net = ParticleTransformer(
            columns,
            outputs,
            pair_input_dim=4,
            use_pre_activation_pair=False,
            embed_dims=[16, 32, 16],
            pair_embed_dims=[8, 8],
            num_heads=4,
            num_layers=2,
            num_cls_layers=2,
            fc_params=[(12, 0.1)] if columns == 13 else [],
        )
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 2)
        for name, parameter in net.named_parameters():
            if parameter.ndim == 1:  # norms, scales and biases
                centre = 0.0 if name.endswith("bias") else 1.0
                torch.nn.init.normal_(parameter, centre, 0.2)
        state = {f"mod.{name}": value.clone() for name, value in net.state_dict().items()}
        if columns == 17:
            state = {name.replace("in_proj.", "in_proj_"): value for name, value in state.items()}
        torch.save(state, HERE / f"weaver_part_{columns}.pt")
        features = torch.randn(sum(COUNTS), columns)
        x = torch.zeros(len(COUNTS), max(COUNTS), columns + 4, dtype=torch.float64)
        x[mask] = torch.cat((features, momenta[:, [1, 2, 3, 0]]), dim=1).double()
        x = x.transpose(1, 2)
        with torch.no_grad():
            logits = net.double().eval()(x[:, :columns], x[:, columns:], mask[:, None].double())
        arrays[f"features_{columns}"] = features.numpy()
        arrays[f"logits_{columns}"] = logits.numpy()
    np.savez_compressed(HERE / "weaver_part.npz", **arrays)


if __name__ == "__main__":
    main()
