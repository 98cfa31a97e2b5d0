"""Class activation maps: each method a small pure function of activations, gradients and scores."""

from torchcam_suite.cam.gradient import grad_cam
from torchcam_suite.cam.saliency_map import Finished, finish
from torchcam_suite.cam.score import VARIANTS, ScoreCam, ScoreCamVariant, score_cam

__all__ = ["VARIANTS", "Finished", "ScoreCam", "ScoreCamVariant", "finish", "grad_cam", "score_cam"]
