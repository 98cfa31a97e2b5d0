"""Our maps beside those of Captum, pytorch-grad-cam and torch-cam."""

from torchcam_suite.crosscheck.checking import LIBRARIES, crosscheck
from torchcam_suite.crosscheck.result import Comparison, CrossCheck

__all__ = ["LIBRARIES", "Comparison", "CrossCheck", "crosscheck"]
