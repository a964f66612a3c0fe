"""Features of a user's own image encoder, such as a pathology foundation model that the user has weights of.

Nothing is downloaded: the network, or its name in timm and a file of weights, comes from the user. Shape legend: n
patches, W width of the embedding, D features kept.
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
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, which most encoders were trained with


@dataclass(frozen=True, eq=False)
class EncoderFeatures:
    """Principal components of a network's embeddings of patches around the places of a grid.

    Parameters
    ----------
    network
        Takes float tensors (n, 3, side, side), normalized as ImageNet is, and returns embeddings (n, W).
    name
        Name for the provenance.
    side
        Side of a patch in pixels, as the network expects it.
    width
        Side of a patch in pitches.
    n_features
        Components kept, D.
    device
        Where the network runs.
    """

    network: torch.nn.Module | Callable[[torch.Tensor], torch.Tensor]
    name: str = "encoder"
    side: int = 224
    width: float = 1.0
    n_features: int = 24
    device: str = "cpu"

    def extract(self, image: SlideImage, spots: np.ndarray, pitch: float) -> FeatureMap:
        """Return the features of an image around spots (N, 2) that lie ``pitch`` apart.

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
        span = 255.0 if stored.dtype == np.uint8 else _brightest(stored)
        mean, deviation = (torch.tensor(v).view(1, 3, 1, 1) for v in (_MEAN, _DEVIATION))
        if isinstance(self.network, torch.nn.Module):
            self.network.eval().to(self.device)
        found: list[np.ndarray] = []
        places = [(y, x) for y in rows for x in columns]
        with torch.inference_mode():
            for start in range(0, len(places), _BATCH):
                patches = [_patch(stored, y, x, half, self.side) for y, x in places[start : start + _BATCH]]
                batch = (torch.from_numpy(np.stack(patches) / span) - mean) / deviation
                out = self.network(batch.to(self.device))
                if not isinstance(out, torch.Tensor) or out.ndim != 2 or len(out) != len(batch):
                    raise ModelError(
                        f"The encoder '{self.name}' must return one embedding for each patch, shape (n, width); wrap "
                        "it so that it pools over tokens."
                    )
                found.append(out.float().cpu().numpy())
        values = _components(np.concatenate(found), self.n_features)
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
    """Build a network of timm and load weights from a file; needs ``timm``, downloads nothing.

    Parameters
    ----------
    architecture
        Its name in timm, such as "vit_large_patch16_224".
    weights
        A ``.safetensors`` file, or a ``.pt`` / ``.pth`` file that holds tensors only.

    Raises
    ------
    ModelError
        timm is missing, does not know the name, or the weights do not fit.
    DeviceError
        This computer's memory is full.
    """
    try:
        import timm
    except ImportError as error:
        raise ModelError("An encoder by name needs timm; install it with 'pip install timm'.") from error
    path = Path(weights)
    try:
        network: torch.nn.Module = timm.create_model(architecture, pretrained=False, num_classes=0)
        network.load_state_dict(_read_weights(path))
    except Exception as error:
        if is_memory_error(error):  # neither the name nor the weights are to blame
            raise
        first_line = str(error).partition("\n")[0]
        raise ModelError(
            f"The weights '{path}' cannot be loaded into '{architecture}' ({first_line}); give the name that they were "
            "trained under."
        ) from error
    return network


def _read_weights(path: Path) -> dict[str, Any]:
    """Read tensors; files that could run code are refused."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    import torch

    found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return found


def _brightest(stored: Any) -> float:
    step = max(1, int(max(stored.shape[1:]) / 512))
    return max(float(np.percentile(np.asarray(stored[:, ::step, ::step]), 99.9)), 1e-12)


def _patch(stored: Any, y: float, x: float, half: float, side: int) -> np.ndarray:
    """Cut a square around a place, red, green and blue, nearest pixels, float32 (3, side, side)."""
    offset = (np.arange(side) + 0.5) / side * 2 * half - half
    row = np.clip((y + offset).astype(int), 0, stored.shape[1] - 1)
    column = np.clip((x + offset).astype(int), 0, stored.shape[2] - 1)
    part = np.asarray(stored[:3, row[0] : row[-1] + 1, column[0] : column[-1] + 1], dtype=np.float32)
    part = part if len(part) == 3 else np.repeat(part[:1], 3, axis=0)
    return part[:, row - row[0]][:, :, column - column[0]]


def _components(embeddings: np.ndarray, n_features: int) -> np.ndarray:
    """Return the leading principal components of embeddings (n, W), float32 (n, D)."""
    from sklearn.decomposition import PCA

    kept = min(n_features, *embeddings.shape)
    return np.asarray(PCA(kept, svd_solver="randomized", random_state=0).fit_transform(embeddings), dtype=np.float32)
