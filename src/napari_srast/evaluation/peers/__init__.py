"""Published packages and published ideas that solve the same problem, as baselines of the evaluation."""
