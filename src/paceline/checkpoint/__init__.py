"""Checkpoints: nested tensors written durably, verified by SHA-256, loaded without running code."""

from __future__ import annotations
