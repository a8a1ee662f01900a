"""A process that makes labelled sequences and knows the probability of each class given a sequence, exactly.

A sample has a class. Three sources each show a level (0, 1, 2): mostly that of the class, sometimes another one
(`SHOWN`), so that no source tells the class for certain. Given its level a source is independent of the others:

- *events*: pulses of `PULSE` steps that begin at random moments in eight joints, first in four of them and then in the
  other four, or the other way round. The level changes how often they come and which half is first; the noise and the
  subject's gain hide single pulses.
- *modulation*: four joints sway slowly, with random amplitude and phase, at one of eight frequencies; the level shifts
  which. Mean and spread are the same for all levels.
- *survey*: four channels of answers 0, 1, 2, renewed at random moments; the level changes how often, and how high.

Three numbers in words (legs, hands, eyes) never change within a sample and depend weakly on the class. The other
joints are smooth noise with a subject's own offset and gain. So a part of the signal is in means and extremes, and the
larger part in order, frequency and rate of change.

Hidden paths, levels, gains and frequencies are summed over (the forward algorithm, Gaussian likelihoods), which is why
the posterior is exact. Source of the forward algorithm: Rabiner, A tutorial on hidden Markov models, 1989.

Shapes: N samples, T steps, C classes or levels, J joints of a source, S hidden states, G gains, W frequencies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

STEPS = 160
SHOWN = np.array([[0.93, 0.06, 0.01], [0.06, 0.88, 0.06], [0.01, 0.08, 0.91]])  # P(level of a source | class)

PULSE, HALF, HEIGHT = 12, 6, 3.5  # steps of a pulse, of each half of it, and its peak in units of the noise
RATE = np.array([0.010, 0.025, 0.045])  # P(a pulse begins at a quiet step | level)
FIRST = np.array([0.95, 0.50, 0.05])  # P(joints 0 to 3 come first | level)
GAINS = np.array([0.80, 0.90, 1.00, 1.10, 1.25])  # of a subject, equally likely
EVENT_MEMORY = 0.7  # of the noise: its correlation with the step before

CYCLES = np.arange(2, 10)  # per sample
CENTRE, WIDTH = np.array([2.2, 4.5, 7.5]), 0.7  # P(cycles | level) is proportional to a normal density
AMPLITUDE, OFFSET, SWAY_MEMORY = 1.6, 0.5, 0.8

RENEWED = np.array([0.02, 0.05, 0.10])  # P(an answer is renewed at a step | level)
ANSWERS = np.array([[0.7, 0.2, 0.1], [0.35, 0.3, 0.35], [0.1, 0.3, 0.6]])  # P(answer | level)
NUMBER = np.array([[0.02, 0.08, 0.90], [0.03, 0.12, 0.85], [0.05, 0.15, 0.80]])  # P(0, 1, 2 | class): legs, hands, eyes

EVENT_JOINTS, SWAY_JOINTS, NOISE_JOINTS, QUESTIONS, WORDS = 8, 4, 19, 4, 3


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """Samples and classes. survey (N, T, 4) in 0..2, words (N, 3) in 0..2, joints (N, T, 31), y (N,)."""

    survey: Ints
    words: Ints
    joints: Floats
    y: Ints


def draw(counts: Sequence[int], seed: Sequence[int], *, steps: int = STEPS) -> Drawn:
    """Draw so many samples of each class, in random order. Joints have four decimals: text holds them exactly."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    events, sway, survey = (_choose(SHOWN[y], rng) for _ in range(3))  # the levels
    noise = _smooth((len(y), steps, NOISE_JOINTS), 0.9, rng) * np.exp(0.3 * rng.normal(size=(len(y), 1, NOISE_JOINTS)))
    noise += rng.normal(size=(len(y), 1, NOISE_JOINTS))
    joints = np.concatenate([draw_events(events, steps, rng), draw_sway(sway, steps, rng), noise], axis=2)
    return Drawn(
        survey=draw_survey(survey, steps, rng),
        words=_choose(np.broadcast_to(NUMBER[y][:, None], (len(y), WORDS, 3)), rng),
        joints=joints.round(4),
        y=y,
    )


def posterior(drawn: Drawn, prior: Floats) -> Floats:
    """Return P(class | sample) (N, C): Bayes' rule with the exact likelihoods."""
    sway_end = EVENT_JOINTS + SWAY_JOINTS
    log = np.log(prior) + log_words(drawn.words)
    for log_level in (
        log_events(drawn.joints[:, :, :EVENT_JOINTS]),
        log_sway(drawn.joints[:, :, EVENT_JOINTS:sway_end]),
        log_survey(drawn.survey),
    ):
        log = log + _log_sum(np.log(SHOWN) + log_level[:, None, :], axis=2)  # P(source | class), summed over levels
    chances: Floats = np.exp(log - _log_sum(log, axis=1)[:, None])
    return chances


