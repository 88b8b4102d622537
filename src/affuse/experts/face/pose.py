"""Where a head is directed, from five landmarks of its face: of the head, not of the eyes, and rough."""

from __future__ import annotations

import numpy as np

from affuse.experts.face.track import Track

__all__ = ["MOST_PITCH", "MOST_YAW", "head_in_windows", "head_over", "head_pose", "poses_of", "turn_of"]

MOST_YAW = 20.0
"""Degrees to either side within which a head counts as directed at the camera."""

MOST_PITCH = 20.0
"""Degrees up and down, likewise."""

# Right eye, left eye, nose tip, right and left corner of the mouth, in distances between the eyes: x to the right as
# seen, y down, z away from the viewer. x and y lie amid the medians of YuNet's landmarks (`bench/head.py` prints them);
# z is that of the canonical face model of MediaPipe (canonical_face_model.obj, Apache-2.0), to two digits: the nose tip
# stands 0.64 before the middle of the eyes' corners, the corners of the mouth 0.13.
_HEAD = np.array([[-0.5, 0.0, 0.0], [0.5, 0.0, 0.0], [0.0, 0.60, -0.64], [-0.43, 1.05, -0.13], [0.43, 1.05, -0.13]])

# A turn stretches nothing: of a head of exactly these proportions the map to the picture has two equal singular values.
# Of 99 in 100 faces of FER+ they are within a factor of 1.5; landmarks near one line are no face.
_FLATTEST = 0.25

_AFTER = 1e-9  # seconds


def head_pose(landmarks: np.ndarray) -> np.ndarray:
    """Yaw, pitch and roll of heads, from five landmarks each, relative to the line of sight to the face.

    Seen from afar (weak perspective), so that neither the lens nor the size of the picture matters. The direction is
    that of the head; the eyes may look elsewhere. Noses and mouths of other proportions shift the pitch, by 5 to 10
    degrees, for as long as somebody is seen.

    Parameters
    ----------
    landmarks : array of shape (n, 5, 2)
        The person's right eye, left eye, nose tip, right and left corner of the mouth, x and y in pixels.

    Returns
    -------
    array of shape (n, 3)
        Degrees. Yaw is positive where the nose points to the right as seen, pitch where it points up, roll where the
        head is tilted clockwise as seen. NaN where a landmark is unknown, or where they lie nearly on one line.

    Examples
    --------
    A head seen from the front, and one whose nose is farther to the right as seen:

    >>> front = np.array([[100.0, 100], [200, 100], [150, 160], [107, 205], [193, 205]])
    >>> head_pose(np.stack([front, front + [[0, 0], [0, 0], [20, 0], [0, 0], [0, 0]]])).round() + 0.0
    array([[ 0.,  0.,  0.],
           [19.,  0.,  1.]])
    """
    return turn_of(_HEAD, np.asarray(landmarks, dtype=float))


def turn_of(head: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Yaw, pitch and roll of a rigid body whose points are seen from afar.

    The rotation nearest to the affine map from the body to what is seen. Solvers of the perspective problem that
    iterate fall into one of two mirrored turns where proportions do not fit.

    Parameters
    ----------
    head : array of shape (k, 3)
        The points in any unit, not all in one plane: x to the right as seen, y down, z away from the viewer.
    points : array of shape (n, k, 2)
        Where they are seen, x to the right and y down.

    Returns
    -------
    array of shape (n, 3)
        Degrees, as of `head_pose`.

    Examples
    --------
    >>> corner = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]])
    >>> turn_of(corner, 50 * corner[None, :, :2]).round(6) + 0.0
    array([[0., 0., 0.]])
    """
    known = np.isfinite(points).all(axis=(1, 2))
    seen = np.where(known[:, None, None], points, 0.0)
    body = head - head.mean(axis=0)
    affine = np.linalg.solve(body.T @ body, body.T) @ (seen - seen.mean(axis=1, keepdims=True))
    left, sizes, right = np.linalg.svd(affine.transpose(0, 2, 1), full_matrices=False)
    known &= sizes[:, 1] > _FLATTEST * sizes[:, 0]
    across, down = (left @ right).transpose(1, 2, 0)  # two rows of the rotation; the third is their cross product
    into = across[0] * down[1] - across[1] * down[0]  # how far the axis into the body points away from the viewer
    yaw, pitch = np.arctan2(-across[2], into), np.arcsin(np.clip(down[2], -1.0, 1.0))
    angles = np.degrees([yaw, pitch, np.arctan2(down[0], across[0])]).T
    return np.where(known[:, None], angles, np.nan)


def poses_of(track: Track) -> np.ndarray:
    """Seconds, yaw, pitch and roll (m, 4) of every picture of a track; angles are NaN where landmarks tell none."""
    landmarks = np.reshape(track.landmarks, (-1, 5, 2))
    return np.column_stack([np.array(track.times), head_pose(landmarks)])


def head_in_windows(poses: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """What `head_over` says of the pictures in every window; what comes at its very end belongs to the last one alone.

    Parameters
    ----------
    poses : array of shape (m, 4)
        Seconds, in order, and yaw, pitch and roll.
    starts, ends : arrays of shape (n,)
        Seconds.

    Returns
    -------
    array of shape (n, 4)

    Examples
    --------
    >>> poses = np.array([[0.0, 5, 0, 0], [1.0, 50, 0, 0], [2.0, 7, 4, 0]])
    >>> head_in_windows(poses, np.array([0.0, 1.0]), np.array([1.0, 2.0]))
    array([[ 5. ,  0. ,  0. ,  1. ],
           [28.5,  2. ,  0. ,  0.5]])
    """
    first = np.searchsorted(poses[:, 0], starts - _AFTER)
    last = np.searchsorted(poses[:, 0], np.where(ends == ends.max(), ends + _AFTER, ends - _AFTER))
    return np.array([head_over(poses[a:b]) for a, b in zip(first, last, strict=True)])


def head_over(poses: np.ndarray) -> np.ndarray:
    """Median yaw, pitch and roll, and the share of the pictures in which the head is directed at the camera.

    Parameters
    ----------
    poses : array of shape (m, 4)
        Seconds, yaw, pitch and roll; pictures whose angles are NaN do not count.

    Returns
    -------
    array of shape (4,)
        Degrees, and 0…1: the share within `MOST_YAW` and `MOST_PITCH`. NaN where no angles are known.

    Examples
    --------
    >>> head_over(np.array([[0.0, -3.0, 2.0, 1.0], [0.5, 41.0, 0.0, 3.0], [1.0, np.nan, np.nan, np.nan]]))
    array([19. ,  1. ,  2. ,  0.5])
    """
    angles = poses[~np.isnan(poses[:, 1:]).any(axis=1), 1:]
    if not len(angles):
        return np.full(4, np.nan)
    directed = (np.abs(angles[:, 0]) <= MOST_YAW) & (np.abs(angles[:, 1]) <= MOST_PITCH)
    return np.append(np.median(angles, axis=0), directed.mean())
