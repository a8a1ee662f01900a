"""Does `compare` call winners only where there are some, and does it find them? With thousands of tiny real networks.

    python3 x.py bench compare_power --json power.json    # some minutes on one core
    python3 x.py bench compare_power --quick              # seconds: a look, not a result

What is simulated stands in benchmarks/README.md. Shapes: R repeats, n members of an arm.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri
from stacked.nets import LEFT, RIGHT, chunks, draw, redrawn_folds, scores, train
from stacked.outcome import Row, arguments, finish, standard_error, to_json

from paceline.evaluate.paired import Difference, difference, holm

ALPHA, ORACLE_POWER = 0.05, 0.90
N, FOLDS, REDRAWS, SEEDS = 100, 5, 10, 10
N_TRAIN = N - N // FOLDS
Floats = NDArray[np.float64]
Test = Callable[[Floats, Floats], Difference]


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is simulated."""

    repeats: int = 4_000  # of arms that differ in seeds alone
    data_sets: int = 5  # for these
    fold_repeats: int = 1_000


QUICK = Size(repeats=80, data_sets=2, fold_repeats=40)


def on_one_split(size: Size, generator: torch.Generator) -> tuple[Floats, Floats]:
    """Accuracies of two equal arms of ten seeds on one split, (R, 10) each: networks that see all features."""
    a, b = [], []
    each = size.repeats // size.data_sets
    for _ in range(size.data_sets):
        (x, y), (x_test, y_test) = draw(1, N_TRAIN, generator), draw(1, 2_000, generator)
        parts = []
        for k in chunks(2 * each * SEEDS):
            params = train(x.expand(k, -1, -1), y.expand(k, -1), generator)
            parts.append(scores(params, x_test.expand(k, -1, -1), y_test.expand(k, -1)).accuracy_K.numpy())
        of_a, of_b = np.concatenate(parts).reshape(2, each, SEEDS)
        a.append(of_a)
        b.append(of_b)
    return np.concatenate(a), np.concatenate(b)


def on_redrawn_folds(size: Size, generator: torch.Generator) -> tuple[Floats, Floats]:
    """Accuracies of two arms over ten redrawn five-fold splits of R fresh data sets, (R, 50) each.

    One sees the left half of the features, one the right half: different on every data set, equal on average over data.
    """
    found: list[list[Floats]] = [[], []]
    for r in chunks(size.fold_repeats, 20):
        sets = []
        for _ in range(r):
            x, y = draw(1, N, generator)
            into, out = redrawn_folds(N, FOLDS, REDRAWS, generator)
            sets.append((x[0][into], y[0][into], x[0][out], y[0][out]))
        x, y, x_test, y_test = (torch.cat(each) for each in zip(*sets, strict=True))
        for side, columns in enumerate((LEFT, RIGHT)):
            params = train(x[..., columns], y, generator)
            accuracy = scores(params, x_test[..., columns], y_test).accuracy_K.numpy()
            found[side].append(accuracy.reshape(r, REDRAWS * FOLDS))
    return np.concatenate(found[0]), np.concatenate(found[1])


def seeds(a: Floats, b: Floats, *, first_of_b: int = 0) -> Difference:
    """Compare members of one split; `first_of_b` above 0 shares no seed, so that Welch's test is taken."""
    of_b = [(first_of_b + seed, None, value) for seed, value in enumerate(b)]
    return difference([(seed, None, value) for seed, value in enumerate(a)], of_b)


