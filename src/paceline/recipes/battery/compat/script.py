"""What `run.py` of `paceline scaffold battery` does: choices in a folder of YAML, one training, seven printed steps."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paceline.api.runs import configure, create_tracked, execute_and_report
from paceline.checkpoint.files import write_text_atomic
from paceline.config.option_files import refuse_interpolation
from paceline.config.suggest import hint
from paceline.config.tree import Tree, to_yaml
from paceline.errors import ConfigError, PacelineError
from paceline.run.build import Prepared, build
from paceline.run.folder import Run, claim, new_name
from paceline.track.mlflow_record import opened_by

OWN = ("name", "runs_dir")  # keys of config.yaml that are not of paceline's config


def run_script(doc: str | None, folder: str | Path = "configs", words: Sequence[str] | None = None) -> None:
    """Train as the command line says: `group=option`, `key=value`, `--overwrite`.

    A mistake of the user's is one error on stderr and exit code 2; Ctrl-C ends with 130.
    """
    given = list(sys.argv[1:] if words is None else words)
    if {"-h", "--help"} & set(given):
        sys.stdout.write(f"{(doc or '').strip()}\n\n{_listed(Path(folder))}\n")
        return
    overwrite = "--overwrite" in given
    try:
        train([word for word in given if word != "--overwrite"], Path(folder), overwrite=overwrite)
    except PacelineError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


def train(words: Sequence[str], folder: Path, *, overwrite: bool = False) -> Run:
    """Compose, train, and print what is done; return the run. `choices.yaml` in its folder has what was chosen."""
    tree, choices = compose(words, folder)
    name, runs = tree.pop("name", None), Path(tree.pop("runs_dir", None) or "artifacts/runs")
    config, recipe = configure(config=tree)
    _say(1, "config", ", ".join(f"{group}={option}" for group, option in choices.items()))
    path = claim(runs, name or new_name(config.task.name, config.model.name), overwrite=overwrite)
    prepared = build(config, recipe)
    _say(2, "data", _data(prepared))
    _say(3, "split", _split(prepared))
    _say(4, "model", f"{config.model.name}, {len(prepared.jobs)} training(s)")
    run, trackers = create_tracked(path, prepared, recipe=recipe)
    write_text_atomic(run.path / "choices.yaml", to_yaml(choices))
    _say(5, "training", f"{config.loss.name} loss, on {prepared.plan.device}")
    execute_and_report(run, prepared, trackers=trackers)
    _say(6, "results", _results(run))
    opening = opened_by(run.path)
    _say(7, "saved", str(run.path / "report.html") + (f"; MLflow: {opening}" if opening else ""))
    return run


def compose(words: Sequence[str], folder: Path) -> tuple[Tree, dict[str, str]]:
    """Return the composed tree and the chosen option of each group, by Hydra. Raises ConfigError."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if not (folder / "config.yaml").is_file():
        raise ConfigError("there is no config.yaml", where=str(folder), hint="paceline scaffold battery DIR writes one")
    groups = _groups(folder)
    arguments = [_argument(word, groups) for word in words]
    try:
        with initialize_config_dir(str(folder.resolve()), version_base="1.3"):
            whole = hydra_compose("config", overrides=arguments, return_hydra_config=True)
        chosen = {str(k): str(v) for k, v in sorted(whole.hydra.runtime.choices.items()) if k in groups}
        tree = OmegaConf.to_container(whole, resolve=False)
    except (HydraException, OmegaConfBaseException, ValueError, OSError) as error:
        first = str(error).strip().partition("\n")[0]
        raise ConfigError("the configuration cannot be composed", where=str(folder), got=first) from None
    assert isinstance(tree, dict)
    found = {str(name): value for name, value in tree.items() if name != "hydra" and value is not None}
    refuse_interpolation(found, where=str(folder))
    return found, chosen


def _argument(word: str, groups: dict[str, list[str]]) -> str:
    """Return a word of the command line as Hydra takes it. Raises ConfigError for what chooses nothing."""
    key, equals, value = word.partition("=")
    if not equals or not key or key.startswith(("-", "hydra")):
        raise ConfigError("an argument is not of the form key=value", where="command line", got=word,
                          hint=f"{next(iter(groups), 'loss')}=..., training.num_epochs=20, or --help")  # fmt: skip
    if key in groups:
        if value not in groups[key]:
            raise ConfigError(f"there is no {key} of that name", where=key, got=value, hint=hint(value, groups[key]))
        return word
    return f"++{word.lstrip('+')}"


def _groups(folder: Path) -> dict[str, list[str]]:
    return {p.name: sorted(f.stem for f in p.glob("*.yaml")) for p in sorted(folder.iterdir()) if p.is_dir()}


def _listed(folder: Path) -> str:
    if not folder.is_dir():
        return f"there is no folder {folder}"
    return "\n".join(f"  {group}=  {', '.join(options)}" for group, options in _groups(folder).items())


def _say(step: int, what: str, text: str) -> None:
    sys.stdout.write(f"[{step}/7] {what}: {text}\n")
    sys.stdout.flush()


def _data(prepared: Prepared) -> str:
    data = prepared.dataset
    assert data is not None
    return f"{data.source}: {len(data)} samples, {data.columns['x'].shape[-1]} features"


def _split(prepared: Prepared) -> str:
    split = prepared.splits[0]
    parts = {name: len(getattr(split, name)) for name in ("train", "val", "test")}
    return ", ".join(f"{n} {name}" for name, n in parts.items() if n) + f" by rule {split.rule}"


def _results(run: Run) -> str:
    metrics: dict[str, Any] = run.summary["metrics"]
    wanted = [f"{part}_{name}" for part in ("test", "val") for name in ("rmse", "mae", "mape", "r2")]
    return ", ".join(f"{name} {metrics[name]['mean']:.4f}" for name in wanted if name in metrics)
