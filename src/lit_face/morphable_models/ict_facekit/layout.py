"""What the release does not say: closing faces, one UV a vertex, regions.

Ranges of vertices and faces are those of the released mesh.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.sparse import coo_matrix
from scipy.sparse.linalg import spsolve

from lit_face.morphable_models.ict_facekit.files import ICTArrays

Array = NDArray[Any]

# Vertices kept: skin, gums and tongue, teeth, eyeballs; lashes and transparent layers are left out.
VERTICES, FACES = 24591, 48836
PARTS = {
    "face": (0, 9409), "head_neck": (9409, 11248), "mouth_socket": (11248, 13294),
    "eye_sockets": (13294, 14062), "gums_tongue": (14062, 17039), "teeth": (17039, 21451),
    "eyeball_left": (21451, 23021), "eyeball_right": (23021, 24591),
}  # fmt: skip
NARROW_VERTICES, NARROW_FACES = 6706, 13120
FACE_FACES = 18460
_OUTLINE_LOOP = 138
_MARGIN = 0.04
# Monotone stretching of the flattened face: eyes, nose and mouth get more room, neck less.
_STRETCH_U = ((0.0, 0.04, 0.34, 0.5, 0.66, 0.96, 1.0), (0.0, 0.04, 0.28, 0.5, 0.72, 0.96, 1.0))
_STRETCH_V = ((0.0, 0.04, 0.30, 0.83, 0.96, 1.0), (0.0, 0.04, 0.16, 0.86, 0.96, 1.0))
_STRETCHES = (_STRETCH_U, _STRETCH_V)


def boundary_loops(faces: Array) -> list[Array]:
    """Return the closed boundary loops of a manifold mesh, longest first."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    known = {(int(a), int(b)) for a, b in edges}
    following = {a: b for a, b in known if (b, a) not in known}
    loops = []
    while following:
        start, vertex = next(iter(following.items()))
        loop = [start]
        del following[start]
        while vertex != start:
            loop.append(vertex)
            vertex = following.pop(vertex)
        loops.append(np.array(loop))
    return sorted(loops, key=len, reverse=True)


def closing_faces(neutral: Array, faces: Array) -> Array:
    """Triangles (G,3) that close the mouth and the eyes of the narrow face."""
    loops = boundary_loops(faces[:NARROW_FACES])[1:]
    return np.concatenate([_strip(neutral, loop) for loop in loops])


def _strip(points: Array, loop: Array) -> Array:
    """Fill a loop by a strip between its upper and its lower side, seen from the front."""
    x = points[loop, 0]
    loop = np.roll(loop, -int(np.argmin(x)))
    turn = int(np.argmax(points[loop, 0]))
    first, second = loop[: turn + 1], np.append(loop[:1], loop[: turn - 1 : -1])
    triangles, i, j = [], 0, 0
    while i < len(first) - 1 or j < len(second) - 1:
        if j == len(second) - 1 or (
            i < len(first) - 1 and points[first[i + 1], 0] <= points[second[j + 1], 0]
        ):
            triangles.append((first[i], first[i + 1], second[j]))
            i += 1
        else:
            triangles.append((first[i], second[j + 1], second[j]))
            j += 1
    strip = np.array([t for t in triangles if len(set(t)) == 3])
    a, b, c = points[strip[:, 0]], points[strip[:, 1]], points[strip[:, 2]]
    outward = np.cross(b - a, c - a)[:, 2].sum() > 0
    return strip if outward else strip[:, ::-1]


def uv_coordinates(model: ICTArrays, closed: Array) -> Array:
    """UV (V,2): the narrow face fills the map, with its eyes and mouth open.

    The released layout leaves slits where the eyes are. The narrow face, closed, is flattened anew
    within its released outline by mean value coordinates (Floater 2003); ears and forehead share
    the margin; what is inside the head goes to a corner.
    """
    tile = np.zeros((VERTICES, 2))
    corners, texture = model.faces[:FACE_FACES], model.uv_faces[:FACE_FACES]
    tile[corners] = model.uv[texture]
    outline = boundary_loops(model.faces[:NARROW_FACES])[0]
    low, high = tile[outline].min(0), tile[outline].max(0)
    uv = np.stack(
        [
            np.interp(tile[:, i], [0, low[i], high[i], 1], [0, _MARGIN, 1 - _MARGIN, 1])
            for i in range(2)
        ],
        axis=1,
    )
    uv[PARTS["face"][1] :] = [0.995, 0.005]
    faces = np.concatenate([model.faces[:NARROW_FACES], closed])
    uv[:NARROW_VERTICES] = _flatten(model.neutral, faces, outline, uv[outline])
    stretched = [PchipInterpolator(*curve)(uv[:, i]) for i, curve in enumerate(_STRETCHES)]
    return np.stack(stretched, axis=1)


def _flatten(points: Array, faces: Array, pinned: Array, places: Array) -> Array:
    """Mean value embedding of a disk: every free vertex is an average of its neighbours."""
    row, column, weight = [], [], []
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        a, b, c = (points[faces[:, n]].astype(np.float64) for n in (i, j, k))
        to_b, to_c = b - a, c - a
        length_b, length_c = np.linalg.norm(to_b, axis=1), np.linalg.norm(to_c, axis=1)
        cosine = (to_b * to_c).sum(1) / (length_b * length_c)
        half = np.tan(np.arccos(np.clip(cosine, -1, 1)) / 2)
        row += [faces[:, i], faces[:, i]]
        column += [faces[:, j], faces[:, k]]
        weight += [half / length_b, half / length_c]
    count = NARROW_VERTICES
    entries = np.concatenate(weight), (np.concatenate(row), np.concatenate(column))
    average = coo_matrix(entries, shape=(count, count)).tocsr()
    total = np.asarray(average.sum(1))[:, 0]
    free = np.setdiff1d(np.arange(count), pinned)
    inner = coo_matrix((total[free], (range(len(free)), range(len(free))))) - average[free][:, free]
    fixed = average[free][:, pinned] @ places
    uv = np.zeros((count, 2))
    uv[pinned] = places
    uv[free] = spsolve(inner.tocsc(), fixed)
    return uv


def regions(neutral_mm: Array, landmarks: Array) -> dict[str, Array]:
    """Region weights (V,) in [0,1] by name: parts of the release, features by their landmarks."""
    face = np.zeros(VERTICES)
    face[:NARROW_VERTICES] = 1.0

    def around(points: slice, across: float, up: float) -> Array:
        box = neutral_mm[landmarks[points], :2]
        reach = np.array([across, up])
        low, high = box.min(0) - reach, box.max(0) + reach
        middle, half = (low + high) / 2, (high - low) / 2
        radius = (((neutral_mm[:, :2] - middle) / half) ** 4).sum(1)
        return np.asarray(np.clip(3 * (1 - radius) + 0.5, 0, 1) * face)

    eyes = np.maximum(around(slice(36, 42), 8, 8), around(slice(42, 48), 8, 8))
    skin = np.zeros(VERTICES)
    skin[: PARTS["head_neck"][1]] = 1.0
    inside = np.zeros(VERTICES)
    for part in ("mouth_socket", "gums_tongue", "teeth"):
        inside[slice(*PARTS[part])] = 1.0
    balls = np.zeros(VERTICES)
    balls[PARTS["eyeball_left"][0] : PARTS["eyeball_right"][1]] = 1.0
    return {
        "face": face,
        "eyes": eyes,
        "nose": around(slice(27, 36), 8, 5),
        "mouth": around(slice(48, 68), 6, 6),
        "skin": skin,
        "mouth_interior": inside,
        "eyeballs": balls,
    }
