"""The hardest samples: what most members get wrong, or are least sure of; of a regression, the largest errors.

Shapes: P predictions (all members' samples), N different samples, D outputs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from paceline.evaluate.predictions import Array, Floats, Predictions, sums_of
from paceline.report.predicted import Predicted, chosen_probability
from paceline.report.tables import Cell, Table, brief, share_bar
from paceline.report.words import clean, count, percent, places_for, shorten, show

SHOWN = 20
_POSITION = "Sample numbers are positions in the data set, from 0."


@dataclass(frozen=True, kw_only=True)
class SamplesView:
    """The table and the sentences above it."""

    lead: str
    table: Table


@dataclass(frozen=True, kw_only=True, eq=False)
class Hardness:
    """Each sample over the members that predicted it, the hardest first.

    index: positions in the data set (N,). members: how many predicted it (N,). wrong: how many of them got it wrong
    (N,). sure: mean probability of the true class (N,).
    """

    index: Array
    members: Array
    wrong: Array
    sure: Floats


def hardness(found: Predicted) -> Hardness:
    """Order the samples by the share of members that get them wrong, then by the probability of the true class."""
    index = np.concatenate([one.found.index for one in found.members])
    wrong = np.concatenate([one.found.prediction != one.found.y for one in found.members])
    sure = np.concatenate([chosen_probability(one.found) for one in found.members])
    samples, place = np.unique(index, return_inverse=True)
    members = np.bincount(place)
    n_wrong = np.bincount(place, weights=wrong).astype(np.int64)
    mean = np.bincount(place, weights=sure) / members
    order = np.lexsort((samples, mean, -n_wrong / members))
    return Hardness(index=samples[order], members=members[order], wrong=n_wrong[order], sure=mean[order])


def hardest_samples(found: Predicted | None) -> SamplesView | None:
    """The samples to look at first; None where the members' predictions are not stored."""
    if found is None:
        return None
    return _classes(found) if found.classes else _numbers(found)


def _classes(found: Predicted) -> SamplesView:
    hard = hardness(found)
    several = int(hard.members.max()) > 1
    columns = [("sample", "id"), *_group_column(found), ("true class", "wrap"), ("predicted", "wrap")]
    columns += [("mean probability of the true class" if several else "probability of the true class", "share")]
    columns += [("members wrong", "number")] if several else []
    rows: list[Sequence[Cell]] = []
    for k in range(min(SHOWN, len(hard.index))):
        own = _rows_of(found, int(hard.index[k]))
        cells: list[Cell] = [f"{hard.index[k]}", *_group(own), brief(found.classes[own.y[0]])]
        sure = float(hard.sure[k])
        cells += [_predicted(own.prediction, found.classes), share_bar(sure, show(sure, 3))]
        rows.append([*cells, f"{hard.wrong[k]} of {hard.members[k]}"] if several else cells)
    caption = _POSITION + (" Predicted: by how many members, where they differ." if several else "")
    table = Table(columns=columns, rows=rows, caption=caption, title="hardest samples")
    return SamplesView(lead=_class_words(found, hard, several=several), table=table)


def _class_words(found: Predicted, hard: Hardness, *, several: bool) -> str:
    n = len(hard.index)
    some, every = int((hard.wrong > 0).sum()), int((hard.wrong == hard.members).sum())
    start = f"On the {found.words}: "
    if not some:
        return f"{start}no sample of {n:,} is predicted wrong. The least sure come first."
    if not several:
        share = percent(some / n)
        return f"{start}{some:,} of {count(n, 'sample')} are predicted wrong ({share}). The least probable come first."
    most = int((2 * hard.wrong > hard.members).sum())
    text = (
        f"{start}{some:,} of {count(n, 'sample')} are wrong for at least one member, {most:,} for more than half and "
        f"{every:,} for every one."
    )
    return f"{text} The last are no accident of a seed: look at their inputs and labels first." if every else text


def _numbers(found: Predicted) -> SamplesView:
    index = np.concatenate([one.found.index for one in found.members])
    error = np.concatenate([_mean_error(one.found) for one in found.members])
    samples, place = np.unique(index, return_inverse=True)
    mean = np.bincount(place, weights=error) / np.bincount(place)
    order = np.lexsort((samples, -mean))[:SHOWN]
    outputs = error.ndim and found.members[0].found.y.reshape(len(found.members[0].found.y), -1).shape[1]
    columns = [("sample", "id"), *_group_column(found)]
    columns += [("true", "number"), ("predicted, mean", "number"), ("members", "text")] if outputs == 1 else []
    columns += [("mean absolute error", "share")]
    places = places_for(float(mean[order].max()) / 10) if len(order) else None
    rows: list[Sequence[Cell]] = []
    for k in order:
        own = _rows_of(found, int(samples[k]))
        cells: list[Cell] = [f"{samples[k]}", *_group(own)]
        if outputs == 1:
            low, high = float(own.prediction.min()), float(own.prediction.max())
            cells += [show(float(own.y[0]), places), show(float(own.prediction.mean()), places)]
            cells += [f"{show(low, places)} to {show(high, places)}" if len(own.y) > 1 else show(None)]
        rows.append([*cells, share_bar(float(mean[k] / (mean[order[0]] or 1.0)), show(float(mean[k]), places))])
    lead = f"On the {found.words}, the largest errors first, each the mean over the members."
    return SamplesView(
        lead=lead, table=Table(columns=columns, rows=rows, caption=_POSITION, title="samples with the largest errors")
    )


def _mean_error(found: Predictions) -> Floats:
    """Return the mean absolute error of each sample (N,), over its outputs or its valid steps."""
    sums = sums_of(found)
    error: Floats = sums[:, 2] / np.maximum(sums[:, 0], 1)
    return error


@dataclass(frozen=True, kw_only=True, eq=False)
class _Own:
    """One sample over the members."""

    y: Array
    prediction: Array
    group: object


def _rows_of(found: Predicted, index: int) -> _Own:
    y, prediction, group = [], [], None
    for one in found.members:
        for row in np.flatnonzero(one.found.index == index):
            y.append(one.found.y[row])
            prediction.append(one.found.prediction[row])
            group = None if one.found.group is None else one.found.group[row]
    return _Own(y=np.array(y), prediction=np.array(prediction), group=group)


def _group_column(found: Predicted) -> list[tuple[str, str]]:
    return [] if found.members[0].found.group is None else [("group", "wrap")]


def _group(own: _Own) -> list[Cell]:
    return [] if own.group is None else [brief(clean(own.group))]


def _predicted(prediction: Array, classes: Sequence[str]) -> Cell:
    votes = Counter(int(k) for k in prediction).most_common()
    if len(votes) == 1:
        return brief(classes[votes[0][0]])
    listed = ", ".join(f"{shorten(classes[k], 24)} ({n})" for k, n in votes[:3])
    return listed + (", …" if len(votes) > 3 else "")
