"""Data sets in memory, splits as values, fingerprints, scaling on the training part, the audit, and loaders.

Import the modules: `paceline.data.dataset`, `.split`, `.fingerprint`, `.scale`, `.audit`, `.config`, `.loader`.
"""
