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

    A contact begins before or within the series, with an impulse that rings and fades or a push that grows. Its size is
    lognormal, by a factor of 50 to 100 between the tenth and the ninetieth of a hundred, as ranges of robot forces are
    (their values were looked at for this, their labels not). Torques are lever x force. Values are whole numbers.
    """
    rng = np.random.default_rng(seed)
    names = np.array(list(kinds))
    label = rng.choice(len(names), n, p=list(kinds.values()))
    size = 60 * np.exp(rng.normal(0, 1.2, n))
    force = np.array([_contact(names[k], size[i], rng) for i, k in enumerate(label)])
    load = np.array([0, 0, 60]) + rng.normal(0, 3, (n, 1, 3))
    force = force + load + rng.normal(0, 0.7, force.shape)
    lever = np.array([0.1, 0.1, 0.6]) + rng.normal(0, 0.12, (n, 3))
    torque = np.cross(lever[:, None], force) + rng.normal(0, 3, (n, 1, 3))
    x = np.concatenate([force, torque], axis=2)
    x += rng.normal(size=x.shape) * np.exp(rng.normal(0, 0.7, (n, 1, 1)))
    return paceline.dataset(x=np.round(x), y=names[label], source="contacts")


KINDS = {  # size over that of a hit, how it goes on, and its direction: an angle in quarters, `any`, or `down`
    "normal": (0.0, "fades", "any"),
    "weak": (0.1, "fades", "any"),
    "hit": (1.0, "fades", "any"),
    "heavy": (5.0, "fades", "any"),
    "push": (3.0, "grows", "any"),
    "block": (8.0, "grows", "any"),
    "down": (4.0, "grows", "down"),
    **{name: (2.0, "fades", quarter) for quarter, name in enumerate(("front", "left", "back", "right"))},
}


def _contact(kind: str, size: float, rng: np.random.Generator) -> np.ndarray:
    """Return the force of one contact, (T, 3)."""
    times, course, way = KINDS[kind]
    t = np.arange(STEPS) - rng.integers(-8, 4)
    after = np.clip(t, 0, None)
    fade, ring, grow = rng.uniform(1, 8), rng.uniform(0, 1.2), rng.uniform(2, 10)
    fading = np.where(t >= 0, np.exp(-after / fade) * np.cos(ring * after), 0)
    direction = rng.normal(size=3)
    if way == "down":
        direction = np.array([0.3, 0.3, 0]) * direction - np.array([0, 0, 1])
    elif way != "any":
        turn = np.pi / 2 * float(way) + rng.normal(0, 0.35)
        direction = np.array([np.cos(turn), np.sin(turn), 0.3 * direction[2]])
    direction = direction / np.linalg.norm(direction)
    return times * size * (fading if course == "fades" else np.clip(t / grow, 0, 1))[:, None] * direction


CHOSEN_ON: Mapping[str, tuple[int, Callable[[], paceline.Dataset]]] = {  # samples to train on, and the data
    "contacts, 4 kinds": (70, lambda: contacts({"normal": 0.24, "hit": 0.18, "heavy": 0.19, "block": 0.39}, 1)),
    "contacts, 4 directions": (
        40,
        lambda: contacts({"normal": 0.4, "front": 0.16, "back": 0.16, "left": 0.16, "right": 0.12}, 2),
    ),
    "contacts, 5 kinds": (
        130,
        lambda: contacts({"normal": 0.27, "hit": 0.16, "push": 0.16, "down": 0.16, "heavy": 0.25}, 3),
    ),
    "contacts, weak and strong": (40, lambda: contacts({"normal": 0.42, "weak": 0.2, "hit": 0.3, "push": 0.08}, 4)),
    "vowels, 9 speakers": (130, lambda: vowels(range(9), range(6, 12))),
    "vowels, 5 speakers": (45, lambda: vowels(range(5), range(6))),
}
