"""`paceline predict`: every kind of input, from the run folder alone; what it writes, and what it refuses."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import paceline
from paceline.errors import DataError
from tests.cli.test_bad_input import check, tree
from tests.contracts.tiny import USE
from tests.contracts.tiny import train as train_blobs
from tests.recipes.challenge_files import CLASSES, write_challenge

SMALL = {
    "model": "gru", "model.hidden_size": 4, "model.num_layers": 1, "training.num_epochs": 2, "numerics.threads": 1,
    "training.engine": "eager", "members.seeds": 2, "data.split.val_fraction": 0.25,
}  # fmt: skip
STEPS = 12


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Three runs: of the challenge's files with gaps and time features, of arrays, of points without steps.

    Their training files are gone.
    """
    folder = tmp_path_factory.mktemp("trained")
    train, _ = write_challenge(folder / "data", steps=STEPS)
    train.loc[train.index[[3, 30, 31, 80]], "joint_05"] = np.nan
    train.loc[train.index[24], "n_legs"] = None  # the first step of sample 002
    train.to_csv(folder / "data" / "pirate_pain_train.csv", index=False)
    masked = {"data": "challenge", "data.path": str(folder / "data"), "data.missing": "mask",
              "data.time_features": {"position": True, "elapsed": True, "periods": [6]}}  # fmt: skip
    paceline.train("pain", {**SMALL, **masked}, runs=folder / "runs", name="pain")
    rng = np.random.default_rng(0)
    np.savez(folder / "arrays.npz", X=rng.normal(size=(12, 5, 2)), y=np.resize(["a", "b"], 12), channels=["u", "v"])
    arrays = {"data": "npz", "data.path": str(folder / "arrays.npz")}
    paceline.train("pain", {**SMALL, **arrays}, runs=folder / "runs", name="npz")
    train_blobs(folder / "runs", "training.num_epochs=1", name="blobs")
    kept = folder / "kept"
    (folder / "data").rename(kept)
    (folder / "arrays.npz").unlink()
    return folder


@pytest.fixture
def files(trained, workdir):
    """The current folder: `runs/`, and the challenge's files in `data/`."""
    shutil.copytree(trained / "kept", "data")
    Path("runs").symlink_to(trained / "runs")
    return Path("data")


def test_a_submission_is_written_from_the_run_folder_alone(cli, files):
    """A98, A84."""
    done = cli("predict", "runs/pain", files / "pirate_pain_test.csv", "-o", "submission.csv")
    assert done.code == 0 and done.out == "5 predictions written to submission.csv\n"
    lines = Path("submission.csv").read_text().splitlines()
    wanted = (files / "sample_submission.csv").read_text().splitlines()
    assert lines[0] == wanted[0] == "sample_index,label"
    assert [line[:4] for line in lines[1:]] == [line[:4] for line in wanted[1:]] == [f"00{i}," for i in range(5)]
    assert {line[4:] for line in lines[1:]} <= set(CLASSES)


def test_the_training_files_are_predicted_as_they_were_in_training(files):
    """A84: words, gaps, time features and scaling are those of each member's training part."""
    run = paceline.open_run("runs/pain")
    for member in run.members:
        table = paceline.predict(run, files / "pirate_pain_train.csv", members=[member], probabilities=True)
        with np.load(run.member_folder(member) / "predictions.npz") as stored:
            ids, probability = stored["val_id"].tolist(), stored["val_probability"]
        assert len(ids) == 3
        columns = [f"p_{name}" for name in run.best(member)["classes"]]
        np.testing.assert_allclose(table.loc[ids, columns], probability, atol=1e-6)


def test_the_order_of_rows_and_columns_and_labels_change_nothing(files):
    train = pd.read_csv(files / "pirate_pain_train.csv", dtype={"sample_index": str})
    other = train.assign(label="no_pain").sample(frac=1, random_state=5)
    other[["label", *sorted(train.columns, reverse=True)]].to_csv("other.csv", index=False)
    expected = paceline.predict("runs/pain", files / "pirate_pain_train.csv", probabilities=True)
    pd.testing.assert_frame_equal(paceline.predict("runs/pain", "other.csv", probabilities=True), expected)


