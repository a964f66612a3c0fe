"""Integer lattice coordinates (nodes) of spots."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_srast.geometry.lattice import Lattice, lattice_vectors

__all__ = ["LatticeFrame", "lattice_frame"]


@dataclass(frozen=True, eq=False)
class LatticeFrame:
    """Nodes of spots on a lattice, and the affine map between nodes and positions.

    Parameters
    ----------
    nodes
        Node of each spot, int64, shape (N, 2).
    origin
        Position of node (0, 0), shape (2,).
    basis
        The two lattice vectors as rows, shape (2, 2); on hexagonal lattices 60 degrees apart, up to a stretch.
    """

    nodes: np.ndarray
    origin: np.ndarray
    basis: np.ndarray

    def to_nodes(self, points: np.ndarray) -> np.ndarray:
        """Return the fractional node coordinates of positions (n, 2)."""
        return np.asarray((points - self.origin) @ np.linalg.inv(self.basis))

    def to_positions(self, nodes: np.ndarray) -> np.ndarray:
        """Return the positions of node coordinates (n, 2)."""
        return np.asarray(self.origin + nodes @ self.basis)


def lattice_frame(centers: np.ndarray, lattice: Lattice) -> LatticeFrame:
    """Fit the nodes of spots on a square or hexagonal lattice.

    The fit is affine, because arrays are often stretched by about 1%. It grows from the middle outwards, so that errors
    of the pitch never accumulate to a wrong node.

    Parameters
    ----------
    centers
        Spot centers, shape (N, 2).
    lattice
        Lattice of the spots, square or hexagonal.
    """
    points = np.asarray(centers, dtype=float)
    order = np.lexsort(points.T)
    middle = order[np.argmin(np.sum((points[order] - np.median(points, axis=0)) ** 2, axis=1))]
    origin = points[middle]
    basis = lattice_vectors(lattice.pitch, lattice.angle, hexagonal=lattice.kind == "hex")
    from_middle = np.sqrt(np.sum((points - origin) ** 2, axis=1))
    reach = 4.0 * lattice.pitch
    while True:
        near = from_middle <= reach
        nodes = np.rint((points - origin) @ np.linalg.inv(basis))
        design = np.column_stack([nodes[near], np.ones(near.sum())])
        solution, _, rank, _ = np.linalg.lstsq(design, points[near], rcond=None)
        if rank == 3:  # not all on one line
            basis, origin = solution[:2], solution[2]
        if reach > from_middle.max():
            break
        reach *= 1.5
    nodes = np.rint((points - origin) @ np.linalg.inv(basis)).astype(np.int64)
    return LatticeFrame(nodes, origin, basis)
