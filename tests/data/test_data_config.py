from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from paceline.data.config import DataConfig, LoaderConfig, SplitConfig


@pytest.mark.fast
@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        (SplitConfig, {"rule": "stratify"}, "stratified"),
        (SplitConfig, {"val_fraction": 0}, "greater than 0"),
        (SplitConfig, {"val_fraction": 1}, "less than 1"),
        (SplitConfig, {"test_fraction": 1}, "less than 1"),
        (SplitConfig, {"test_fraction": -0.1}, "greater than or equal to 0"),
        (SplitConfig, {"seed": -1}, "greater than or equal to 0"),
        (SplitConfig, {"seed": 2**32}, "less than"),
        (SplitConfig, {"rule": "value"}, "needs values.val or values.test"),
        (SplitConfig, {"rule": "value", "values": {"val": [25], "test": ["25.0"]}}, "both name 25"),
        (SplitConfig, {"values": {"val": ["a"]}}, "rule `value` only"),
        (SplitConfig, {"rule": "value", "values": {"val": ["a"], "test": ["a"]}}, "both name a"),
        (SplitConfig, {"rule": "value", "values": {"val": ["a"]}, "test_fraction": 0.1}, "not from test_fraction"),
        (SplitConfig, {"rule": "value", "values": {"valid": ["a"]}}, "Extra inputs"),
        (LoaderConfig, {"num_workers": -1}, "greater than or equal to 0"),
        (LoaderConfig, {"pin_memory": "yes, please"}, "auto"),
    ],
)
def test_config_values_out_of_range_are_refused(section, values, message):
    with pytest.raises(ValidationError, match=message):
        section(**values)


@pytest.mark.fast
def test_the_base_source_is_abstract():
    with pytest.raises(TypeError, match="load"):
        DataConfig(name="nothing")


def test_data_modules_import_no_torch():
    modules = "audit, config, dataset, draw, fingerprint, plain, scale, split"
    code = f"from paceline.data import {modules}; import paceline.recipes.pain.data, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
