"""Tiny networks trained by the thousand, for the benchmarks that need a truth known by brute force."""

from __future__ import annotations
