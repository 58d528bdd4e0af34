"""Networks as after some training. Test code only; needs PyTorch."""

from __future__ import annotations

import torch


def settle(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """The module in eval mode, with weights and statistics as after some training."""
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            for values, low, high in ((part.running_var, 0.5, 1.5), (part.weight.data, 0.5, 1.5)):
                values.uniform_(low, high, generator=generator)
            part.running_mean.normal_(0, 0.2, generator=generator)
            part.bias.data.normal_(0, 0.2, generator=generator)
        elif isinstance(part, torch.nn.Conv2d):
            part.weight.data.normal_(0, 0.7 * part.weight[0].numel() ** -0.5, generator=generator)
    return module.eval()
