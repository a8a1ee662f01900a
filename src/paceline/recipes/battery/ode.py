"""A neural ordinary differential equation with a time grid of each sample's own.

Shapes: B batch, T time, F features, L latent size. On the interval before step i the state follows dz/dt = f(z, x_i).
With time scaled by each sample's interval, dz/ds = dt * f(z, x_i) for s in [0, 1], so that a batch of uneven grids is
one equation per interval; where a sample has ended, dt is 0.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from paceline.errors import ModelError
from paceline.models.recurrent import last_valid, zero_padding
from paceline.recipes.battery.model import Head, Target, as_steps

STEP_SIZES = "chooses its step sizes by value, which differ between members"
Field = Callable[[Tensor, Tensor], Tensor]  # (z (B, L), x (B, F)) -> dz/dt (B, L)


class Interval(nn.Module):
    """dz/ds of one interval, in the form that torchdiffeq calls: (s, z) -> dz/ds."""

    def __init__(self, field: Field, dt_B: Tensor, x_BF: Tensor) -> None:
        super().__init__()
        self.field, self.dt_B1, self.x_BF = field, dt_B[:, None], x_BF

    def forward(self, s: Tensor, z_BL: Tensor) -> Tensor:
        return self.dt_B1 * self.field(z_BL, self.x_BF)


def largest(error: Tensor) -> Tensor:
    """The norm of the error estimate: samples that have ended have none, so that they change no step size."""
    return error.abs().max()


def advance(
    field: Field, z_BL: Tensor, dt_B: Tensor, x_BF: Tensor, *, rtol: float, atol: float, adjoint: bool = False
) -> Tensor:
    """Return the state (B, L) after an interval of dt (B,) time units, by torchdiffeq's `dopri5`.

    The first step tried is the whole interval, whatever the other samples of the batch.
    """
    from torchdiffeq import odeint, odeint_adjoint

    equation, ends = Interval(field, dt_B, x_BF), z_BL.new_tensor([0.0, 1.0])
    options = {"norm": largest, "first_step": 1.0}
    solve, more = (odeint_adjoint, {"adjoint_params": tuple(equation.parameters())}) if adjoint else (odeint, {})
    states = solve(equation, z_BL, ends, rtol=rtol, atol=atol, method="dopri5", options=options, **more)
    end: Tensor = states[-1]
    return end


def trajectory(
    field: Field, z_BL: Tensor, dt_BT: Tensor, x_BTF: Tensor, *, rtol: float, atol: float, adjoint: bool = False
) -> Tensor:
    """Return the states (B, T, L) at T steps from the state at the first.

    dt_BT: time since the step before; that of the first step is not looked at. x_BTF: what drives the way to each step.
    """
    states = [z_BL]
    for i in range(1, dt_BT.shape[1]):
        z = advance(field, states[-1], dt_BT[:, i], x_BTF[:, i], rtol=rtol, atol=atol, adjoint=adjoint)
        states.append(z)
    return torch.stack(states, 1)


def intervals(x_BTF: Tensor, mask_BT: Tensor | None, t_BT: Tensor | None, time_step: float) -> Tensor:
    """Return the time since the step before in units of `time_step`, (B, T): 0 at the first step and on padding.

    Without times the steps are one unit apart.
    """
    if t_BT is None:
        dt = torch.ones_like(x_BTF[:, 1:, 0])
    else:
        dt = ((t_BT[:, 1:] - t_BT[:, :-1]) / time_step).to(x_BTF.dtype)
    if mask_BT is not None:
        dt = torch.where(mask_BT[:, 1:] & mask_BT[:, :-1], dt, 0)
    return torch.cat([torch.zeros_like(x_BTF[:, :1, 0]), dt], 1)


class VectorField(nn.Module):
    """dz/dt as a network of two hidden layers with tanh: (z (B, L), x (B, F)) -> (B, L)."""

    def __init__(self, latent: int, n_features: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(latent + n_features, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(),
            nn.Linear(hidden, latent),
        )  # fmt: skip

    def forward(self, z_BL: Tensor, x_BF: Tensor) -> Tensor:
        out: Tensor = self.layers(torch.cat([z_BL, x_BF], 1))
        return out


class NeuralOdeNetwork(nn.Module):
    """The first step's features give the state, which follows a `VectorField` to each step; a linear head reads it.

    Rows (B, F) are followed over one unit of time. timed: the data has times, which must then be given.
    """

    not_stacked = STEP_SIZES

    def __init__(
        self,
        n_features: int,
        target: Target,
        *,
        latent: int,
        hidden: int,
        rtol: float,
        atol: float,
        adjoint: bool,
        time_step: float = 1.0,
        timed: bool = False,
    ) -> None:
        super().__init__()
        self.steps, self.time_step, self.timed = target.steps, time_step, timed
        self.rtol, self.atol, self.adjoint = rtol, atol, adjoint
        self.encoder = nn.Sequential(nn.Linear(n_features, hidden), nn.Tanh(), nn.Linear(hidden, latent))
        self.field = VectorField(latent, n_features, hidden)
        self.head = Head(latent, target)

    def forward(self, x: Tensor, mask_BT: Tensor | None = None, t: Tensor | None = None) -> Tensor:
        x_BTF = zero_padding(as_steps(x), mask_BT)
        z_BL = self.encoder(x_BTF[:, 0])
        tolerances = {"rtol": self.rtol, "atol": self.atol}
        if x.ndim == 2:
            out: Tensor = self.head(
                advance(self.field, z_BL, torch.ones_like(x[:, 0]), x, adjoint=self.adjoint, **tolerances)
            )
            return out
        if t is None and self.timed:
            raise ModelError("the model follows the times of the steps, and the input has none", where="column t",
                             hint="times `t` (samples, steps) as in training")  # fmt: skip
        dt_BT = intervals(x_BTF, mask_BT, t, self.time_step)
        states = trajectory(self.field, z_BL, dt_BT, x_BTF, adjoint=self.adjoint, **tolerances)
        out = self.head(states if self.steps else last_valid(states, mask_BT))
        return out
