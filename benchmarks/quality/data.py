"""The robot failures that both sides are measured on, and the other data that the configuration was chosen on.

Shapes: N samples, T steps, F channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

import paceline
from paceline.recipes.pain.challenge import Challenge
from paceline.recipes.pain.data import Vowels

DEFAULT = Path(__file__).resolve().parents[3] / "shared" / "data" / "timeseries"
SETS: Mapping[str, int] = {"lp1": 5, "lp2": 5, "lp3": 3, "lp5": 5}  # folds: the rarest class of lp3 has three samples
STEPS = 15


def robot_failures(name: str, folder: Path) -> paceline.Dataset:
    """Load one set: (N, 15, 6) forces and torques. Raises DataError where the files are not in the folder."""
    section = Challenge(
        path=str(folder / "robot_failures_long.csv"),
        labels=str(folder / "robot_failures_labels.csv"),
        id="sample",
        time="t",
        where={"set": name},
        ignore=("set",),
    )
    return section.load()


def vowels(speakers: range, channels: range) -> paceline.Dataset:
    """Utterances of some speakers, every one stretched to 15 steps by linear interpolation."""
    whole = Vowels().load()
    x, mask, y = (whole.columns[name] for name in ("x", "mask", "y"))
    chosen = np.flatnonzero(np.isin(y, list(speakers)))
    stretched = np.empty((len(chosen), STEPS, len(channels)))
    for row, sample in enumerate(chosen):
        steps = x[sample][mask[sample]]
        places = np.linspace(0, len(steps) - 1, STEPS)
        for column, channel in enumerate(channels):
            stretched[row, :, column] = np.interp(places, np.arange(len(steps)), steps[:, channel])
    return paceline.dataset(x=stretched, y=y[chosen].astype(str), source="vowels")


def contacts(kinds: Mapping[str, float], seed: int, n: int = 1_000) -> paceline.Dataset:
    """Draw made-up forces and torques of an arm that touches something: kinds of contact with their shares.

    A contact begins at a random step, with an impulse that rings and fades or a push that grows; its size is lognormal,
    so that channels have heavy tails. Torques are lever x force. Values are rounded, as a sensor gives them.
    """
    rng = np.random.default_rng(seed)
    names = np.array(list(kinds))
    label = rng.choice(len(names), n, p=list(kinds.values()))
    size = 40 * np.exp(rng.normal(0, 0.9, n))
    force = np.array([_contact(names[k], size[i], rng) for i, k in enumerate(label)])
    load = np.array([0, 0, 60]) * np.exp(0.15 * rng.normal(size=(n, 1, 1)))
    force = force + load + rng.normal(0, 3, (n, 1, 3))
    lever = np.array([0.1, 0.1, 0.6]) + rng.normal(0, 0.12, (n, 3))
    torque = np.cross(lever[:, None], force) + rng.normal(0, 3, (n, 1, 3))
    x = np.concatenate([force, torque], axis=2)
    x += rng.normal(size=x.shape) * np.exp(rng.normal(0.5, 0.5, (n, 1, 1)))
    wild = rng.random(n) < 0.08
    x[wild] *= np.exp(rng.normal(0.8, 0.8, (wild.sum(), 1, 1)))
    return paceline.dataset(x=np.round(x), y=names[label], source="contacts")


def _contact(kind: str, size: float, rng: np.random.Generator) -> np.ndarray:
    """Return the force of one contact, (T, 3)."""
    t = np.arange(STEPS) - rng.integers(-3, 9)
    after = np.clip(t, 0, None)
    fade, ring, grow = rng.uniform(1, 4), rng.uniform(0.3, 1.4), rng.uniform(3, 10)
    impulse = np.where(t >= 0, np.exp(-after / fade) * np.cos(ring * after), 0)
    any_way = rng.normal(size=3)
    any_way /= np.linalg.norm(any_way)
    turn = rng.normal(0, 0.35)
    flat = np.array([np.cos(turn), np.sin(turn), 0.3 * rng.normal()])
    quarter = {"front": 0.0, "left": 0.5, "back": 1.0, "right": 1.5}
    if kind == "normal":
        return np.zeros((STEPS, 3))
    if kind == "weak":
        return 0.15 * size * impulse[:, None] * flat * rng.choice([-1, 1])
    if kind == "hit":
        return size * impulse[:, None] * any_way
    if kind == "push":
        return size * np.clip(t / grow, 0, 1)[:, None] * any_way
    if kind == "down":
        return size * np.clip(t / grow, 0, 1)[:, None] * np.array([0.3 * any_way[0], 0.3 * any_way[1], -1])
    turn += np.pi * quarter[kind]
    return size * impulse[:, None] * np.array([np.cos(turn), np.sin(turn), flat[2]])


CHOSEN_ON: Mapping[str, tuple[int, Callable[[], paceline.Dataset]]] = {  # samples to train on, and the data
    "contacts, 4 kinds": (75, lambda: contacts({"normal": 0.25, "hit": 0.2, "front": 0.2, "push": 0.35}, 1)),
    "contacts, 4 directions": (
        40,
        lambda: contacts({"normal": 0.4, "front": 0.16, "back": 0.16, "left": 0.16, "right": 0.12}, 2),
    ),
    "contacts, 5 kinds": (
        130,
        lambda: contacts({"normal": 0.27, "hit": 0.16, "push": 0.16, "down": 0.16, "weak": 0.25}, 3),
    ),
    "contacts, weak and strong": (40, lambda: contacts({"normal": 0.42, "weak": 0.2, "hit": 0.3, "push": 0.08}, 4)),
    "vowels, 9 speakers": (130, lambda: vowels(range(9), range(6, 12))),
    "vowels, 5 speakers": (45, lambda: vowels(range(5), range(6))),
}