def draw_events(level: Ints, steps: int, rng: np.random.Generator) -> Floats:
    """Return the joints with pulses, (N, T, 8)."""
    state = np.zeros(len(level), dtype=np.int64)
    begins = rng.random((len(level), steps)) < RATE[level][:, None]
    kind = np.where(rng.random((len(level), steps)) < FIRST[level][:, None], 1, 1 + PULSE)
    states = np.empty((len(level), steps), dtype=np.int64)
    for t in range(steps):
        quiet = np.isin(state, (0, PULSE, 2 * PULSE))  # a pulse may begin
        state = np.where(quiet, np.where(begins[:, t], kind[:, t], 0), state + 1)
        states[:, t] = state
    mean, _ = pulse_means()
    gain = GAINS[rng.integers(0, len(GAINS), len(level))]
    noise = _smooth((len(level), steps, EVENT_JOINTS), EVENT_MEMORY, rng)
    return gain[:, None, None] * (mean[states] + noise)


def pulse_means() -> tuple[Floats, Floats]:
    """Return the mean of the joints in each hidden state, (S, J), and in the state before it.

    State 0 is quiet; 1 to PULSE are the steps of a pulse that begins in the first half of the joints, the next PULSE
    states those of one that begins in the second half. A pulse ends at 0, so a step's past is known from its state.
    """
    bump = HEIGHT * np.sin(np.pi * np.arange(1, HALF + 1) / HALF)
    bump[-1] = 0
    front, back = slice(0, EVENT_JOINTS // 2), slice(EVENT_JOINTS // 2, EVENT_JOINTS)
    mean = np.zeros((1 + 2 * PULSE, EVENT_JOINTS))
    for start, early, late in ((1, front, back), (1 + PULSE, back, front)):
        mean[start : start + HALF, early] = bump[:, None]
        mean[start + HALF : start + PULSE, late] = bump[:, None]
    before = np.zeros_like(mean)
    for start in (1, 1 + PULSE):
        before[start + 1 : start + PULSE] = mean[start : start + PULSE - 1]
    return mean, before


def log_events(joints: Floats) -> Floats:
    """Return log p(joints (N, T, 8) | level), (N, C): the forward algorithm for every gain, averaged over gains."""
    mean, before = pulse_means()
    step_mean, spread = mean - EVENT_MEMORY * before, 1 - EVENT_MEMORY**2
    found = []
    for gain in GAINS:
        z = joints / gain
        fresh = z[:, 1:] - EVENT_MEMORY * z[:, :-1]  # what the step before does not tell
        log = np.concatenate([_log_normal(z[:, :1], mean, 1.0), _log_normal(fresh, step_mean, spread)], axis=1)
        found.append(_forward(log) - joints.shape[1] * EVENT_JOINTS * np.log(gain))
    total: Floats = _log_sum(np.stack(found), axis=0) - np.log(len(GAINS))
    return total


def _log_normal(x: Floats, mean: Floats, variance: float) -> Floats:
    """Return the log density of x (N, T, J) around the mean of each state (S, J), (N, T, S)."""
    square = (x**2).sum(axis=2, keepdims=True) - 2 * x @ mean.T + (mean**2).sum(axis=1)
    log: Floats = -0.5 * (square / variance + x.shape[2] * np.log(2 * np.pi * variance))
    return log


def _forward(log: Floats) -> Floats:
    """Return the log likelihood per level (N, C) of emissions with log density (N, T, S)."""
    top = log.max(axis=2)
    likely = np.exp(log - top[:, :, None])
    total = np.repeat(top.sum(axis=1)[:, None], len(RATE), axis=1)
    alpha = np.zeros((len(log), len(RATE), log.shape[2]))
    alpha[:, :, 0] = 1
    for t in range(log.shape[1]):
        quiet = alpha[:, :, 0] + alpha[:, :, PULSE] + alpha[:, :, 2 * PULSE]
        moved = np.empty_like(alpha)
        moved[:, :, 1:] = alpha[:, :, :-1]
        moved[:, :, 0] = quiet * (1 - RATE)
        moved[:, :, 1] = quiet * RATE * FIRST
        moved[:, :, 1 + PULSE] = quiet * RATE * (1 - FIRST)
        moved *= likely[:, t, None, :]
        scale = moved.sum(axis=2)
        total += np.log(scale)
        alpha = moved / scale[:, :, None]
    return total


def draw_sway(level: Ints, steps: int, rng: np.random.Generator) -> Floats:
    """Return the joints with slow modulation, (N, T, 4)."""
    cycles = CYCLES[_choose(cycle_chances()[level], rng)]
    angle = 2 * np.pi * cycles[:, None, None] * np.arange(steps)[:, None] / STEPS
    a, b, offset = rng.normal(size=(3, len(level), 1, SWAY_JOINTS))
    sway: Floats = AMPLITUDE * (a * np.cos(angle) + b * np.sin(angle)) + OFFSET * offset
    return sway + _smooth((len(level), steps, SWAY_JOINTS), SWAY_MEMORY, rng)


def cycle_chances() -> Floats:
    """Return P(cycles | level), (C, W)."""
    weight = np.exp(-0.5 * ((CYCLES - CENTRE[:, None]) / WIDTH) ** 2)
    chances: Floats = weight / weight.sum(axis=1, keepdims=True)
    return chances


def log_sway(joints: Floats) -> Floats:
    """Return log p(joints (N, T, 4) | level), (N, C): Gaussian given the frequency, which is summed over."""
    n, steps, width = joints.shape
    columns = joints.transpose(1, 0, 2).reshape(steps, n * width)
    log = np.empty((n, len(CYCLES)))
    for w, cycles in enumerate(CYCLES):
        root = np.linalg.cholesky(sway_covariance(int(cycles), steps))
        white = np.linalg.solve(root, columns)
        constant = np.log(np.diag(root)).sum() + 0.5 * steps * np.log(2 * np.pi)
        log[:, w] = (-0.5 * (white**2).sum(axis=0) - constant).reshape(n, width).sum(axis=1)
    return _log_sum(np.log(cycle_chances()) + log[:, None, :], axis=2)


def sway_covariance(cycles: int, steps: int) -> Floats:
    """Return the covariance over time (T, T) of one joint that sways so often."""
    lag = np.arange(steps)[:, None] - np.arange(steps)
    noise = SWAY_MEMORY ** np.abs(lag)
    total: Floats = noise + OFFSET**2 + AMPLITUDE**2 * np.cos(2 * np.pi * cycles * lag / STEPS)
    return total


def draw_survey(level: Ints, steps: int, rng: np.random.Generator) -> Ints:
    """Return the answers, (N, T, 4) in 0..2."""
    renewed = rng.random((len(level), steps, QUESTIONS)) < RENEWED[level][:, None, None]
    renewed[:, 0] = True
    answers = _choose(np.broadcast_to(ANSWERS[level][:, None, None], (*renewed.shape, 3)), rng)
    since = np.maximum.accumulate(np.where(renewed, np.arange(steps)[:, None], 0), axis=1)
    return np.take_along_axis(answers, since, axis=1)


def log_survey(answers: Ints) -> Floats:
    """Return log p(answers (N, T, 4) | level), (N, C): a Markov chain per question."""
    kept = answers[:, 1:] == answers[:, :-1]
    log = []
    for renewed, chances in zip(RENEWED, ANSWERS, strict=True):
        steps = np.log((1 - renewed) * kept + renewed * chances[answers[:, 1:]])
        log.append(np.log(chances[answers[:, 0]]).sum(axis=1) + steps.sum(axis=(1, 2)))
    return np.stack(log, axis=1)


def log_words(words: Ints) -> Floats:
    """Return log p(words (N, 3) | class), (N, C)."""
    log: Floats = np.log(NUMBER)[:, words].sum(axis=2).T
    return log


def _choose(chances: Floats, rng: np.random.Generator) -> Ints:
    """Draw an index for each distribution in the last axis."""
    cumulative = chances.cumsum(axis=-1)[..., :-1]
    index: Ints = (rng.random(chances.shape[:-1])[..., None] >= cumulative).sum(axis=-1)
    return index


def _smooth(shape: tuple[int, int, int], memory: float, rng: np.random.Generator) -> Floats:
    """Return Gaussian noise (N, T, J) of variance 1 whose neighbours in time correlate by `memory`."""
    out = rng.normal(size=shape)
    for t in range(1, shape[1]):
        out[:, t] = memory * out[:, t - 1] + np.sqrt(1 - memory**2) * out[:, t]
    return out


def _log_sum(log: Floats, axis: int) -> Floats:
    top = log.max(axis=axis, keepdims=True)
    total: Floats = (top + np.log(np.exp(log - top).sum(axis=axis, keepdims=True))).squeeze(axis)
    return total
