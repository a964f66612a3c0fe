"""How good is it: metrics, the protocol on high-resolution slides, and its report."""
