"""Checkpoints: safetensors only, with their configuration, training record and fleet calibration in the header.

A checkpoint is one file. Shipped ones lie in ``models/checkpoints`` beside a model card of the same name; their sha256
is pinned here, so that a damaged installation is noticed before a number is computed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from napari_srast.errors import ModelError
from napari_srast.models.fleet import Fleet
from napari_srast.models.pcfm.network import DiT, DiTConfig
from napari_srast.models.sasa import SasaConfig

__all__ = ["FORMAT", "SHIPPED", "Checkpoint", "describe_checkpoint", "load_checkpoint", "save_checkpoint"]

FORMAT = 4
SHIPPED: Mapping[str, str] = {
    "default": "a41bcc97034cdf07795f6623b42963ce35b020412cee8073e62d3ab0cb50470a",
}
"""Names of the shipped checkpoints and their sha256."""
_FOLDER = Path(__file__).parent / "checkpoints"


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
    fleet
        The prior of a slide's calibration.
    record
        How it was trained: recipe, data with licences, seed, steps, loss.
    """

    name: str
    sha256: str
    network: DiT
    sasa: SasaConfig
    fleet: Fleet
    record: Mapping[str, Any]


def save_checkpoint(path: Path, network: DiT, sasa: SasaConfig, fleet: Fleet, record: Mapping[str, Any]) -> str:
    """Write a checkpoint and return its sha256."""
    header = {
        "format": FORMAT,
        "network": asdict(network.config),
        "sasa": asdict(sasa),
        "fleet": fleet.to_dict(),
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
        There is no such model, the file is damaged, or it is of another format version.
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
        fleet = Fleet.from_dict(header["fleet"])
        network = DiT(DiTConfig(**header["network"]))
        network.load_state_dict(load_file(path))
        if not all(bool(torch.isfinite(weight).all()) for weight in network.state_dict().values()):
            raise ValueError("weights that are not finite")
        return Checkpoint(
            name=path.stem,
            sha256=sha256,
            network=network.eval().requires_grad_(False),
            sasa=SasaConfig(**header["sasa"]),
            fleet=fleet,
            record=header["record"],
        )
    except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"The model file '{path.name}' does not fit this version of napari-srast; use a checkpoint made by it."
        ) from error


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
    if not path.is_file():
        raise ModelError(
            f"There is no model '{name}'; name a shipped one ({', '.join(SHIPPED)}) or an existing .safetensors file."
        )
    return path


def _header(path: Path) -> dict[str, Any]:
    """Read and check the configuration in a checkpoint's header."""
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("napari_srast")
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"The model file '{path.name}' is no readable safetensors file, perhaps damaged; fetch it again."
        ) from error
    if text is None:
        raise ModelError(
            f"The file '{path.name}' is not a napari-srast model; use a checkpoint made by 'napari-srast train'."
        )
    try:
        header = dict(json.loads(text))
    except (TypeError, ValueError) as error:
        raise ModelError(f"The header of model file '{path.name}' is damaged; fetch the file again.") from error
    if header.get("format") != FORMAT:
        raise ModelError(
            f"The model file '{path.name}' has format {header.get('format')}, but this version reads format {FORMAT}; "
            "use a checkpoint made for it."
        )
    return header


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
