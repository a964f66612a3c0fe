"""Score methods on high-resolution slides: metrics, protocol, report, and a benchmark of the features."""
