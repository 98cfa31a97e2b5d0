"""Class activation maps: each method a small pure function of what was recorded, and of what it asks for."""

from torchcam_suite.cam.ablation import ablation_cam, recipro_cam
from torchcam_suite.cam.class_activation_map import class_activation_map
from torchcam_suite.cam.eigen import eigen_cam, eigen_grad_cam
from torchcam_suite.cam.finer import finer_cam
from torchcam_suite.cam.full_grad import full_grad
from torchcam_suite.cam.grad_cam_plus_plus import grad_cam_plus_plus, smooth_grad_cam_plus_plus
from torchcam_suite.cam.gradient import element_wise_grad_cam, grad_cam, hi_res_cam, x_grad_cam
from torchcam_suite.cam.group import group_cam
from torchcam_suite.cam.guided import guided_backprop, guided_grad_cam
from torchcam_suite.cam.layercam import fuse_layers, layer_cam
from torchcam_suite.cam.method import METHODS, Chosen, Method, make_method
from torchcam_suite.cam.random_map import random_map
from torchcam_suite.cam.rise import rise
from torchcam_suite.cam.saliency_map import Finished, finish
from torchcam_suite.cam.score import VARIANTS, ScoreCam, ScoreCamVariant, score_cam
from torchcam_suite.cam.score_variations import faster_score_cam, is_cam, ss_cam

__all__ = [
    "METHODS",
    "VARIANTS",
    "Chosen",
    "Finished",
    "Method",
    "ScoreCam",
    "ScoreCamVariant",
    "ablation_cam",
    "class_activation_map",
    "eigen_cam",
    "eigen_grad_cam",
    "element_wise_grad_cam",
    "faster_score_cam",
    "finer_cam",
    "finish",
    "full_grad",
    "fuse_layers",
    "grad_cam",
    "grad_cam_plus_plus",
    "group_cam",
    "guided_backprop",
    "guided_grad_cam",
    "hi_res_cam",
    "is_cam",
    "layer_cam",
    "make_method",
    "random_map",
    "recipro_cam",
    "rise",
    "score_cam",
    "smooth_grad_cam_plus_plus",
    "ss_cam",
    "x_grad_cam",
]
