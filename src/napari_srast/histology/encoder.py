"""Compute features with the user's own image encoder, such as a pathology foundation model.

Nothing is downloaded: the user provides the network, or its name in timm and a file of weights.

Shape legend: n patches, W width of an embedding, D features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_srast.core.slide import SlideImage
from napari_srast.errors import ModelError, is_memory_error, translate_memory_errors
from napari_srast.histology.features import FeatureLayer, FeatureMap
from napari_srast.histology.streaming_statistics import image_window, level_for

if TYPE_CHECKING:
    import torch

__all__ = ["EncoderFeatures", "load_timm_encoder"]

_PATCHES_PER_PITCH = 4
_BATCH = 32
# Mean and standard deviation of ImageNet, with which most encoders were trained.
_CHANNEL_MEAN, _CHANNEL_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, eq=False)
class EncoderFeatures:
    """Extract principal components of a network's embeddings of patches on a regular grid.

    Parameters
    ----------
    network
        Network or function that maps float tensors (n, 3, side, side), normalized like ImageNet, to embeddings (n, W).
    name
        Name in the provenance of a result.
    side
        Side of a patch in pixels, as the network expects it.
    width
        Side of a patch in pitches.
    n_features
        Number of principal components, D.
    device
        Device that the network runs on.
    """

    network: torch.nn.Module | Callable[[torch.Tensor], torch.Tensor]
    name: str = "encoder"
    side: int = 224
    width: float = 1.0
    n_features: int = 24
    device: str = "cpu"

    def extract(self, image: SlideImage, spots: np.ndarray, pitch: float) -> FeatureMap:
        """Extract the features of an image around the spots.

        Parameters
        ----------
        image
            Multiscale, possibly lazy image.
        spots
            Spot centers in the spots' own frame, shape (N, 2).
        pitch
            Distance between neighboring spots.

        Raises
        ------
        ModelError
            The network does not return one embedding for each patch.
        """
        import torch

        level, pixel = level_for(image, self.width * pitch / self.side)
        stored, to_intrinsic = image.levels[level], image.to_intrinsic[level]
        x0, y0, x1, y1 = image_window(stored.shape, spots, to_intrinsic, pitch / pixel, image.name)
        step = pitch / _PATCHES_PER_PITCH / pixel
        rows, columns = np.arange(y0 + step / 2, y1, step), np.arange(x0 + step / 2, x1, step)
        half = self.width * pitch / pixel / 2
        brightest = 255.0 if stored.dtype == np.uint8 else _brightest(stored)
        mean, deviation = (torch.tensor(v).view(1, 3, 1, 1) for v in (_CHANNEL_MEAN, _CHANNEL_STD))
        if isinstance(self.network, torch.nn.Module):
            self.network.eval().to(self.device)
        embeddings: list[np.ndarray] = []
        patch_centers = [(y, x) for y in rows for x in columns]
        with torch.inference_mode():
            for start in range(0, len(patch_centers), _BATCH):
                patches = [_patch(stored, y, x, half, self.side) for y, x in patch_centers[start : start + _BATCH]]
                batch = (torch.from_numpy(np.stack(patches) / brightest) - mean) / deviation
                out = self.network(batch.to(self.device))
                if not isinstance(out, torch.Tensor) or out.ndim != 2 or len(out) != len(batch):
                    raise ModelError(
                        f"The encoder '{self.name}' must return one embedding for each patch, shape (n, width); wrap "
                        "it so that it averages over tokens."
                    )
                embeddings.append(out.float().cpu().numpy())
        values = _components(np.concatenate(embeddings), self.n_features)
        to_grid = np.diag([1 / step, 1 / step, 1.0])
        to_grid[:2, 2] = -x0 / step, -y0 / step
        layer = FeatureLayer(
            values=np.moveaxis(values.reshape(len(rows), len(columns), -1), -1, 0),
            to_grid=to_grid @ np.linalg.inv(to_intrinsic),
        )
        names = tuple(f"{self.name}_{i}" for i in range(values.shape[1]))
        return FeatureMap(layers=(layer,), names=names, kind="encoded")


@translate_memory_errors("while loading the encoder", "choose a smaller one")
def load_timm_encoder(architecture: str, weights: str | Path) -> torch.nn.Module:
    """Build a timm network and load its weights from a file; requires ``timm``, downloads nothing.

    Parameters
    ----------
    architecture
        Name of the network in timm, such as "vit_large_patch16_224".
    weights
        A ``.safetensors`` file, or a ``.pt`` / ``.pth`` file that contains only tensors.

    Raises
    ------
    ModelError
        timm is not installed, has no network of this name, or the weights do not fit the network.
    DeviceError
        The computer has not enough memory.
    """
    try:
        import timm
    except ImportError as error:
        raise ModelError("Loading an encoder by name requires timm; install it with 'pip install timm'.") from error
    path = Path(weights)
    try:
        network: torch.nn.Module = timm.create_model(architecture, pretrained=False, num_classes=0)
        network.load_state_dict(_read_weights(path))
    except Exception as error:
        if is_memory_error(error):  # not caused by the name or the weights
            raise
        first_line = str(error).partition("\n")[0]
        raise ModelError(
            f"The weights '{path}' cannot be loaded into '{architecture}' ({first_line}); give the name of the "
            "architecture that they were trained with."
        ) from error
    return network


def _read_weights(path: Path) -> dict[str, Any]:
    """Read tensors from a file; files that could run code are rejected."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    import torch

    tensors: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return tensors


def _brightest(stored: Any) -> float:
    """Return the 99.9th percentile of the pixel values, from a sample of at most about 512 pixels a side."""
    step = max(1, int(max(stored.shape[1:]) / 512))
    return max(float(np.percentile(np.asarray(stored[:, ::step, ::step]), 99.9)), 1e-12)


def _patch(stored: Any, y: float, x: float, half: float, side: int) -> np.ndarray:
    """Cut a square patch around (y, x), resampled to the nearest pixels, float32, shape (3, side, side)."""
    offset = (np.arange(side) + 0.5) / side * 2 * half - half
    row = np.clip((y + offset).astype(int), 0, stored.shape[1] - 1)
    column = np.clip((x + offset).astype(int), 0, stored.shape[2] - 1)
    part = np.asarray(stored[:3, row[0] : row[-1] + 1, column[0] : column[-1] + 1], dtype=np.float32)
    part = part if len(part) == 3 else np.repeat(part[:1], 3, axis=0)
    return part[:, row - row[0]][:, :, column - column[0]]


def _components(embeddings: np.ndarray, n_features: int) -> np.ndarray:
    """Compute the leading principal components of embeddings (n, W), float32, shape (n, D)."""
    from sklearn.decomposition import PCA

    n_components = min(n_features, *embeddings.shape)
    return np.asarray(
        PCA(n_components, svd_solver="randomized", random_state=0).fit_transform(embeddings), dtype=np.float32
    )
