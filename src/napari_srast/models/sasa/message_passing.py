"""PyTorch Geometric, loaded so that a window may lie beside it."""

from napari_srast._utils.triton_guard import block_triton_import

block_triton_import()

from torch_geometric.nn import MessagePassing  # noqa: E402 - has torch import Triton, where that is installed

__all__ = ["MessagePassing"]
