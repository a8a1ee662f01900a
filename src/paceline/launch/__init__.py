"""Workers: processes on this machine that train one cohort each."""
