"""Structure-aware semantic alignment (SASA): embed the spots of one slide without labels.

``config`` holds sizes and training options. ``fitting`` runs the whole fit: principal components, dual-topology graph,
training, Latent Norm. ``graph_vae`` is the network, ``message_passing`` imports its base class safely, and
``negative_binomial`` is its count likelihood. ``embedding`` is the result: latents of all spots, gene loadings and a
denoiser of fields. ``procrustes`` rotates the embeddings of several slides into common coordinates.
"""
