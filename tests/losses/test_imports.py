"""Reading a config must not cost the time of importing torch."""

from __future__ import annotations

import subprocess
import sys


def test_reading_loss_model_and_metric_configs_needs_no_torch() -> None:
    code = "import sys, paceline.losses, paceline.metrics, paceline.tasks, paceline.models.config, " \
        "paceline.recipes.pain.config; sys.exit('torch' in sys.modules)"  # fmt: skip
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
