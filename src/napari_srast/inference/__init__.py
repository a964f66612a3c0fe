"""Run an upsampling: from a request to the tiles of a result.

``runner`` creates a ``job``, an executor prepares its method and predicts its ``tiles``, and a sink collects them.
"""
