"""Configuration: the base section, composition by Hydra groups, nearest-name suggestions. Imports no torch."""

from paceline.config.section import Section
from paceline.config.suggest import nearest

__all__ = ["Section", "nearest"]
