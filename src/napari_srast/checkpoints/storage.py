"""Checkpoints: safetensors only, with their configuration, training record and fleet calibration in the header.

A checkpoint is one file. Shipped ones lie in ``models/checkpoints`` beside a model card of the same name; their sha256
is pinned here, so that a damaged installation is noticed before a number is computed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from napari_srast.calibration.prior import CalibrationPriors
from napari_srast.errors import ModelError, is_memory_error
from napari_srast.models.pcfm.network import DiT, DiTConfig
from napari_srast.models.sasa.config import SasaConfig

__all__ = ["FORMAT", "SHIPPED", "Checkpoint", "describe_checkpoint", "load_checkpoint", "save_checkpoint"]

FORMAT = 4
SHIPPED: Mapping[str, str] = {
    "default": "669972230a1e608708817d7115731f4a4a93ce2352c6238229186e762334e766",
}
"""Names of the shipped checkpoints and their sha256."""
_FOLDER = Path(__file__).parent
_LARGEST_HEADER = 2**22  # bytes; the shipped one has 17,000


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """A trained flow with everything that it needs.

    Parameters
    ----------
    name
        Name, for the provenance.
    sha256
        Of the file.
    network
        The endpoint predictor, in evaluation mode.
    sasa
        Configuration of the graph VAE that it was trained behind.
    priors
        Priors of a slide's calibration.
    record
        How it was trained: recipe, data with licenses, seed, steps, loss.
    """

    name: str
    sha256: str
    network: DiT
    sasa: SasaConfig
    priors: CalibrationPriors
    record: Mapping[str, Any]


def save_checkpoint(
    path: Path, network: DiT, sasa: SasaConfig, priors: CalibrationPriors, record: Mapping[str, Any]
) -> str:
    """Write a checkpoint and return its sha256."""
    header = {
        "format": FORMAT,
        "network": asdict(network.config),
        "sasa": asdict(sasa),
        "fleet": priors.to_dict(),
        "record": dict(record),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    save_file(tensors, part, metadata={"napari_srast": json.dumps(header, sort_keys=True, allow_nan=True)})
    part.replace(path)
    return _sha256(path)


def load_checkpoint(model: str | Path = "default") -> Checkpoint:
    """Load a shipped checkpoint by name, or a file.

    Raises
    ------
    ModelError
        There is no such model, the file cannot be read, is damaged, or is of another format version.
    """
    path = _find(model)
    sha256 = _sha256(path)
    expected = SHIPPED.get(path.stem) if path.parent == _FOLDER else None
    if expected and sha256 != expected:
        raise ModelError(
            f"The shipped model '{path.stem}' is damaged (its checksum differs); install napari-srast again."
        )
    header = _header(path)
    try:
        return Checkpoint(
            name=path.stem,
            sha256=sha256,
            network=_network(path, DiTConfig(**header["network"])),
            sasa=SasaConfig(**header["sasa"]),
            priors=CalibrationPriors.from_dict(header["fleet"]),
            record=dict(header["record"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError, RuntimeError, OSError, SafetensorError) as error:
        if is_memory_error(error):  # the file is not to blame
            raise
        raise ModelError(
            f"The model file '{path.name}' does not fit this version of napari-srast; use a checkpoint made by it."
        ) from error


def _network(path: Path, config: DiTConfig) -> DiT:
    """Build the network that a header asks for and fill it with the file's weights.

    It takes no memory before all names and shapes agree: so it never takes more than the file has.

    Raises
    ------
    ValueError
        The file holds other weights, or some that cannot be used.
    """
    with torch.device("meta"):
        network = DiT(config)
    empty = network.state_dict()
    with safe_open(path, framework="pt") as file:
        parts = {name: file.get_slice(name) for name in file.keys()}
        found = {name: (tuple(part.get_shape()), part.get_dtype()) for name, part in parts.items()}
        if found != {name: (tuple(tensor.shape), "F32") for name, tensor in empty.items()}:
            raise ValueError("other weights")
        # Copies: the file may change, or go, while the network is in use.
        weights = {name: file.get_tensor(name).clone() for name in empty}
    if not all(bool(torch.isfinite(weight).all()) for weight in weights.values()):
        raise ValueError("weights that are not finite")
    if not all(bool((weights[f"{what}_std"] > 0).all()) for what in ("feature", "condition")):
        raise ValueError("a scale that is not positive")
    network.load_state_dict(weights, assign=True)
    return network.eval().requires_grad_(False)


def describe_checkpoint(model: str | Path) -> dict[str, Any]:
    """Return what a checkpoint holds, as plain values, for ``napari-srast info``; refuses what could not be used."""
    path = _find(model)
    header = _header(path)
    load_checkpoint(model)
    return {"name": path.stem, "file_bytes": path.stat().st_size, "sha256": _sha256(path), **header}


def _find(model: str | Path) -> Path:
    name = str(model)
    if name in SHIPPED:
        path = _FOLDER / f"{name}.safetensors"
        if not path.is_file():
            raise ModelError(f"The shipped model '{name}' is missing; install napari-srast again.")
        return path
    path = Path(model)
    if not os.path.isfile(path):  # Path's own raises for a name that is too long
        raise ModelError(
            f"There is no model '{name}'; name a shipped one ({', '.join(SHIPPED)}) or an existing .safetensors file."
        )
    return path


def _header(path: Path) -> dict[str, Any]:
    """Read and check the configuration in a checkpoint's header."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
        if _LARGEST_HEADER < size < path.stat().st_size:
            raise ModelError(
                f"The header of model file '{path.name}' has {size:,} bytes, more than any of napari-srast has; use a "
                "checkpoint made by 'napari-srast train'."
            )
        with safe_open(path, framework="pt") as tensors:
            text = (tensors.metadata() or {}).get("napari_srast")
    except (SafetensorError, OSError) as error:
        if is_memory_error(error):  # the file is not to blame
            raise
        raise ModelError(
            f"The model file '{path.name}' is no readable safetensors file, perhaps damaged; fetch it again."
        ) from error
    if text is None:
        raise ModelError(
            f"The file '{path.name}' is not a napari-srast model; use a checkpoint made by 'napari-srast train'."
        )
    try:
        header = dict(json.loads(text))
    except (TypeError, ValueError, RecursionError) as error:
        raise ModelError(f"The header of model file '{path.name}' is damaged; fetch the file again.") from error
    if header.get("format") != FORMAT:
        raise ModelError(
            f"The model file '{path.name}' has format {str(header.get('format'))[:20]}, but this version reads format "
            f"{FORMAT}; use a checkpoint made for it."
        )
    return header


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        if is_memory_error(error):
            raise
        raise ModelError(
            f"The model file '{path.name}' cannot be read ({error.strerror}); see to its permissions, or copy it here."
        ) from error