def folds(a: Floats, b: Floats) -> Difference:
    """Compare redrawn cross-validations."""
    of_a, of_b = ([(i // FOLDS, i % FOLDS, value) for i, value in enumerate(row)] for row in (a, b))
    return difference(of_a, of_b, N_TRAIN, N - N_TRAIN, redrawn=True)


def winners(found: Sequence[Difference]) -> float:
    """The share of comparisons that call a difference."""
    return float(np.mean([made.p is not None and made.p < ALPHA for made in found]))


def welch_seeds(a: Floats, b: Floats) -> Difference:
    return seeds(a[:5], b[:8], first_of_b=100)


def powers(a: Floats, b: Floats, test: Test, error: Floats) -> tuple[float, float]:
    """Shares in which B is called better, by `test` and by the oracle, where the oracle's power is .9.

    The oracle knows the true standard error (R,) of the difference of means, and needs none from the data. B is made
    better by a constant.
    """
    critical = float(ndtri(1 - ALPHA / 2))
    shift = (critical + float(ndtri(ORACLE_POWER))) * error
    made = [test(x, y + more) for x, y, more in zip(a, b, shift, strict=True)]
    called = [d.p is not None and d.p < ALPHA and (d.mean or 0) > 0 for d in made]
    return float(np.mean(called)), float(np.mean((b.mean(axis=1) - a.mean(axis=1) + shift) / error > critical))


def family_errors(a: Floats) -> float:
    """Share of families of three comparisons among four equal arms with any winner after Holm's correction."""
    rows = a[: len(a) // 4 * 4].reshape(-1, 4, a.shape[1])
    calls = []
    for base, *others in rows:
        adjusted = holm([seeds(base, other).p for other in others])
        calls.append(any(p is not None and p < ALPHA for p in adjusted))
    return float(np.mean(calls))


def simulate(size: Size, seed: int) -> list[Row]:
    """Return the shares of false winners, and the powers beside the oracle's."""
    generator = torch.Generator().manual_seed(seed)
    a, b = on_one_split(size, generator)
    left, right = on_redrawn_folds(size, generator)
    by_data_set = (b.mean(axis=1) - a.mean(axis=1)).reshape(size.data_sets, -1)
    error = np.repeat(by_data_set.std(axis=1, ddof=1), by_data_set.shape[1])
    error_of_folds = np.full(len(left), (right.mean(axis=1) - left.mean(axis=1)).std(ddof=1))

    def false(name: str, share: float, repeats: int = size.repeats) -> Row:
        return Row(
            name=f"false winners, {name}", value=share, repeats=repeats, high=ALPHA + 2 * standard_error(ALPHA, repeats)
        )

    def found(name: str, a: Floats, b: Floats, test: Test, error: Floats) -> list[Row]:
        ours, oracle = powers(a, b, test, error)
        return [
            Row(name=f"power, {name}", value=ours, repeats=len(a), low=0.80),
            Row(name=f"power of the oracle, {name}", value=oracle, repeats=len(a)),
        ]

    pairs, folded = list(zip(a, b, strict=True)), list(zip(left, right, strict=True))
    return [
        false("10 seeds, paired t", winners([seeds(x, y) for x, y in pairs])),
        false("5 seeds, paired t", winners([seeds(x[:5], y[:5]) for x, y in pairs])),
        false("5 against 8 seeds, Welch", winners([welch_seeds(x, y) for x, y in pairs])),
        false("3 comparisons, Holm", family_errors(a), size.repeats // 4),
        false("10 x 5 folds, corrected", winners([folds(x, y) for x, y in folded]), size.fold_repeats),
        Row(name="false winners, 10 x 5 folds, naive t", value=winners([seeds(x, y) for x, y in folded]),
            repeats=size.fold_repeats),
        *found("10 seeds, paired t", a, b, seeds, error),
        *found("10 x 5 folds, corrected", left, right, folds, error_of_folds),
    ]  # fmt: skip


def main(argv: Sequence[str]) -> int:
    args = arguments("compare_power", __doc__.splitlines()[0], argv)
    torch.set_num_threads(args.threads)
    started = time.perf_counter()
    rows = simulate(QUICK if args.quick else Size(), args.seed)
    options = {"quick": args.quick, "seed": args.seed, "threads": args.threads}
    unit = "share of repeats in which a winner is called (p below .05)"
    result = to_json("compare_power", unit, rows, [], time.perf_counter() - started, options)
    named = result["results"]
    result["ratios"] = {
        f"compare/oracle, {name}": named[f"power, {name}"] / named[f"power of the oracle, {name}"]
        for name in ("10 seeds, paired t", "10 x 5 folds, corrected")
    }
    print(f"{unit}; {result['seconds']:.0f} s\n")
    return finish(result, rows, args)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
