"""`data=battery_synthetic`: eight cells that fade by a known law, so that the least possible error is known.

Shapes: R rows (check-ups), C cells.

The law, for the charge throughput Q in A h and the cell's temperature T in K:

    SOH = 1 - a k(T) sqrt(Q / 1000) - b softplus((Q - Q_knee(T)) / w)
    k(T) = exp(-E_a / R (1 / T - 1 / 298.15))

The first loss is the growth of a film that hinders its own growth: by the square root of throughput (Ploehn, Ramadass
and White, Solvent diffusion model for aging of lithium-ion battery cells, J. Electrochem. Soc. 151, A456, 2004), at
Arrhenius' rate with the activation energy of Wang et al. (Cycle-life model for graphite-LiFePO4 cells, J. Power Sources
196, 3942-3948, 2011), 31.7 kJ/mol. The second is a knee, after which capacity falls in a straight line (Attia et al.,
"Knees" in lithium-ion battery aging trajectories, J. Electrochem. Soc. 169, 060517, 2022); it comes earlier in the
cold, where lithium plates (Waldmann et al., Temperature dependent ageing mechanisms in lithium-ion batteries, J. Power
Sources 262, 129-135, 2014). Cells of one make differ in rate and knee (Baumhoefer et al., Production caused variation
in capacity aging trend, J. Power Sources 247, 332-338, 2014): log-normally, the rate by 5 % and the knee by 4 %. The
resistance at .1 s grows with the first loss and that at 10 s with both, each cell from its own start. The sizes are
chosen, not fitted to a real cell.
"""

from __future__ import annotations

import logging
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from paceline.data.config import DataConfig, Reference
from paceline.data.dataset import Dataset
from paceline.recipes.battery.cells import CellForm, CellTable, shaped
from paceline.recipes.battery.pipelines import KELVIN, arrhenius

LOG = logging.getLogger("paceline")
Floats = NDArray[np.float64]

CELLS = (("A", 10.0), ("B", 10.0), ("C", 10.0), ("D", 25.0), ("E", 25.0), ("F", 40.0), ("G", 40.0), ("H", 40.0))
ENERGY = 31_700.0  # J / mol
LOSS = 0.035  # `a`: of the film, per sqrt(1000 A h) at 25 C
KNEE = {10.0: 5_500.0, 25.0: 7_500.0, 40.0: 9_000.0}  # A h
KNEE_LOSS, KNEE_WIDTH = 0.03, 600.0  # `b` per width `w` in A h beyond the knee
RATE_SPREAD, KNEE_SPREAD = 0.05, 0.04
RESISTANCES = (0.021, 0.031)  # ohm at .1 s and at 10 s
RESISTANCE_NOISE = 0.01  # of the value
FEATURES = ("charge_throughput_ah", "discharge_throughput_ah", "resistance_0p1s_ohm", "resistance_10s_ohm",
            "temperature_k", "arrhenius")  # fmt: skip


class BatterySynthetic(CellForm, DataConfig):
    """Eight cells at 10, 25 and 40 C with 40 to 60 uneven check-ups each, drawn from `seed` in milliseconds.

    Six features: charge and discharge throughput, resistance at .1 s and 10 s, temperature, Arrhenius factor; target:
    the state of health with normal noise of standard deviation `noise`, below whose RMSE no model comes on average
    (`references: [noise]` shows what the law itself has). Temperatures are a column `condition`; times are days.
    """

    name: Literal["battery_synthetic"] = "battery_synthetic"
    seed: int = Field(default=0, ge=0, lt=2**32)
    noise: float = Field(default=0.004, ge=0, lt=1)
    references: tuple[Reference, ...] = ("noise",)

    def load(self) -> Dataset:
        """Draw the cells. A line tells the noise floor."""
        LOG.info("the noise floor of these data is an RMSE of %g: the law behind them has no less", self.noise)
        return shaped(draw(self.seed, self.noise), self, self.missing)


def state_of_health(throughput: Floats, celsius: float, rate: float = 1.0, knee: float = 1.0) -> tuple[Floats, Floats]:
    """Return the two losses of the law, film and knee, for throughput (R,) in A h; `rate` and `knee` are the cell's."""
    film = LOSS * rate * arrhenius(celsius + KELVIN, ENERGY, KELVIN + 25.0) * np.sqrt(throughput / 1000)
    beyond = np.logaddexp(0.0, (throughput - knee * knee_at(celsius)) / KNEE_WIDTH)
    return film, KNEE_LOSS * beyond


def knee_at(celsius: float) -> float:
    """Return the throughput in A h at the knee, between the known temperatures by a straight line."""
    return float(np.interp(celsius, list(KNEE), list(KNEE.values())))


def draw(seed: int, noise: float) -> CellTable:
    """Return the cells' rows (R, 6) with target, target without noise, and condition."""
    parts = [_cell(name, celsius, noise, np.random.default_rng([seed, k])) for k, (name, celsius) in enumerate(CELLS)]
    columns: dict[str, Any] = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    source = f"battery_synthetic, seed {seed}, noise floor: RMSE {noise:g}, times in days"
    return CellTable(names=FEATURES, source=source, **columns)


def _cell(name: str, celsius: float, noise: float, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
    n = int(rng.integers(40, 61))
    rate, knee = np.exp(rng.normal(0, (RATE_SPREAD, KNEE_SPREAD)))
    days = np.r_[0.0, np.cumsum(7.0 + np.round(rng.uniform(-2, 5, n - 1)))]
    charge = days * 18.0 * rng.uniform(0.95, 1.05)  # A h a day, pauses between check-ups left out
    film, late = state_of_health(charge, celsius, float(rate), float(knee))
    clean = 1.0 - film - late
    starts = np.array(RESISTANCES) * np.exp(rng.normal(0, 0.03, 2))
    growth = np.stack([1 + 2.5 * film + 1.0 * late, 1 + 2.0 * film + 3.0 * late], axis=1)
    resistance = starts * growth * (1 + RESISTANCE_NOISE * rng.normal(size=(n, 2)))
    kelvin = celsius + KELVIN + rng.normal(0, 0.3, n)
    discharge = charge * (1 - rng.uniform(0.001, 0.004))
    features = [charge, discharge, *resistance.T, kelvin, arrhenius(kelvin)]
    return {
        "features": np.stack(features, axis=1),
        "cell": np.full(n, name),
        "time": days,
        "target": clean + noise * rng.normal(size=n),
        "clean": clean,
        "condition": np.full(n, celsius),
    }
