"""A `--use` file whose loss draws from a generator with a memory, which no checkpoint holds."""

from __future__ import annotations

import torch

import paceline


class Jittered(paceline.LossConfig):
    """Cross-entropy with noise on the logits."""

    amount: float = 0.1

    def build(self, spec):
        from paceline.losses.classification import cross_entropy

        generator = torch.Generator().manual_seed(0)

        def jittered(outputs, batch):
            noise = torch.randn(outputs.shape, generator=generator, dtype=outputs.dtype)
            return cross_entropy(outputs + self.amount * noise, batch["y"])

        return paceline.PerSample(jittered, "jittered")


losses = {"jittered": Jittered}
