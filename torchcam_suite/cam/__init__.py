"""Class activation maps: each method a small pure function of what was recorded, and of what it asks for."""

from torchcam_suite.cam.gradient import grad_cam
from torchcam_suite.cam.method import METHODS, Chosen, Method, make_method
from torchcam_suite.cam.saliency_map import Finished, finish
from torchcam_suite.cam.score import VARIANTS, ScoreCam, ScoreCamVariant, score_cam

__all__ = [
    "METHODS",
    "VARIANTS",
    "Chosen",
    "Finished",
    "Method",
    "ScoreCam",
    "ScoreCamVariant",
    "finish",
    "grad_cam",
    "make_method",
    "score_cam",
]
