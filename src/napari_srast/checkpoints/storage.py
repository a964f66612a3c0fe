"""Read and write checkpoints: safetensors files with configuration, training record and priors in the header.

A checkpoint is one file. Shipped checkpoints are in this folder, next to a model card of the same name. Their sha256 is
pinned here, so that a damaged installation is detected before anything is computed.
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

from napari_srast.calibration.weight_prior import CalibrationPriors
from napari_srast.errors import ModelError, is_memory_error
from napari_srast.models.pcfm.network import DiT, DiTConfig
from napari_srast.models.sasa.config import SasaConfig

__all__ = ["FORMAT", "SHIPPED", "Checkpoint", "describe_checkpoint", "load_checkpoint", "save_checkpoint"]

FORMAT = 4
SHIPPED: Mapping[str, str] = {
    "default": "669972230a1e608708817d7115731f4a4a93ce2352c6238229186e762334e766",
}
"""Names and checksums (sha256) of the shipped checkpoints."""
_FOLDER = Path(__file__).parent
_MAX_HEADER_BYTES = 2**22  # the shipped checkpoint has 17,000


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """A trained flow with the configuration and priors that it needs.

    Parameters
    ----------
    name
        Name of the model, for the provenance.
    sha256
        Checksum of the file.
    network
        The network of the flow, in evaluation mode.
    sasa
        Configuration of the SASA features that the network was trained with.
    priors
        Priors of a slide's calibration.
    record
        Training record: recipe, data with licenses, seed, steps, loss.
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
    """Write a checkpoint.

    Parameters
    ----------
    path
        Path of the file.
    network, sasa, priors, record
        Content, as for :class:`Checkpoint`.

    Returns
    -------
    str
        Checksum (sha256) of the file.
    """
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
    """Load a checkpoint.

    Parameters
    ----------
    model
        Name of a shipped model, or path of a file.

    Raises
    ------
    ModelError
        The model does not exist, or the file cannot be read, is damaged, or has another format version.
    """
    path = _find(model)
    sha256 = _sha256(path)
    expected = SHIPPED.get(path.stem) if path.parent == _FOLDER else None
    if expected and sha256 != expected:
        raise ModelError(f"The shipped model '{path.stem}' is damaged (its checksum differs); reinstall napari-srast.")
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
        if is_memory_error(error):  # the file itself may be intact
            raise
        raise ModelError(
            f"The model file '{path.name}' does not fit this version of napari-srast; use a checkpoint made by it."
        ) from error


def _network(path: Path, config: DiTConfig) -> DiT:
    """Build the network that a header describes, with the weights of the file.

    Memory is allocated only after all names and shapes agree, so a header cannot request more than the file contains.

    Raises
    ------
    ValueError
        The file has other weights, or invalid ones.
    """
    with torch.device("meta"):
        network = DiT(config)
    empty = network.state_dict()
    with safe_open(path, framework="pt") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}
        actual = {name: (tuple(one.get_shape()), one.get_dtype()) for name, one in slices.items()}
        if actual != {name: (tuple(tensor.shape), "F32") for name, tensor in empty.items()}:
            raise ValueError("the file has other weights")
        # Copies, because the file may change or disappear while the network is in use.
        weights = {name: file.get_tensor(name).clone() for name in empty}
    if not all(bool(torch.isfinite(weight).all()) for weight in weights.values()):
        raise ValueError("a weight is not finite")
    if not all(bool((weights[f"{what}_std"] > 0).all()) for what in ("feature", "condition")):
        raise ValueError("a scale is not positive")
    network.load_state_dict(weights, assign=True)
    return network.eval().requires_grad_(False)


def describe_checkpoint(model: str | Path) -> dict[str, Any]:
    """Describe a checkpoint as plain values; raises the errors of :func:`load_checkpoint`."""
    path = _find(model)
    header = _header(path)
    load_checkpoint(model)
    return {"name": path.stem, "file_bytes": path.stat().st_size, "sha256": _sha256(path), **header}


def _find(model: str | Path) -> Path:
    name = str(model)
    if name in SHIPPED:
        path = _FOLDER / f"{name}.safetensors"
        if not path.is_file():
            raise ModelError(f"The shipped model '{name}' is missing; reinstall napari-srast.")
        return path
    path = Path(model)
    if not os.path.isfile(path):  # Path.is_file raises for a name that is too long
        raise ModelError(
            f"There is no model '{name}'; name a shipped one ({', '.join(SHIPPED)}) or an existing .safetensors file."
        )
    return path


def _header(path: Path) -> dict[str, Any]:
    """Read and validate the header of a checkpoint."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
        if _MAX_HEADER_BYTES < size < path.stat().st_size:
            raise ModelError(
                f"The header of model file '{path.name}' has {size:,} bytes, more than any napari-srast model; use a "
                "checkpoint made by 'napari-srast train'."
            )
        with safe_open(path, framework="pt") as tensors:
            text = (tensors.metadata() or {}).get("napari_srast")
    except (SafetensorError, OSError) as error:
        if is_memory_error(error):  # the file itself may be intact
            raise
        raise ModelError(
            f"The model file '{path.name}' is not a readable safetensors file and may be damaged; download it again."
        ) from error
    if text is None:
        raise ModelError(
            f"The file '{path.name}' is not a napari-srast model; use a checkpoint made by 'napari-srast train'."
        )
    try:
        header = dict(json.loads(text))
    except (TypeError, ValueError, RecursionError) as error:
        raise ModelError(f"The header of model file '{path.name}' is damaged; download the file again.") from error
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
            f"The model file '{path.name}' cannot be read ({error.strerror}); check its permissions, or copy the "
            "file to this computer."
        ) from error
