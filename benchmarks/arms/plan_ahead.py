"""Make a run folder with its plan and train nothing: `python -m arms.plan_ahead FOLDER --use FILE KEY=VALUE...`.

`paceline train --config FOLDER/config.yaml training.num_epochs=24` then trains for fewer epochs by the plan that the
whole training would have had.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from paceline.api.runs import configure
from paceline.run.build import build
from paceline.run.folder import claim
from paceline.run.start import create_run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--use", type=Path, action="append", default=[])
    args = parser.parse_intermixed_args()
    config, recipe = configure(None, args.overrides, use=args.use)
    create_run(claim(args.folder.parent, args.folder.name, overwrite=False), build(config, recipe), args.use)


if __name__ == "__main__":
    main()
