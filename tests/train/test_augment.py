"""What augmentation does to a batch, kind by kind; which samples and channels; that evaluation knows nothing of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import stats
from torch import Tensor
from torch.func import vmap

from paceline.checkpoint.tree import equal
from paceline.data.loader import ArrayPass
from paceline.data.rows import RowPass
from paceline.errors import ConfigError
from paceline.models.keyed import signed32
from paceline.recipes.pain.config import Gru
from paceline.tasks import Classification
from paceline.train.augment import Augment, augment_of
from paceline.train.config import AugmentConfig, TrainingConfig
from paceline.train.engine_cohort import CohortEngine
from paceline.train.engine_eager import EagerEngine
from paceline.train.learner import seeded_model
from paceline.types import DataSpec, Member

pytestmark = pytest.mark.fast

B, T, F = 200, 20, 3
SPEC = DataSpec(shapes={"x": (T, F), "mask": (T,), "y": ()}, classes=("low", "high"), channels=("a", "b", "c"))
KEY = torch.tensor(signed32(987654321), dtype=torch.int32)


def batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    mask = torch.arange(T) < torch.randint(8, T + 1, (B, 1), generator=generator)
    x = torch.randn(B, T, F, generator=generator, dtype=torch.float64) + 5
    return {"x": torch.where(mask[:, :, None], x, 0), "mask": mask, "y": torch.arange(B) % 2}


def augmented(given: dict[str, Tensor] | None = None, key: Tensor = KEY, **config: object) -> Tensor:
    augment = augment_of(AugmentConfig(**{"probability": 1.0, **config}), SPEC)
    return augment(given or batch(), key)["x"]


def test_jitter_adds_normal_noise_to_every_valid_value() -> None:
    """A102."""
    given = batch()
    added = (augmented(jitter=0.3) - given["x"])[given["mask"]].flatten().numpy()
    assert stats.kstest(added / 0.3, "norm").pvalue > 1e-3


def test_scale_multiplies_each_channel_of_a_sample_by_one_factor() -> None:
    """A102."""
    given = batch()
    ratio = (augmented(scale=0.2) / given["x"]).masked_fill(~given["mask"][:, :, None], float("nan"))
    factor = ratio[:, 0]
    assert torch.allclose(ratio.nan_to_num(), torch.where(given["mask"][:, :, None], factor[:, None], 0), rtol=1e-12)
    assert stats.kstest(((factor - 1) / 0.2).flatten().numpy(), "norm").pvalue > 1e-3


def test_shift_adds_one_offset_to_each_channel_of_a_sample() -> None:
    """A102."""
    given = batch()
    added = augmented(shift=0.4) - given["x"]
    offset = added[:, 0]
    expected = torch.where(given["mask"][:, :, None], offset[:, None], 0)
    torch.testing.assert_close(added, expected, rtol=0, atol=1e-12)
    assert stats.kstest((offset / 0.4).flatten().numpy(), "norm").pvalue > 1e-3


def test_flip_turns_the_sign_or_the_valid_steps_around() -> None:
    """A102."""
    given = batch()
    assert torch.equal(augmented(flip="sign"), -given["x"])
    turned = augmented(flip="time")
    for b, length in enumerate(given["mask"].sum(1).tolist()):
        assert torch.equal(turned[b, :length], given["x"][b, :length].flip(0))
        assert not turned[b, length:].any()


def test_a_time_mask_hides_one_run_of_at_most_its_share_of_the_valid_steps() -> None:
    """A102."""
    given = batch()
    hidden = (augmented(time_mask=0.25) == 0).all(2) & given["mask"]
    lengths, runs = given["mask"].sum(1), hidden.sum(1)
    assert (runs <= lengths * 0.25).all()
    assert set(runs[lengths == 20].tolist()) == {0, 1, 2, 3, 4, 5}
    beginnings = (hidden[:, 1:] & ~hidden[:, :-1]).sum(1) + hidden[:, 0].long()
    assert (beginnings <= 1).all()
    assert hidden[:, 0].any() and hidden.gather(1, lengths[:, None] - 1).any()  # both ends can be hidden
    unchanged = given["mask"] & ~hidden
    assert torch.equal(augmented(time_mask=0.25)[unchanged], given["x"][unchanged])


ALL = {"jitter": 0.1, "scale": 0.1, "shift": 0.1, "flip": "sign", "time_mask": 0.3}


@pytest.mark.parametrize("kind", ALL)
def test_each_kind_changes_each_sample_with_its_probability(kind: str) -> None:
    given = batch()
    values = {"time_mask": 0.9, "jitter": 0.1}.get(kind, ALL[kind])  # a long mask seldom hides nothing
    parts = []
    for seed in range(8):
        new = augmented(key=KEY + seed, probability=0.3, **{kind: values})
        parts.append((new != given["x"]).flatten(1).any(1))
    assert torch.stack(parts).double().mean() == pytest.approx(0.3, abs=0.04)


def test_kinds_are_drawn_independently_of_each_other() -> None:
    given = batch()
    sign = augmented(probability=0.5, flip="sign")[:, 0, 0] * given["x"][:, 0, 0] < 0
    shifted = augmented(probability=0.5, shift=0.1)[:, 0, 0] != given["x"][:, 0, 0]
    assert abs(np.corrcoef(sign, shifted)[0, 1]) < 0.25


@pytest.mark.parametrize("kind", ALL)
def test_only_the_chosen_classes_are_changed(kind: str) -> None:
    """A102."""
    given = batch()
    changed = (augmented(classes=["high"], **{kind: ALL[kind]}) != given["x"]).flatten(1).any(1)
    assert not changed[given["y"] == 0].any()
    assert changed[given["y"] == 1].double().mean() > 0.7
    both = augmented(classes=["high", "low"], **{kind: ALL[kind]})
    assert torch.equal(both, augmented(**{kind: ALL[kind]}))


def test_only_the_chosen_channels_change_their_values() -> None:
    given = batch()
    for kind in ("jitter", "scale", "shift", "flip"):
        changed = (augmented(channels=["c", "a"], **{kind: ALL[kind]}) != given["x"]).flatten(0, 1).any(0)
        assert changed.tolist() == [True, False, True]
    assert (augmented(channels=["a"], flip="time") != given["x"]).flatten(0, 1).any(0).all()


def test_padding_stays_zero_and_changes_nothing() -> None:
    given = batch()
    longer = {name: torch.cat([c, torch.zeros(B, 7, *c.shape[2:], dtype=c.dtype)], 1) for name, c in given.items()
              if name != "y"} | {"y": given["y"]}  # fmt: skip
    options = {**ALL, "probability": 0.7}
    new = augmented(longer, **options)
    assert not new[~longer["mask"]].any()
    assert torch.equal(new[:, :T], augmented(**options))
    some = {name: column[:50] for name, column in given.items()}
    assert torch.equal(augmented(some, **options), augmented(**options)[:50])


def test_the_same_key_gives_the_same_batch_and_another_key_another() -> None:
    assert torch.equal(augmented(**ALL), augmented(**ALL))
    assert not torch.equal(augmented(**ALL), augmented(key=KEY + 1, **ALL))


def test_members_under_vmap_are_augmented_as_alone() -> None:
    augment, given = Augment(config=AugmentConfig(**ALL), classes=(1,)), batch()
    keys = torch.tensor([1, -5, 2**30], dtype=torch.int32)
    together = vmap(lambda key: augment(given, key)["x"])(keys)
    alone = torch.stack([augment(given, key)["x"] for key in keys])
    torch.testing.assert_close(together, alone, rtol=0, atol=0)


def test_without_a_mask_all_steps_count() -> None:
    given = batch()
    whole = {"x": given["x"] + 1, "y": given["y"], "mask": torch.ones(B, T, dtype=torch.bool)}
    bare = {"x": whole["x"], "y": whole["y"]}
    for flip in ("sign", "time"):
        assert torch.equal(augmented(bare, **{**ALL, "flip": flip}), augmented(whole, **{**ALL, "flip": flip}))


def test_nothing_is_made_where_every_kind_is_off() -> None:
    assert augment_of(AugmentConfig(probability=1.0, classes=["low"]), SPEC) is None


@pytest.mark.parametrize(
    ("config", "spec", "where", "hint"),
    [
        ({"classes": ["hihg"]}, SPEC, "training.augment.classes", "high"),
        ({"classes": [1]}, SPEC, "training.augment.classes", "low"),
        ({"channels": ["d"]}, SPEC, "training.augment.channels", "a, b, c"),
        ({"classes": ["a"]}, DataSpec(shapes={"x": (T, F)}), "training.augment.classes", "no class names"),
        ({}, DataSpec(shapes={"x": (F,)}, classes=("low", "high")), "training.augment", ""),
    ],
)
def test_what_the_data_does_not_have_is_refused(config, spec, where, hint) -> None:
    with pytest.raises(ConfigError) as caught:
        augment_of(AugmentConfig(jitter=0.1, **config), spec)
    assert caught.value.where == where
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    "bad", [{"jitter": -0.1}, {"probability": 0.0}, {"probability": 1.5}, {"time_mask": 1.0}, {"flip": "both"}]
)
def test_amounts_that_cannot_be_meant_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        AugmentConfig.model_validate(bad)


def engine(kind: str, augment: Augment | None):
    """One engine with a small GRU over the batch; the cohort has the member twice."""
    columns, member = {k: v[:30] for k, v in batch().items()}, Member(seed=1)
    model = seeded_model(lambda: Gru(hidden_size=4, dropout=0.0).build(SPEC).double(), member)
    task, config, device = Classification(n_classes=2, inputs=("x", "mask")), TrainingConfig(), torch.device("cpu")
    if kind == "eager":
        return EagerEngine(model, task, config, member, {"val": ArrayPass(columns, 8)}, device, augment=augment)
    passes = {"val": RowPass([np.arange(30)] * 2, 8, device)}
    return CohortEngine(
        [model, model], [task] * 2, [config] * 2, [member] * 2, columns, passes, device,
        compiled=False, augment=augment,
    )  # fmt: skip


def group(kind: str) -> list[dict[str, Tensor]]:
    if kind == "cohort":
        return [{"rows": torch.arange(30).expand(2, -1)}]
    return [{name: column[:30].unsqueeze(0) for name, column in batch().items()}]


@pytest.mark.parametrize("kind", ["eager", "cohort"])
def test_validation_is_never_augmented(kind: str) -> None:
    """A102."""
    augment = augment_of(AugmentConfig(probability=1.0, **ALL), SPEC)
    plain, changed = engine(kind, None), engine(kind, augment)
    assert equal(plain.evaluate("val", [0]), changed.evaluate("val", [0])) == []
    np.testing.assert_array_equal(*(each.predict("val", 0)["probability"] for each in (plain, changed)))
    for each in (plain, changed):
        each.step(group(kind), [0.01] * (2 if kind == "cohort" else 1), 0)
    after = changed.weights(0, "current")["model"]
    assert equal(plain.weights(0, "current")["model"], after) != [], "training was not augmented either"
    plain.load_state_dict(changed.state_dict())
    assert equal(plain.evaluate("val", [0]), changed.evaluate("val", [0])) == []
