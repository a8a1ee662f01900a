"""Hints from the curves of a training: too slow, too wild, too short, too long, or judged too late."""

from __future__ import annotations

import math
from statistics import fmean, median

from paceline.report.evidence import Evidence, Hint, head, tail
from paceline.report.files import section
from paceline.report.results import MemberResult
from paceline.report.words import better, label, show

_BARELY = 0.05  # share of its first value by which a training loss must move, and accuracy over guessing
_REBOUND = 1.5  # times its lowest value that a training loss must come back to, to be unstable
_OVERFIT = 1.15  # times its lowest value that a validation loss must come back to
_FLAT = 0.01  # share of the metric's whole range that the last fifth of the training must gain to go on improving
_ANNEALED = 0.1  # share of its peak below which a learning rate ends a training by design
_LATE = 3  # evaluations by which a smoothed metric may choose too late without a word


def not_finite(e: Evidence) -> list[Hint]:
    """The training loss became infinite or NaN."""
    found = [member for member in e.members if member.failed and "not finite" in member.stopped]
    why = "the steps are too large"
    clip = [] if e.value("training", "gradient_clip", "value") else ["training.gradient_clip.value=1"]
    change = e.options(e.times(0.1, "training", "learning_rate"), *clip)
    seen = f"The training loss of {e.of(found)} was not finite"
    return [Hint(rule="not_finite", seen=seen, why=why, change=change)] if found else []


def nothing_learned(e: Evidence) -> list[Hint]:
    """The training loss does not fall while validation is no better than guessing, or stays above that of guessing."""
    baseline, uniform = _majority(e), math.log(len(e.classes)) if e.classes else math.inf

    def lost(e: Evidence, member: MemberResult) -> bool:
        loss, accuracy, r2 = (e.column(member, name) for name in ("train_loss", "val_accuracy", "val_r2"))
        guessing = bool(accuracy) and baseline is not None and max(accuracy) < baseline + _BARELY
        guessing |= bool(r2) and max(r2) < _BARELY
        return guessing and len(loss) > 3 and head(loss) - tail(loss) < _BARELY * abs(head(loss))

    def above(e: Evidence, member: MemberResult) -> bool:
        loss = e.column(member, "train_loss")
        return section(e.config, "loss").get("name") == "cross_entropy" and len(loss) > 3 and min(loss) > uniform

    for found, words in ((e.most(lost), "and validation is no better than guessing"),
                         (e.most(above), f"and is never below that of guessing, {show(uniform, 2)}")):  # fmt: skip
        if not found:
            continue
        losses = [e.column(member, "train_loss") for member in found]
        still = median((max(loss) - min(loss)) / abs(loss[0]) for loss in losses) < _BARELY
        low, high = (show(median(f(loss) for loss in losses), 2) for f in (min, max))
        seen = f"The training loss {'hardly moves' if still else 'goes up and down'} ({low} to {high}) {words}"
        why = f"the learning rate is too {'low' if still else 'high'}"
        why += ", the data do not tell the target, or the model is too small" if still else ""
        rate = e.times(10 if still else 0.1, "training", "learning_rate")
        change = e.options(rate, "the rate that paceline lr-find shows", *(e.capacity() if still else []))
        return [Hint(rule="nothing_learned", seen=seen, why=why, change=change)]
    return []


def unstable(e: Evidence) -> list[Hint]:
    """The training loss comes back up."""

    def rises(e: Evidence, member: MemberResult) -> bool:
        loss = e.column(member, "train_loss")
        return len(loss) > 4 and tail(loss) > _REBOUND * min(loss) > 0 and tail(loss) - min(loss) > 0.1 * max(loss)

    found = e.most(rises)
    if not found:
        return []
    low, end = (fmean(f(e.column(member, "train_loss")) for member in found) for f in (min, tail))
    clip = [] if e.value("training", "gradient_clip", "value") else ["training.gradient_clip.value=1"]
    seen = f"The training loss of {e.of(found)} fell to {show(low, 3)} and came back to {show(end, 3)}"
    change = e.options(e.times(0.3, "training", "learning_rate"), *clip)
    return [Hint(rule="unstable", seen=seen, why="the steps are too large at the end", change=change)]


def stopped_in_warmup(e: Evidence) -> list[Hint]:
    """Patience ran out while the learning rate was still rising."""
    ratio, planned = (e.value("training", *names) for names in (("schedule", "warmup_ratio"), ("num_epochs",)))
    warmup = e.value("training", "schedule", "warmup_epochs") or (ratio or 0.0) * (planned or 0.0)

    def early(e: Evidence, member: MemberResult) -> bool:
        return "no improvement" in member.stopped and (member.epochs or warmup) < warmup

    found = e.most(early)
    if not found:
        return []
    ended = median(member.epochs or 0 for member in found)
    seen = f"{e.of(found)} stopped early, at epoch {ended:g}, in the warm-up of {warmup:g} epochs"
    why = "the learning rate was still rising"
    change = e.options(f"training.early_stopping.patience={2 * warmup:g}", "a shorter training.schedule.warmup_epochs")
    return [Hint(rule="stopped_in_warmup", seen=seen, why=why, change=change)]


