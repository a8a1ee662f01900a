from __future__ import annotations

import subprocess
import sys


def test_the_report_needs_no_torch():
    code = "import sys, paceline.report, paceline.report.table; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
