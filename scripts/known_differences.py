"""Every difference to other libraries that is known, in words, and how it is measured."""

from collections.abc import Callable
from dataclasses import dataclass

from difference_facts import half_precision, left_behind, no_evidence
from difference_measures import (
    Measure,
    ablation_of_signed_maps,
    checked,
    eigen_sign,
    finer_of_saturated,
    fused,
    guided_interpolation,
    in_place,
    minimum_and_maximum,
    nearest,
    no_relu,
    option,
    relu_functions,
    several,
    shared_module,
    softmax,
    x_grad_cam_of_signed_maps,
)
from difference_settings import Setting

DEMO, RESNET = "demo", "ResNet-18"


@dataclass(frozen=True)
class Difference:
    """One difference.

    Attributes
    ----------
    title, text : str
        What the others do, where in their sources, and what is done here.
    measure : function, optional
        A setting to pairs of maps.
    facts : function, optional
        A setting to sentences.
    on : tuple of str
        The settings that show it.
    """

    title: str
    text: str
    measure: Measure | None = None
    facts: Callable[[Setting], list[str]] | None = None
    on: tuple[str, ...] = (DEMO, RESNET)


SECTIONS: dict[str, list[Difference]] = {
    "From the raw map to the picture": [
        Difference(
            "Captum's Grad-CAM has no ReLU",
            "`LayerGradCam.attribute` (captum/attr/_core/layer/grad_cam.py) has `relu_attributions=False` by default: "
            "the map has both signs. Stretched from its minimum to its maximum, as people draw maps, what is no "
            "evidence becomes half bright. Here ReLU comes first, as in the paper; `relu='none'` with "
            "`normalize='minmax'` gives the signed map. The values themselves are the same.",
            no_relu,
        ),
        Difference(
            "Captum interpolates `nearest`",
            "`LayerAttribution.interpolate` and `GuidedGradCam.attribute` (`interpolate_mode='nearest'`) show the "
            "cells of the layer as blocks. Here bilinear with half-pixel centres, the rule of OpenCV; `interpolation="
            "'nearest'` gives blocks.",
            nearest,
        ),
        Difference(
            "pytorch-grad-cam takes the minimum off",
            "`scale_cam_image` (pytorch_grad_cam/utils/image.py) subtracts the minimum of each map and divides by what "
            "is then the maximum + 1e-7, for all methods and twice. Here Grad-CAM and its kin are divided by their "
            "maximum, so that 0 means no evidence; `normalize='minmax'` is theirs. The two differ only where a map is "
            "positive everywhere, and where its largest value is below 1e-10 or so, as of a probability.",
            minimum_and_maximum,
        ),
    ],
    "What is seen of the model": [
        Difference(
            "What is differentiated is what the module gives",
            "The three libraries differentiate the output of the module: `output[class]` in `ClassifierOutputTarget` "
            "(pytorch_grad_cam/utils/model_targets.py), `scores[:, class_idx]` in `_backprop` (torchcam/methods/"
            "gradient.py). Of a Keras model, or any other that ends in a softmax, that is the probability: its "
            "gradient is that of the logit minus a mixture of those of all logits, and vanishes where the model is "
            "sure. Here it is the logit, unless `of='probability'`.",
            softmax,
            on=(DEMO,),
        ),
        Difference(
            "An in-place operation overwrites what was recorded",
            "The hook of pytorch-grad-cam keeps `activation.cpu().detach()` (activations_and_gradients.py), that of "
            "torch-cam `output.detach()` (methods/core.py, `_hook_a`). On the CPU, and for torch-cam everywhere, that "
            "is the same memory: a ReLU in place behind the layer, as everywhere in torchvision's ResNets, turns the "
            "recorded activations into its own, while the gradients remain those of the layer. Captum and this "
            "package copy. In a cross-check the others are given a copy without in-place operations. Measured at a "
            "BatchNormalization.",
            in_place,
            on=(RESNET,),
        ),
        Difference(
            "A module that is called twice",
            "pytorch-grad-cam appends each call and uses the first (`activations[i]` of the i-th layer), torch-cam and "
            "Captum overwrite and use the last. Here each call has its name, `relu#0` and `relu#1`, and a name that "
            "could be either is an error.",
            shared_module,
            on=(RESNET,),
        ),
        Difference(
            "What is left on the model",
            "`BaseCAM` calls `model.eval()` for good, `zero_grad()` and `loss.backward()`, which throws away the "
            "gradients that a training loop has gathered and fills the `.grad` of all parameters; `AblationCAM` and "
            "`GuidedBackpropReLUModel` exchange modules, and an exception leaves the exchanged ones. Here, after the "
            "call or an exception, everything is as it was; cross-checks hand out copies.",
            facts=left_behind,
            on=(RESNET,),
        ),
        Difference(
            "Half precision",
            "pytorch-grad-cam computes in NumPy, which has no bfloat16. torch-cam and Captum sum in the precision of "
            "the model; here sums over channels and positions are float32.",
            facts=half_precision,
            on=(RESNET,),
        ),
        Difference(
            "No evidence",
            "Where no position speaks for the class, pytorch-grad-cam and torch-cam give zeros, by the small number in "
            "their denominators; here the explanation also has the flag `map is zero everywhere`, and a warning.",
            facts=no_evidence,
            on=(RESNET,),
        ),
    ],
    "Methods that weight channels by gradients": [
        Difference(
            "Grad-CAM++",
            "pytorch-grad-cam adds 1e-6 to the denominator of alpha (grad_cam_plusplus.py): where gradients are under "
            "1e-3, their squares are smaller than that, and alpha grows with the gradient. torch-cam divides "
            "`alpha[idx][mask].div_(...)` (methods/gradient.py), an indexed copy, so that alpha stays the squared "
            "gradient; its denominator would be the sum of the products of the third derivative and the activation, "
            "where equation 19 has the product of the derivative and the sum. Here alpha is equation 19 without "
            "an added number; `variant='official'` divides each channel's alphas by their sum, as the authors' code "
            "does.",
            several(
                checked("gradcam++", "pytorch-grad-cam", "GradCAMPlusPlus", "pytorch-grad-cam"),
                checked("gradcam++", "torch-cam", "GradCAMpp", "torch-cam"),
                option("gradcam++", "variant", "paper", "official"),
            ),
        ),
        Difference(
            "Smooth Grad-CAM++",
            "torch-cam adds noise of a fixed standard deviation of 0.3, whatever the range of the input is, draws it "
            "anew in every call, averages the squares and cubes of the gradients, and multiplies alpha with the "
            "gradient of the last noisy image (`self.hook_g`). Here the noise is a share of each image's range and "
            "seeded, and the first derivative is averaged too. Four samples each.",
            checked("smoothgradcam++", "torch-cam", "SmoothGradCAMpp", "torch-cam"),
        ),
        Difference(
            "XGrad-CAM of signed feature maps",
            "The weight divides by the sum of a channel. pytorch-grad-cam adds 1e-7 to it, torch-cam 1e-8; here "
            "nothing is added, and a channel whose sum is zero up to rounding has weight zero. That matters only where "
            "the sum of a signed channel is of the size of what is added: then weights explode, the map is that of few "
            "channels, and none of the three rules means much.",
            x_grad_cam_of_signed_maps,
            on=(RESNET,),
        ),
        Difference(
            "Finer-CAM",
            "torch-cam takes the mean of the similar classes and gamma 0.6, as the paper and our default; "
            "pytorch-grad-cam weights them by their probabilities, differentiates the weights and takes gamma 1, as "
            "the authors' code and our `variant='official', gamma=1`, with 1e-9 added to the sum of their "
            "probabilities. Where the model is sure, as that of the demo, that is more than the sum, and maps turn "
            "towards their opposite.",
            finer_of_saturated,
        ),
        Difference(
            "LayerCAM of several layers",
            "The paper takes the maximum over the layers of tanh(gamma M / max M). pytorch-grad-cam takes the mean of "
            "the maps of any list of layers (`aggregate_multi_layers` in base_cam.py). torch-cam's `fuse_cams` takes "
            "the maximum of tanh(2 M) without the division by the maximum, which the caller has to have done: of raw "
            "maps, the layer with the larger values wins. Here `fuse_layers` divides.",
            fused,
        ),
    ],
    "Methods that score": [
        Difference(
            "Score-CAM",
            "There are four definitions in use; ours are named variants, and `official`, the authors' code, is the "
            "default. pytorch-grad-cam and torch-cam take logits and a softmax over channels, as our `logit`. Beside "
            "that, pytorch-grad-cam upsamples masks by `UpsamplingBilinear2d`, which is `align_corners=True` "
            "(score_cam.py); torch-cam scales the maps to [0, 1] before it upsamples them, so that masks need not "
            "reach 1 (`_get_weights` in methods/activation.py).",
            several(
                checked("scorecam", "pytorch-grad-cam", "ScoreCAM", "pytorch-grad-cam beside `variant='logit'`"),
                checked("scorecam", "torch-cam", "ScoreCAM", "torch-cam beside `variant='logit'`"),
                option("scorecam", "variant", "official", "logit"),
                option("scorecam", "variant", "official", "paper"),
            ),
        ),
        Difference(
            "SS-CAM",
            "torch-cam draws noise anew for each channel and takes a softmax over channels of the mean logits; here "
            "all channels meet the same noise, and weights are mean probabilities. Ten samples each.",
            checked("sscam", "torch-cam", "SSCAM", "torch-cam"),
            on=(DEMO,),
        ),
        Difference(
            "IS-CAM",
            "torch-cam adds the factors up (`coeff += (sidx + 1) / num_samples` in methods/activation.py), so that the "
            "last of ten masks is 5.5 times as strong as the map in [0, 1]; ours end at 1, `path='cumulative'` is "
            "theirs. It also takes a softmax over channels of logits, where ours are probabilities.",
            several(
                checked("iscam", "torch-cam", "ISCAM", "torch-cam beside `path='cumulative'`"),
                option("iscam", "path", "linear", "cumulative"),
            ),
            on=(DEMO,),
        ),
        Difference(
            "Ablation-CAM",
            "pytorch-grad-cam ablates a channel by 0 only if the smallest value of the layer is exactly 0; otherwise "
            "it puts the minimum - 1e7 there (ablation_layer.py). A ReLU behind the layer, as behind `layer4.1.bn1`, "
            "makes that 0; anything else gets a value with which no net was trained. It divides by the score, as the "
            "paper does, which turns the map into its opposite where the score is negative; here by its magnitude.",
            ablation_of_signed_maps,
        ),
    ],
    "Other methods": [
        Difference(
            "Eigen-CAM",
            "The sign of a principal component is arbitrary. `get_2d_projection` (utils/svd_on_activations.py) of "
            "pytorch-grad-cam takes what the SVD gives; after its ReLU, the wrong sign shows what is left of the map's "
            "opposite. Here the component has a non-negative inner product with the length of the feature vectors. "
            "pytorch-grad-cam centres the channels; the paper and our default do not, `center=True` does.",
            several(eigen_sign, option("eigencam", "center", False, True)),
        ),
        Difference(
            "FullGrad",
            "pytorch-grad-cam scales each channel of each bias map to [0, 1] before the sum, as the paper's formula "
            "and our `variant='paper'`, so that a channel of tiny gradients counts as much as any; the authors' code, "
            "and our default, scale a layer together. pytorch-grad-cam counts the biases of modules that are exactly "
            "`Conv2d` or `BatchNorm2d`, and pairs them with gradients by their order in the module (fullgrad_cam.py).",
            several(
                checked("fullgrad", "pytorch-grad-cam", "FullGrad", "pytorch-grad-cam beside `variant='paper'`"),
                option("fullgrad", "variant", "official", "paper"),
            ),
        ),
        Difference(
            "Guided Grad-CAM",
            "Captum upsamples the map of Grad-CAM by `nearest`; here bilinear.",
            guided_interpolation,
        ),
        Difference(
            "Which ReLUs are guided",
            "Captum (guided_backprop_deconvnet.py) and pytorch-grad-cam (guided_backprop.py) find modules of the class "
            "`nn.ReLU`; `F.relu` and `x.relu()` stay as they are, without a word. Captum's rule is a hook on the input "
            "of the ReLU, and also cuts what reaches that input round the ReLU. Here every ReLU of the forward pass is "
            "guided, and nothing else; a model without any is an error.",
            relu_functions,
            on=(DEMO,),
        ),
        Difference(
            "Attribution at the input",
            "Captum's Saliency, Integrated Gradients and Occlusion explain pixels or squares of pixels, and have no "
            "counterpart among class activation maps. Beside Grad-CAM:",
            several(
                checked("gradcam", "captum", "Saliency", "Saliency"),
                checked("gradcam", "captum", "IntegratedGradients", "IntegratedGradients, 50 steps"),
                checked("gradcam", "captum", "Occlusion", "Occlusion, an eighth of the image"),
            ),
        ),
    ],
}
