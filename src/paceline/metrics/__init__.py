"""Metrics as mergeable states: sums on the device, one division at the end. Importing this needs no torch.

`paceline.metrics.functional` makes the states from predictions.
"""

from paceline.metrics.state import Confusion, Mean, RegressionState, merge, on_host, values

__all__ = ["Confusion", "Mean", "RegressionState", "merge", "on_host", "values"]
