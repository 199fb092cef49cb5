"""The lab: configurations, the work directory, the stages of a run, and its report."""
