"""Optimizers, clipping and learning-rate schedules. The sections (`config`) import no torch."""
