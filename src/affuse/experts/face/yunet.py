"""YuNet in ONNX Runtime, which takes a third of the time that OpenCV's own engine takes for it."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import cv2
import numpy as np

from affuse import weights
from affuse.errors import AssetError
from affuse.experts.protobuf import changed

__all__ = ["YuNetNetwork"]

_STRIDES = (8, 16, 32)  # pixels between the places at which the three maps look for a face
_OUTPUTS = tuple(f"{name}_{stride}" for stride in _STRIDES for name in ("cls", "obj", "bbox", "kps"))

# Where the ONNX format (onnx.proto) keeps the shapes of inputs and outputs: numbers of nested fields.
_GRAPH, _INPUT, _OUTPUT, _TYPE, _TENSOR, _SHAPE, _DIMENSION = 7, 11, 12, 2, 1, 2, 1


class YuNetNetwork:
    """Finds faces in pictures of any size; several threads may ask at once.

    Decoding of the maps follows OpenCV's ``FaceDetectorYN``
    (https://github.com/opencv/opencv/blob/4.x/modules/objdetect/src/face_detect.cpp) and gives the same numbers.

    Parameters
    ----------
    path : Path
        ``face_detection_yunet_2023mar.onnx`` or another export with the same inputs and outputs.
    threshold : float
        Least score of a face, 0…1.
    overlap : float
        Boxes of a larger intersection over union are one face.
    most : int
        Candidates that are compared with each other, the surest.

    Raises
    ------
    AssetError
        If the file is no such network.

    Examples
    --------
    >>> network = YuNetNetwork(weights.find("yunet"), threshold=0.5, overlap=0.3, most=200)
    >>> network(np.zeros((96, 128, 3), dtype=np.uint8)).shape
    (0, 15)
    """

    def __init__(self, path: Path, threshold: float, overlap: float, most: int) -> None:
        self._threshold, self._overlap, self._most = threshold, overlap, most
        try:
            self._session = weights.session(path, change=_of_any_size)
        except AssetError as error:
            raise AssetError(f"{path} cannot be loaded as the face detector YuNet") from error
        if {output.name for output in self._session.get_outputs()} != set(_OUTPUTS):
            raise AssetError(f"{path} cannot be loaded as the face detector YuNet: its outputs are others")
        self._input = self._session.get_inputs()[0].name

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Search one picture.

        Parameters
        ----------
        image : array of shape (h, w, 3), uint8
            RGB.

        Returns
        -------
        array of shape (n, 15), float32
            Box (x, y, width, height), five landmarks (x, y) in pixels, and score.
        """
        below, right = (-side % max(_STRIDES) for side in image.shape[:2])
        padded = cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_CONSTANT)
        # The network learned from pictures as OpenCV reads them: blue, green, red, 0…255.
        maps = self._session.run(list(_OUTPUTS), {self._input: cv2.dnn.blobFromImage(padded, swapRB=True)})
        found = np.concatenate(
            [
                _faces(stride, padded.shape[1] // stride, *(m[0] for m in maps[4 * i : 4 * i + 4]))
                for i, stride in enumerate(_STRIDES)
            ]
        )
        found = found[found[:, 14] >= self._threshold]
        if len(found) < 2:
            return found
        boxes = found[:, :4].astype(int).tolist()  # whole pixels, as FaceDetectorYN compares them
        kept = cv2.dnn.NMSBoxes(boxes, found[:, 14].tolist(), self._threshold, self._overlap, 1.0, self._most)
        return found[np.ravel(kept).astype(int)]


def _faces(
    stride: int, columns: int, face: np.ndarray, centred: np.ndarray, box: np.ndarray, points: np.ndarray
) -> np.ndarray:
    """Candidates (n, 15) of one map: its places run along rows of ``columns``, and its numbers count strides."""
    n = len(face)
    places = np.stack(np.divmod(np.arange(n), columns)[::-1], axis=1).astype(np.float32)  # x, y
    size = np.exp(box[:, 2:]) * stride
    corner = (places + box[:, :2]) * stride - size / 2
    landmarks = ((points.reshape(n, 5, 2) + places[:, None]) * stride).reshape(n, 10)
    score = np.sqrt(np.clip(face, 0, 1) * np.clip(centred, 0, 1))
    return np.concatenate([corner, size, landmarks, score], axis=1)


def _of_any_size(model: bytes) -> bytes:
    """The network without its statement that pictures have 640 pixels a side, which nothing else in it depends on."""
    sides = count()
    model = changed(
        model,
        (_GRAPH, _INPUT, _TYPE, _TENSOR, _SHAPE, _DIMENSION),
        lambda size: b"\x12\x01%d" % next(sides) if len(size) > 2 else size,  # a name for what takes two bytes
    )
    return changed(model, (_GRAPH, _OUTPUT, _TYPE, _TENSOR, _SHAPE), lambda shape: b"")
