"""Evaluation: passes over a split, and the statistics of what they give."""

from __future__ import annotations