def too_short(e: Evidence) -> list[Hint]:
    """The selection metric still rose when the training ended."""
    found = e.most(_ended_early)
    epochs = max((member.epochs or 0 for member in found), default=0)
    change = e.options(f"training.num_epochs={2 * epochs:g}")
    seen = f"{e.of(found)} still improved in the last epochs"
    return [Hint(rule="too_short", seen=seen, why="longer training may help", change=change)] if found else []


def _ended_early(e: Evidence, member: MemberResult) -> bool:
    """Whether a member kept the last of all its epochs while its metric still improved and its learning rate was up."""
    chosen = member.chosen
    values, rates = e.column(member, chosen.metric), e.column(member, "lr")
    if member.status != "finished" or chosen.epoch != member.epochs or len(values) < 2:
        return False
    if rates and rates[-1] < _ANNEALED * max(rates):
        return False
    width = max(1, len(values) // 5)
    gain = tail(values) - fmean(values[-2 * width : -width])
    return (-gain if chosen.mode == "min" else gain) > _FLAT * (max(values) - min(values))


def overfitting(e: Evidence) -> list[Hint]:
    """The validation loss rises while the training loss falls on."""

    def overfits(e: Evidence, member: MemberResult) -> bool:
        train, val = e.column(member, "train_loss"), e.column(member, "val_loss")
        low = val.index(min(val)) if val else 0
        if len(val) < 6 or len(val) != len(train) or low > 0.7 * len(val) or min(train) <= 0:
            return False
        return tail(val) > _OVERFIT * val[low] and train[-1] < 0.9 * train[low]

    found = e.most(overfits)
    if not found:
        return []
    low, end = (fmean(f(e.column(member, "val_loss")) for member in found) for f in (min, tail))
    gap = fmean(tail(e.column(member, "val_loss")) - tail(e.column(member, "train_loss")) for member in found)
    dropout, patience = e.value("model", "dropout"), e.value("training", "early_stopping", "patience") or 1
    more = [] if dropout is None or dropout >= 0.5 else [f"model.dropout=0.5 (now {dropout:g})"]
    half = [f"training.early_stopping.patience={patience // 2:g} (now {patience:g})"] if patience > 1 else []
    change = e.options(*more, e.times(10, "training", "weight_decay"), *half)
    seen = (
        f"In {e.of(found)} the validation loss rose from {show(low, 3)} to {show(end, 3)} while the training loss "
        f"fell, to a gap of {show(gap, 3)} between them"
    )
    why = "the later epochs fit the training part alone"
    return [Hint(rule="overfitting", seen=seen, why=why, change=change)]


def lagging_selection(e: Evidence) -> list[Hint]:
    """The smoothed metric chose an epoch well after a whole stretch of better ones."""
    behind = {member.id: _lag(e, member) for member in e.members}
    found = e.most(lambda e, member: behind[member.id][0] >= _LATE)
    if not found:
        return []
    epochs, loss = (median(behind[member.id][at] for member in found) for at in (0, 1))
    metric, smoothing = label(found[0].chosen.metric), found[0].chosen.smoothing
    alpha = e.value("training", "selection", "ema_alpha") or 0.1
    median_ema = ["training.selection.smoothing=median_ema"] if smoothing == "ema" else []
    change = e.options(f"training.selection.ema_alpha={min(1.0, max(0.3, 2 * alpha)):g} (now {alpha:g})", *median_ema)
    seen = (
        f"{e.of(found)} kept an epoch {epochs:g} evaluations after the best stretch of {metric}, {show(loss, 3)} worse"
    )
    return [Hint(rule="lagging_selection", seen=seen, why="the moving average lags behind", change=change)]


def _lag(e: Evidence, member: MemberResult) -> tuple[int, float]:
    """By how many evaluations the chosen epoch comes after the best running median of three, and how much worse it is.

    The median, not the value: a single high value is luck, which smoothing is there to ignore.
    """
    chosen = member.chosen
    sign = -1.0 if chosen.mode == "min" else 1.0
    values, epochs = e.column(member, chosen.metric), e.column(member, "epoch")
    if chosen.smoothing in ("", "none") or len(values) < 5 or len(values) != len(epochs) or chosen.epoch not in epochs:
        return 0, 0.0
    middle = [sign * median(values[max(0, at - 1) : at + 2]) for at in range(len(values))]
    best, at = middle.index(max(middle[1:-1]), 1), epochs.index(chosen.epoch)
    loss = middle[best] - middle[at]
    # Half of 1 / sqrt(n) is the largest standard error of a share of n samples, such as an accuracy.
    noise = 0.5 / math.sqrt(e.size("val") or math.inf) if better(chosen.metric) == "higher" else 0.0
    return (at - best, loss) if loss > max(noise, 0.1 * (max(values) - min(values))) else (0, 0.0)


def _majority(e: Evidence) -> float | None:
    """The accuracy on validation of always naming its most frequent class."""
    counts = e.counts("val")
    return max(counts) / sum(counts) if counts and sum(counts) else None