def test_members_are_averaged_or_shown_one_by_one(cli, files):
    test = files / "pirate_pain_test.csv"
    mean = paceline.predict("runs/pain", test, probabilities=True)
    each = paceline.predict("runs/pain", test, probabilities=True, per_member=True)
    assert list(each) == ["member", "label", "p_high_pain", "p_low_pain", "p_no_pain"] and len(each) == 10
    columns = list(mean)[1:]
    np.testing.assert_allclose(each.groupby(level=0)[columns].mean(), mean[columns], rtol=1e-6)
    assert mean["label"].tolist() == [column[2:] for column in mean[columns].idxmax(axis=1)]
    done = cli("predict", "runs/pain", test, "--per-member", "--member", "seed43")
    assert done.out.splitlines()[:2] == ["sample_index,member,label", f"000,seed43,{each['label'].iloc[5]}"]
    once = cli("predict", "runs/pain", test, "--member", "seed42", "--member", "seed42", "--probabilities").out
    own = each[each["member"] == "seed42"].drop(columns="member")
    assert once == own.to_csv()


def test_sequences_from_any_file_are_the_same_predictions(cli, workdir, files, caplog):
    x = np.random.default_rng(1).normal(size=(3, 4, 2)).round(3)
    np.savez("in.npz", x=x, ids=["r", "s", "t"])
    rows = [f"{name},{t},{x[i, t, 1]},{x[i, t, 0]}" for i, name in enumerate("rst") for t in range(4)]
    Path("in.csv").write_text("\n".join(["id,step,v,u", *rows]) + "\n")
    text = "\n".join(":".join(",".join(map(str, x[i, :, c])) for c in range(2)) for i in range(3))
    Path("in.ts").write_text(f"@classLabel false\n@data\n{text}\n")
    found = {name: cli("predict", "runs/npz", name).out for name in ("in.npz", "in.csv", "in.ts")}
    assert found["in.npz"].splitlines()[0] == "sample,prediction,p_a,p_b"
    assert found["in.csv"] == found["in.npz"].replace("sample,", "id,", 1)
    numbers = [line.partition(",")[2] for line in found["in.npz"].splitlines()]
    assert [line.partition(",")[2] for line in found["in.ts"].splitlines()] == numbers
    assert not caplog.text
    np.savez("swapped.npz", x=x[:, :, ::-1], channels=["v", "u"], ids=["r", "s", "t"])
    assert cli("predict", "runs/npz", "swapped.npz").out == found["in.npz"]
    assert "matched by name" in caplog.text
    assert cli("predict", "runs/npz", "in.npz", "--no-probabilities").out.splitlines()[0] == "sample,prediction"


def test_padding_and_company_change_no_prediction(files):
    test = pd.read_csv(files / "pirate_pain_test.csv", dtype={"sample_index": str})
    short = test[(test["sample_index"] != "002") | (test["time"] < 7)]
    short.to_csv("short.csv", index=False)
    short[short["sample_index"] == "002"].to_csv("alone.csv", index=False)
    together = paceline.predict("runs/pain", "short.csv", probabilities=True)
    alone = paceline.predict("runs/pain", "alone.csv", probabilities=True)
    np.testing.assert_allclose(together.loc[["002"]].iloc[:, 1:], alone.iloc[:, 1:], atol=1e-6)
    whole = paceline.predict("runs/pain", files / "pirate_pain_test.csv", probabilities=True)
    assert not np.allclose(together.loc["002"].iloc[1:].astype(float), whole.loc["002"].iloc[1:].astype(float))


def test_a_gap_where_training_had_none_is_filled_and_named(files, caplog):
    test = pd.read_csv(files / "pirate_pain_test.csv", dtype={"sample_index": str})
    test.loc[test.index[5], ["joint_05", "joint_07"]] = np.nan
    test.to_csv("gaps.csv", index=False)
    assert len(paceline.predict("runs/pain", "gaps.csv")) == 5
    assert "complete in training, and are filled unmarked: joint_07" in caplog.text


