"""Import PyTorch Geometric's ``MessagePassing`` without loading Triton, which crashes next to Mesa's OpenGL."""

from napari_srast._utils.triton_guard import block_triton_import

block_triton_import()

from torch_geometric.nn import MessagePassing  # noqa: E402 - this import makes torch import Triton if it is installed

__all__ = ["MessagePassing"]
