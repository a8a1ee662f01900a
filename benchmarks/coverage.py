"""Do the intervals cover? Truth by brute force from thousands of trainings of a tiny real network.

    python3 x.py bench coverage --json coverage.json     # some minutes on one core
    python3 x.py bench coverage --quick                  # seconds: a look, not a result

What is simulated stands in benchmarks/README.md. Shapes: K networks, N samples, R repeats.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from stacked.nets import Scores, chunks, draw, redrawn_folds, scores, train
from stacked.outcome import Row, arguments, finish, standard_error, to_json

from paceline.evaluate.bootstrap import sample_intervals
from paceline.evaluate.predictions import Predictions
from paceline.evaluate.statistics import Interval, summarise, t_interval

N, FOLDS, REDRAWS, SEEDS = 100, 5, 10, 5  # samples, folds, redrawn divisions, seeds of an interval
N_TRAIN = N - N // FOLDS
METRICS = ("accuracy", "log_loss")
Values = dict[str, NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is simulated."""

    trainings: int = 2_000  # for one truth
    data_sets: int = 5  # with a truth of their own, for intervals over seeds
    repeats: int = 2_000  # of intervals over folds
    bootstraps: int = 1_000

    @property
    def seed_repeats(self) -> int:
        return self.data_sets * (self.trainings // SEEDS)


QUICK = Size(trainings=200, data_sets=2, repeats=60, bootstraps=40)


def measured(found: Scores, y_KN: torch.Tensor) -> Values:
    return {"accuracy": found.accuracy_K.numpy(), "log_loss": found.log_loss_K(y_KN).numpy()}


def joined(parts: Sequence[Values]) -> Values:
    return {metric: np.concatenate([part[metric] for part in parts]) for metric in METRICS}


def truth_over_data(size: Size, generator: torch.Generator) -> dict[str, float]:
    """The expected result of training on fresh data: every network has its own training and test samples."""
    parts = []
    for k in chunks(size.trainings):
        x, y = draw(k, N_TRAIN, generator)
        params = train(x, y, generator)
        x, y = draw(k, 1_000, generator)
        parts.append(measured(scores(params, x, y), y))
    return {metric: float(values.mean()) for metric, values in joined(parts).items()}


def over_seeds(size: Size, generator: torch.Generator) -> dict[str, float]:
    """Coverage of t over five seeds on one split: the truth is the mean over 2,000 seeds on that split."""
    hits: dict[str, list[bool]] = {metric: [] for metric in METRICS}
    for _ in range(size.data_sets):
        (x, y), (x_test, y_test) = draw(1, N_TRAIN, generator), draw(1, 2_000, generator)
        parts = []
        for k in chunks(size.trainings):
            params = train(x.expand(k, -1, -1), y.expand(k, -1), generator)
            parts.append(measured(scores(params, x_test.expand(k, -1, -1), y_test.expand(k, -1)), y_test.expand(k, -1)))
        for metric, values in joined(parts).items():
            groups = values[: len(values) // SEEDS * SEEDS].reshape(-1, SEEDS)
            hits[metric] += [covers(t_interval(list(group)), values.mean()) for group in groups]
    return {metric: float(np.mean(found)) for metric, found in hits.items()}


def cross_validated(size: Size, generator: torch.Generator) -> Values:
    """Results of ten redrawn five-fold cross-validations on each of R fresh data sets: (R, 50) per metric."""
    parts = []
    for r in chunks(size.repeats, 20):
        train_sets, test_sets = [], []
        for _ in range(r):
            x, y = draw(1, N, generator)
            into, out = redrawn_folds(N, FOLDS, REDRAWS, generator)
            train_sets.append((x[0][into], y[0][into]))
            test_sets.append((x[0][out], y[0][out]))
        (x, y), (x_test, y_test) = (tuple(map(torch.cat, zip(*sets, strict=True))) for sets in (train_sets, test_sets))
        parts.append(measured(scores(train(x, y, generator), x_test, y_test), y_test))
    return {metric: values.reshape(-1, REDRAWS * FOLDS) for metric, values in joined(parts).items()}


def corrected(row: NDArray[np.float64]) -> Interval:
    members = [(i // FOLDS, i % FOLDS, float(value)) for i, value in enumerate(row)]
    return summarise(members, N_TRAIN, N - N_TRAIN, redrawn=True)


def over_samples(size: Size, generator: torch.Generator) -> float:
    """Coverage of the bootstrap over 200 test samples; the truth is the same five networks on 20,000 fresh samples."""
    hits = []
    for _ in range(size.bootstraps):
        (x, y), (x_test, y_test) = draw(1, N_TRAIN, generator), draw(1, 200, generator)
        params = train(x.expand(SEEDS, -1, -1), y.expand(SEEDS, -1), generator)
        x_all, y_all = draw(1, 20_000, generator)
        all_scores = scores(params, x_all.expand(SEEDS, -1, -1), y_all.expand(SEEDS, -1))
        found = scores(params, x_test.expand(SEEDS, -1, -1), y_test.expand(SEEDS, -1))
        target = y_test[0].long().numpy()
        members = [stored(target, p.double().numpy()) for p in found.probability_KN]
        interval = sample_intervals(members)["accuracy"]
        hits.append(interval.low is not None and interval.low <= float(all_scores.accuracy_K.mean()) <= interval.high)
    return float(np.mean(hits))


def stored(y: NDArray[np.int64], p: NDArray[np.float64]) -> Predictions:
    probability = np.stack([1 - p, p], axis=1)
    return Predictions(index=np.arange(len(y)), y=y, prediction=probability.argmax(axis=1), probability=probability)


def covers(interval: Interval, truth: float) -> bool:
    assert interval.low is not None and interval.high is not None
    return bool(interval.low <= truth <= interval.high)


def simulate(size: Size, seed: int) -> tuple[list[Row], list[Row]]:
    """Return the coverages, and the widths over the oracle's."""
    generator = torch.Generator().manual_seed(seed)
    seeds = over_seeds(size, generator)
    off = 2 * standard_error(0.95, size.seed_repeats)
    # The aims are those of the accuracy. Log-loss is skewed over seeds, which costs t over five of them half a percent,
    # and varies more with the training part, which folds do show.
    aim = {"accuracy": {"low": 0.95 - off, "high": 0.95 + off}, "log_loss": {}}
    shares = [
        Row(name=f"seeds, t: {metric}", value=seeds[metric], repeats=size.seed_repeats, **aim[metric])
        for metric in METRICS
    ]
    truth, found = truth_over_data(size, generator), cross_validated(size, generator)
    ratios = []
    for metric in METRICS:
        intervals = [corrected(row) for row in found[metric]]
        plain = [t_interval(list(row)) for row in found[metric]]
        covered = float(np.mean([covers(interval, truth[metric]) for interval in intervals]))
        naive = float(np.mean([covers(interval, truth[metric]) for interval in plain]))
        shares.append(Row(name=f"folds, corrected: {metric}", value=covered, repeats=size.repeats, low=0.90))
        top = 0.60 if metric == "accuracy" else None
        shares.append(Row(name=f"folds, naive t: {metric}", value=naive, repeats=size.repeats, high=top))
        oracle = 2 * 1.959964 * float(found[metric].mean(axis=1).std(ddof=1))
        width = float(np.median([interval.high - interval.low for interval in intervals]))  # type: ignore[operator]
        widest = 1.6 if metric == "accuracy" else None
        ratios.append(Row(name=f"width corrected/oracle: {metric}", value=width / oracle, high=widest))
    samples = over_samples(size, generator)
    shares.append(Row(name="samples, bootstrap: accuracy", value=samples, repeats=size.bootstraps, low=0.92))
    return shares, ratios


def main(argv: Sequence[str]) -> int:
    args = arguments("coverage", __doc__.splitlines()[0], argv)
    torch.set_num_threads(args.threads)
    started = time.perf_counter()
    size = QUICK if args.quick else Size()
    shares, ratios = simulate(size, args.seed)
    options = {"quick": args.quick, "seed": args.seed, "threads": args.threads}
    unit = "share of repeats whose 95 % interval holds the truth"
    result = to_json("coverage", unit, shares, ratios, time.perf_counter() - started, options)
    print(f"{unit}; {result['seconds']:.0f} s\n")
    return finish(result, [*shares, *ratios], args)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