def test_points_are_predicted_from_a_table(cli, files):
    x = np.random.default_rng(2).normal(size=(3, 6)).round(2)
    np.savez("points.npz", x=x)
    pd.DataFrame(x, columns=list("abcdef"), index=pd.Index([7, 8, 9], name="id")).to_csv("points.csv")
    use = ["--use", USE]
    table, arrays = (cli("predict", "runs/blobs", name, *use).out.splitlines() for name in ("points.csv", "points.npz"))
    assert table[0] == "id,prediction,p_a,p_b,p_c" and [line[0] for line in table[1:]] == ["7", "8", "9"]
    assert [line.partition(",")[2] for line in table] == [line.partition(",")[2] for line in arrays]


def test_arrays_in_memory_are_predicted_like_a_file(files):
    found = paceline.predict("runs/npz", {"x": np.ones((2, 3, 2)), "lengths": [3, 1], "ids": ["p", "q"]})
    assert found.index.tolist() == ["p", "q"] and list(found) == ["prediction", "p_a", "p_b"]
    with pytest.raises(DataError, match="one rectangular array"):
        paceline.predict("runs/npz", {"x": [[[1, 2]], [[1, 2], [3, 4]]]})


def changed(text_of):
    """A step that writes in.csv: the file to predict, changed as text."""
    return lambda: Path("in.csv").write_text(text_of(Path("data/pirate_pain_test.csv").read_text()))


def line(number, text_of):
    """Change one line, counted from 1."""

    def change(text):
        lines = text.splitlines()
        lines[number - 1] = text_of(lines[number - 1])
        return "\n".join(lines) + "\n"

    return changed(change)


def cell(value):
    """The last cell of line 4."""
    return line(4, lambda row: f"{row.rpartition(',')[0]},{value}")


def npz(**arrays):
    return lambda: np.savez("in.npz", **arrays)


