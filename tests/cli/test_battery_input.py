"""Bad battery data on the command line: exit code 2, at most four lines, nothing written."""

from __future__ import annotations

import pandas as pd
import pytest

FRAME = pd.DataFrame(
    {
        "cell": list("AAAABBBBCCCC"),
        "cycle": [1, 2, 3, 4] * 3,
        "a": range(12),
        "soh": [1 - 0.01 * k for k in range(12)],
        "celsius": [10] * 4 + [25] * 4 + [40] * 4,
    }
)
CYCLES = ("data=cycles", "data.path=cells.csv", "data.features=[a]", "data.target=soh", "data.group=cell",
          "data.time=cycle", "data.condition=celsius")  # fmt: skip
VALUE = ("data.split.rule=value", "data.split.column=condition")
CASES = {
    "missing column": ((), ("data.features=[a, sohh]",), ["no column 'sohh'", "data.features=sohh", "try: soh "]),
    "unknown temperature": ((), (*VALUE, "data.split.values.test=[30]"), ["got: 30", "10.0, 25.0, 40.0"]),
    "overlapping parts": ((), (*VALUE, "data.split.values={val: [25], test: [25.0]}"), ["val and test both name 25"]),
    "group in two parts": ([("celsius", 3, 25)], (*VALUE, "data.split.values.test=[25]"), ["outside it", "got: A"]),
    "empty cell": ([("a", 5, None)], (), ["1 rows have a missing value", "line 7, column 'a'", "data.missing=mask"]),
    "empty target": ([("soh", 5, None)], ("data.missing=mask",), ["line 7, column 'soh'"]),
    "time that does not increase": ([("cycle", 2, 2)], (), ["does not increase", "line 4", "cell A"]),
    "sequence of length one": ([("cell", 11, "D")], ("data.form=sequences",), ["one row", "got: D"]),
    "text": ([("a", 5, "high")], (), ["no number", "line 7, column 'a'", "got: high"]),
    "no file": ((), ("data.path=cellls.csv",), ["no such file", "cellls.csv"]),
    "target among the features": ((), ("data.features=[soh]",), ["names the target"]),
    "unknown key": ((), ("data.featurs=[a]",), ["data.featurs", "data.features"]),
    "noise floor that is not known": ((), ("data.references=[noise]",), ["without their noise", "data.references"]),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_data_ends_with_code_2_and_names_the_place(cli, workdir, name):
    changes, words, wanted = CASES[name]
    frame = FRAME.astype(object)
    for column, row, value in changes:
        frame.loc[row, column] = value
    frame.to_csv("cells.csv", index=False)
    done = cli("train", "task=battery", *CYCLES, *words)
    assert done.code == 2 and len(done.err.strip().splitlines()) <= 4, done.err
    for text in wanted:
        assert text in done.err, done.err
    assert not (workdir / "runs").exists()
