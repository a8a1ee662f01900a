"""Where records go: the journal in the run folder is the truth, trackers get the same values in the background."""
