"""The two stages, SASA and PCFM, and what surrounds them: programs, calibration, checkpoints."""

from napari_srast.drivers import keep_triton_out

keep_triton_out()  # before anything here loads PyTorch Geometric, also from Python beside a window
