"""Features of cells from check-ups and from slow discharge curves, as pure functions.

Shapes: R rows (check-ups), P points of a curve.
"""

from __future__ import annotations

from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from paceline.errors import DataError

Floats = NDArray[np.float64]

KELVIN = 273.15  # 0 C
GAS = 8.314462618  # J / (mol K), the CODATA value
ENERGY = 50_000.0  # J / mol, the activation energy of the feature
SETS_PER_WEEK = 7.0  # days between two sets of the ageing experiment
WINDOW, ORDER, PEAKS = 51, 3, 3  # of the Savitzky-Golay filter, and peaks that are kept
GRID = 1_000  # points of voltage at which a curve is looked at
SUMMARY = ("charge throughput [A h]", "discharge throughput [A h]", "0.1s resistance [Ohms]", "10s resistance [Ohms]",
           "temperature [K]", "Arrhenius factor", "1000/T [1/K]")  # fmt: skip


@overload
def arrhenius(kelvin: float, energy: float = ENERGY, reference: float | None = None) -> float: ...
@overload
def arrhenius(kelvin: Floats, energy: float = ENERGY, reference: float | None = None) -> Floats: ...
def arrhenius(kelvin: Any, energy: float = ENERGY, reference: float | None = None) -> Any:
    """Return exp(-energy / (R T)), by how much a rate depends on temperature; relative to that at `reference` K."""
    origin = 0.0 if reference is None else 1.0 / reference
    return np.exp(-energy / GAS * (1.0 / kelvin - origin))


def summary_set(charge: Floats, discharge: Floats, fast: Floats, slow: Floats, celsius: Floats) -> Floats:
    """Return the seven features `SUMMARY` of each check-up (R, 7).

    charge, discharge: throughput in A h. fast, slow: resistance at .1 s and at 10 s in ohm. celsius: temperature.
    """
    kelvin = celsius + KELVIN
    return np.stack([charge, discharge, fast, slow, kelvin, arrhenius(kelvin), 1000.0 / kelvin], axis=1)


def days_of(sets: Floats) -> Floats:
    """Return the time of each set in days: a set lasts about a week."""
    return sets * SETS_PER_WEEK


def relative(capacity: Floats) -> Floats:
    """Return C / C0 of one cell's check-ups (R,), in their order."""
    found: Floats = capacity / capacity[0]
    return found


def ica_curve(voltage: Floats, capacity: Floats, window: int = WINDOW, order: int = ORDER) -> tuple[Floats, Floats]:
    """Return voltages (1000,) and |dQ/dV| (1000,) of a slow discharge or charge, smoothed: incremental capacity.

    voltage, capacity (P,): in V and in any unit of charge, in the order of measurement. The curve is brought to even
    steps of voltage; the Savitzky-Golay filter (Analytical Chemistry 36, 1627, 1964) then gives the derivative.

    Raises DataError for a curve with fewer points than the filter's window.
    """
    from scipy.signal import savgol_filter

    known = np.isfinite(voltage) & np.isfinite(capacity)
    order_V = np.argsort(voltage[known], kind="stable")
    volts, charge = voltage[known][order_V], capacity[known][order_V]
    volts, first, counts = np.unique(volts, return_index=True, return_counts=True)
    if len(volts) < window:
        raise DataError(f"a discharge curve needs at least {window} points of different voltage", got=len(volts))
    charge = np.add.reduceat(charge, first) / counts  # one charge for each voltage
    grid = np.linspace(volts[0], volts[-1], GRID)
    step = grid[1] - grid[0]
    slope = savgol_filter(np.interp(grid, volts, charge), window, order, deriv=1, delta=step)
    return grid, np.abs(slope)


def ica_peaks(
    voltage: Floats, capacity: Floats, window: int = WINDOW, order: int = ORDER, peaks: int = PEAKS
) -> Floats:
    """Return position (V), height and width (V) of the most prominent peaks of |dQ/dV|, by voltage (3 x peaks,).

    Peaks that a curve lacks are 0. Heights are in the unit of capacity per V; widths at half prominence.
    """
    from scipy.signal import find_peaks, peak_widths

    grid, slope = ica_curve(voltage, capacity, window, order)
    found, properties = find_peaks(slope, prominence=0.01 * float(np.ptp(slope)) or None)
    chosen = np.sort(found[np.argsort(-properties["prominences"], kind="stable")[:peaks]])
    widths = peak_widths(slope, chosen, rel_height=0.5)[0] * (grid[1] - grid[0])
    out = np.zeros((peaks, 3))
    out[: len(chosen)] = np.stack([grid[chosen], slope[chosen], widths], axis=1)
    return out.ravel()


def peak_names(peaks: int = PEAKS) -> tuple[str, ...]:
    """Return the names of the features of `ica_peaks`."""
    return tuple(f"peak {k} {what}" for k in range(1, peaks + 1) for what in ("position [V]", "height", "width [V]"))
