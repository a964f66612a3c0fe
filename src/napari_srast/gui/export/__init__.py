"""Export results as files, figures and command lines."""
