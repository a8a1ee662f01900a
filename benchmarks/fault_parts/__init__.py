"""The rows of the fault benchmark: one module for each kind of fault. The tests call them with small numbers."""

from __future__ import annotations
