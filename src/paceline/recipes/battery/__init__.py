"""Batteries: the state of health of cells from what is measured while they age."""