PAIN, NPZ, BLOBS = "runs/pain", "runs/npz", "runs/blobs"
# name: (what is there, run and input, words of the error)
ROWS = {
    "no such file": (lambda: None, [PAIN, "in.csv"], ["no such file", "in.csv"]),
    "a folder": (lambda: Path("in.csv").mkdir(), [PAIN, "in.csv"], ["not a file", "in.csv"]),
    "a wrong extension": (lambda: Path("in.xlsx").touch(), [PAIN, "in.xlsx"], ["no reader", ".xlsx", ".npz"]),
    "no extension": (lambda: Path("in").touch(), [PAIN, "in"], ["no reader", "no extension"]),
    "an empty file": (lambda: Path("in.csv").touch(), [PAIN, "in.csv"], ["file is empty", "in.csv"]),
    "a header alone": (changed(lambda text: text.splitlines()[0]), [PAIN, "in.csv"], ["header and no rows"]),
    "not UTF-8": (
        lambda: Path("in.csv").write_bytes(b"\xff\xfea\x00,\x00"), [PAIN, "in.csv"], ["not UTF-8", "in.csv"]
    ),
    "binary": (lambda: Path("in.csv").write_bytes(bytes(range(256))), [PAIN, "in.csv"], ["in.csv"]),
    "semicolons": (changed(lambda text: text.replace(",", ";")), [PAIN, "in.csv"], ["not separated by commas"]),
    "an unknown column": (line(1, lambda head: head.replace("joint_07", "joint_7")), [PAIN, "in.csv"],
                          ["not trained on", "joint_7", "joint_07"]),
    "a lacking column": (changed(lambda text: "\n".join(row.rpartition(",")[0] for row in text.splitlines())),
                         [PAIN, "in.csv"], ["lacks 1 of 38 channels", "joint_00"]),
    "a column twice": (line(1, lambda head: head.replace("joint_07", "joint_08")), [PAIN, "in.csv"],
                       ["two columns have the same name", "joint_08"]),
    "no column of times": (line(1, lambda head: head.replace("time", "when")), [PAIN, "in.csv"],
                           ["no column 'time'", "in.csv"]),
    "a long row": (cell("1,2"), [PAIN, "in.csv"], ["do not fit the header", "line 4"]),
    "text as a number": (cell("1.5o"), [PAIN, "in.csv"], ["cell is no number", "line 4, column 'joint_00'", "1.5o"]),
    "a huge number": (cell("1e400"), [PAIN, "in.csv"], ["number is too large", "line 4, column 'joint_00'", "inf"]),
    "a number beyond float32": (cell("-1e39"), [PAIN, "in.csv"], ["number is too large", "-1e+39"]),
    "a new word": (line(4, lambda row: row.replace("two", "three")), [PAIN, "in.csv"],
                   ["word does not occur in the training data", "line 4", "three"]),
    "two rows for a time": (changed(lambda text: text + text.splitlines()[5] + "\n"), [PAIN, "in.csv"],
                            ["two rows for one time", "sample 000, time 4"]),
    "a gap": (lambda: Path("in.csv").write_text("id,t,u,v\na,0,1,\n"), [NPZ, "in.csv"],
              ["value is missing", "line 2, column 'v'", "sample a, time 0"]),
    "uneven times": (lambda: Path("in.csv").write_text("id,t,u,v\na,0,1,1\na,1,1,1\na,2.4,1,1\n"), [NPZ, "in.csv"],
                     ["not evenly spaced", "line 4", "sample a: 1, then 2.4"]),
    "a table instead of sequences": (lambda: Path("in.csv").write_text("u,v\n1,2\n"), [NPZ, "in.csv"],
                                     ["no column 'sample_index' or"]),
    "channels of other names": (npz(x=np.ones((2, 3, 2)), channels=["u", "w"]), [NPZ, "in.npz"], ["not trained on"]),
    "another number of channels": (npz(x=np.ones((2, 3, 5))), [NPZ, "in.npz"], ["(2, 3, 5)", "(samples, 5, 2)"]),
    "no steps": (npz(x=np.ones((2, 2))), [NPZ, "in.npz"], ["(2, 2)", "(samples, 5, 2)"]),
    "no samples": (npz(x=np.ones((0, 3, 2))), [NPZ, "in.npz"], ["x is empty"]),
    "NaN": (npz(x=np.full((2, 3, 2), np.nan)), [NPZ, "in.npz"], ["not finite", "channel 'u'"]),
    "infinite": (npz(x=np.full((2, 3, 2), np.inf)), [NPZ, "in.npz"], ["not finite"]),
    "a scaled value too large": (npz(x=np.full((2, 3, 2), 3e38)), [NPZ, "in.npz"],
                                 ["scaled value is too large", "in.npz", "channel 1, sample 0"]),
    "ids of another number": (npz(x=np.ones((2, 3, 2)), ids=["a"]), [NPZ, "in.npz"], ["one value per sample"]),
    "a ts of other channels": (lambda: Path("in.ts").write_text("@data\n1,2:3,4:5,6\n"), [NPZ, "in.ts"],
                               ["(1, 2, 3)", "(samples, 5, 2)"]),
    "a ts that is none": (lambda: Path("in.ts").write_text("1,2,3\n"), [NPZ, "in.ts"], ["no line of a header"]),
    "points of another number": (lambda: Path("in.csv").write_text("a,b\n1,2\n"), [BLOBS, "in.csv", "--use", USE],
                                 ["(1, 2)", "(samples, 6)"]),
    "no such member": (npz(x=np.ones((2, 3, 2))), [NPZ, "in.npz", "--member", "seed7"], ["seed7", "seed42"]),
    "output in no folder": (npz(x=np.ones((2, 3, 2))), [NPZ, "in.npz", "-o", "no/out.csv"], ["folder", "no/out.csv"]),
    "output a folder": (npz(x=np.ones((2, 3, 2))), [NPZ, "in.npz", "-o", "data"], ["output is a folder", "data"]),
    "output the input": (npz(x=np.ones((2, 3, 2))), [NPZ, "in.npz", "-o", "in.npz"], ["output is the input"]),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_input_that_cannot_be_predicted_is_one_clear_error_and_no_output(cli, files, workdir, name):
    prepare, words, wanted = ROWS[name]
    prepare()
    before = tree(workdir)
    output = [] if "-o" in words else ["-o", "out.csv"]
    check(cli("predict", *words, *output), *wanted)
    assert tree(workdir) == before
