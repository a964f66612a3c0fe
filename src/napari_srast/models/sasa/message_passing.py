"""PyTorch Geometric, loaded so that a window may lie beside it."""

from napari_srast._utils.triton_guard import keep_triton_out

keep_triton_out()

from torch_geometric.nn import MessagePassing  # noqa: E402 - has torch import Triton, where that is installed

__all__ = ["MessagePassing"]
