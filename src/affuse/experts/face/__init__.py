"""Faces: detection, tracking, cropping and the expert that reads expressions."""

from affuse.experts.face.crop import Framing, crop_face
from affuse.experts.face.detect import Detections, FaceDetector, HaarDetector, YuNetDetector, default_detector
from affuse.experts.face.expert import FaceExpert
from affuse.experts.face.track import Track, Tracker
from affuse.experts.face.watch import FaceWatch

__all__ = [
    "Detections",
    "FaceDetector",
    "FaceExpert",
    "FaceWatch",
    "Framing",
    "HaarDetector",
    "Track",
    "Tracker",
    "YuNetDetector",
    "crop_face",
    "default_detector",
]
