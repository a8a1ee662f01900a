"""A comparison in words: the verdict in a sentence, and what it stands on. Shared by terminal, JSON and page."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from paceline.evaluate.paired import FLIPS
from paceline.report.compare import ALPHA, Comparison, Pair
from paceline.report.words import THIN, better, count, finite, label, places_for, show

SCHEMA_VERSION = 1
SOURCES = (
    "Three things move a result: the seed of training, the training data (splits), and the samples it is measured on. "
    "Members that differ in their seed alone show the first; folds and redrawn splits the first two; the bootstrap of "
    "stored predictions shows the third."
)


def to_tree(found: Comparison) -> dict[str, Any]:
    """Return the comparison as plain values for JSON, with a verdict in words for each pair."""
    return {
        "schema_version": SCHEMA_VERSION,
        "data": found.data,
        "fingerprint": found.fingerprint,
        "baseline": found.sides[0].name,
        "metrics": list(found.metrics),
        "tests": found.tests,
        "arms": [asdict(side) for side in found.sides],
        "comparisons": [asdict(pair) | {"found": pair.found, "verdict": verdict(found, pair)} for pair in found.pairs],
        "notes": list(found.notes),
    }


def verdict(found: Comparison, pair: Pair) -> str:
    """`B is better than A: +0.012 (95 % 0.004 to 0.020)`, or `not distinguishable: ...`, or why nothing can be said."""
    made = pair.difference
    if made.mean is None:
        return f"cannot tell: {pair.a} or {pair.b} has no value of {label(pair.metric)}."
    if made.low is None or made.high is None:
        return _without_interval(found, pair)
    numbers = f"{signed(made.mean, _places(pair))} (95{THIN}% {_range(pair, made.low, made.high)})"
    if pair.found:
        return f"{pair.b} is {_word(pair)} than {pair.a}: {numbers}. {_scope(pair)}".strip()
    why = ""
    if made.p is not None and made.p < ALPHA and pair.p is not None:
        why = f" after Holm's correction for {found.tests} tests (p {p_text(made.p)} becomes {p_text(pair.p)})"
    edge = max(abs(made.low), abs(made.high))
    bound = f"; a difference beyond {show(edge, _places(pair))} either way is unlikely"
    return f"not distinguishable{why}: {pair.b} against {pair.a} {numbers}{bound if not why else ''}."


def _word(pair: Pair) -> str:
    up = (pair.difference.mean or 0.0) > 0
    way = better(pair.metric)
    if not way:
        return "higher" if up else "lower"
    return "better" if up == (way == "higher") else "worse"


def _scope(pair: Pair) -> str:
    """Whether the difference would hold on other samples, where the predictions can tell."""
    samples = pair.samples
    if samples is None or samples.low is None or samples.high is None:
        return ""
    edges = f"95{THIN}% {_range(pair, samples.low, samples.high)}"
    if samples.low <= 0 <= samples.high or samples.p is None or samples.p >= ALPHA:
        return f"Other samples could turn it round: over draws of the {samples.n_units:,} {samples.units}, {edges}."
    return f"It holds over draws of the {samples.n_units:,} {samples.units}, too ({edges})."


def _without_interval(found: Comparison, pair: Pair) -> str:
    """What can and what cannot be said with one member on a side, or where nothing varies."""
    made = pair.difference
    assert made.mean is not None
    numbers = signed(made.mean, _places(pair))
    if made.std == 0:
        same = "the two are the same in every pair" if made.mean == 0 else f"always {numbers}, whatever the seed"
        return f"cannot test: {same}; without any spread there is no interval."
    known = f"{pair.b} minus {pair.a} is {numbers}"
    sides = [found.side(name, pair.metric) for name in (pair.a, pair.b)]
    single = [side for side in sides if len(finite(side.values)) == 1]
    several = [side for side in sides if len(finite(side.values)) > 1]
    if single and several:
        values, (value,) = finite(several[0].values), finite(single[0].values)
        within = "within" if min(values) <= value <= max(values) else "outside"
        known += f", and {single[0].name} lies {within} the range of the {len(values)} members of {several[0].name}"
    exact = pair.mcnemar.p if pair.mcnemar else pair.samples.p if pair.samples else None
    if exact is not None:
        sure = "differ" if exact < ALPHA else "cannot be told apart"
        known += f"; on these samples the trained networks {sure} (p {p_text(exact)})"
    return (
        f"cannot tell which is better: one member says nothing about spread. What can be said: {known}. What cannot: "
        "whether other seeds would show the same (members.seeds=5)."
    )


def details(found: Comparison, pair: Pair) -> list[tuple[str, str]]:
    """What the verdict stands on, as (name, words)."""
    made, rows = pair.difference, []
    if made.p is not None:
        adjusted = f", adjusted for {found.tests} tests (Holm) {p_text(pair.p)}" if found.tests > 1 else ""
        rows.append(("t test", f"p {p_text(made.p)}{adjusted}; {made.method}"))
    else:
        rows.append(("t test", made.method))
    if pair.flips is not None:
        rows.append(("permutation", _flips(pair)))
    if pair.samples is not None:
        rows.append(("samples", _samples(pair)))
    if pair.mcnemar is not None:
        only = f"{pair.mcnemar.only_a:,} samples only {pair.a} has right, {pair.mcnemar.only_b:,} only {pair.b}"
        rows.append(("McNemar", f"exact p {p_text(pair.mcnemar.p)}; {only}"))
    if made.effect is not None:
        edges = ""
        if made.effect_low is not None and made.effect_high is not None:
            edges = f" (95{THIN}% {show(made.effect_low, 2)} to {show(made.effect_high, 2)})"
        kind = "paired" if made.paired else "unpaired"
        rows.append(("effect", f"Cohen's d, {kind}, {signed(made.effect, 2)}{edges}"))
    if made.detectable is not None:
        rows.append(("sensitivity", f"a difference of {show(made.detectable, _places(pair))} is found 4 times in 5"))
    return rows


def _flips(pair: Pair) -> str:
    flips = pair.flips
    assert flips is not None
    how = f"all {2**flips.n:,}" if flips.exact else f"{FLIPS:,} random"
    text = f"p {flips.p:.3g}, {how} sign flips of {count(flips.n, 'pair')}"
    if flips.smallest > ALPHA:
        text += f"; so few cannot go below {flips.smallest:g}, the verdict leans on the t distribution"
    elif "corrected" in pair.difference.method or "overlapping" in pair.difference.method:
        text += "; it takes pairs for independent, which overlapping training parts are not"
    return text


def _samples(pair: Pair) -> str:
    samples = pair.samples
    assert samples is not None
    if samples.low is None or samples.high is None:
        return samples.method
    edges = f"{signed(samples.value, _places(pair))} (95{THIN}% {_range(pair, samples.low, samples.high)})"
    return f"{edges}, p {p_text(samples.p)}; {samples.method}"


def signed_range(pair: Pair) -> str:
    """`+0.010 (−0.004 to 0.024)`, or the difference alone."""
    made = pair.difference
    if made.mean is None:
        return show(None)
    text = signed(made.mean, _places(pair))
    return text if made.low is None or made.high is None else f"{text} ({_range(pair, made.low, made.high)})"


def p_text(p: float | None) -> str:
    """`0.012`, `< 0.0001`, or a dash."""
    if p is None:
        return show(None)
    return "< 0.0001" if p < 1e-4 else f"{p:.4f}" if p < 0.001 else f"{p:.3f}" if p < 0.0995 else f"{p:.2f}"


def signed(value: float, places: int | None) -> str:
    """A difference with its sign, also where it is positive."""
    return f"+{show(value, places)}" if value > 0 else show(value, places)


def _places(pair: Pair) -> int | None:
    """Decimals: two significant digits of the narrower of the two intervals' half widths."""
    made = pair.difference
    widths = [made.high - made.low] if made.high is not None and made.low is not None else []
    if pair.samples is not None and pair.samples.high is not None and pair.samples.low is not None:
        widths.append(pair.samples.high - pair.samples.low)
    return places_for(min(widths) / 2) if widths and min(widths) > 0 else None


def _range(pair: Pair, low: float, high: float) -> str:
    return f"{show(low, _places(pair))} to {show(high, _places(pair))}"
