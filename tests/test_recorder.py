"""The recorder captures what autograd computes, and leaves the module as it found it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from recorder_nets import SITES, Net, full_autograd, make_images, make_net, state_of
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from torchcam_suite.errors import GradientError, LayerError
from torchcam_suite.recorder import Recorder, Site


def succeed(net: Net) -> None:
    with Recorder(net, SITES, gradients=True) as recorder:
        recorder.gradients(recorder.run(net, make_images())[:, 1].sum())


def ask_for_a_class_that_is_not_there(net: Net) -> None:
    with Recorder(net, SITES, gradients=True) as recorder:
        recorder.gradients(recorder.run(net, make_images())[:, 9].sum())


def fail_in_the_model(net: Net) -> None:
    with Recorder(net, SITES, gradients=True) as recorder:
        recorder.run(net, torch.zeros(1, 3, 1, 1, dtype=torch.float64))


def interrupt(net: Net) -> None:
    def forward(images: Tensor) -> Tensor:
        net(images)
        raise KeyboardInterrupt

    with Recorder(net, SITES, gradients=True) as recorder:
        recorder.run(forward, make_images())


def misspell_a_layer(net: Net) -> None:
    with Recorder(net, [*SITES, Site("lost")], gradients=True):
        pass


def miss_a_call(net: Net) -> None:
    with Recorder(net, [Site("shared", 3)]) as recorder:
        recorder.run(net, make_images())


def fail_in_a_replacement(net: Net) -> None:
    with Recorder(net, replace={Site("last"): lambda output: output.view(0)}) as recorder:
        recorder.run(net, make_images())


@pytest.mark.parametrize("caller", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize(
    ("use", "error"),
    [
        (succeed, None),
        (ask_for_a_class_that_is_not_there, IndexError),
        (fail_in_the_model, RuntimeError),
        (interrupt, KeyboardInterrupt),
        (misspell_a_layer, LayerError),
        (miss_a_call, LayerError),
        (fail_in_a_replacement, RuntimeError),
    ],
)
def test_the_module_is_left_as_it_was(
    use: Callable[[Net], None], error: type[BaseException] | None, caller: Callable[[], Any]
) -> None:
    net = make_net().train()
    net.stem[1].eval()
    net.stem.training = False
    for parameter in net.shared.parameters():
        parameter.requires_grad_(False)
    with caller():
        before = state_of(net)
        assert before["hooks"] == 0
        assert len(set(before["training"])) == len(set(before["requires_grad"])) == 2
        if error is None:
            use(net)
        else:
            with pytest.raises(error):
                use(net)
        assert state_of(net) == before


def test_hooks_and_grad_fields_of_others_are_untouched() -> None:
    net = make_net()
    net(make_images()).sum().backward()
    before = [None if parameter.grad is None else parameter.grad.clone() for parameter in net.parameters()]
    calls: list[int] = []
    with net.last.register_forward_hook(lambda *_: calls.append(1)):
        succeed(net)
        assert state_of(net)["hooks"] == 1
    assert calls == [1]
    for parameter, gradient in zip(net.parameters(), before, strict=True):
        assert parameter.grad is None if gradient is None else torch.equal(parameter.grad, gradient)


def test_inside_the_block_the_model_is_in_eval_mode_and_its_parameters_are_frozen() -> None:
    net = make_net().train()
    with Recorder(net, SITES, gradients=True):
        assert not any(module.training for module in net.modules())
        assert not any(parameter.requires_grad for parameter in net.parameters())
        assert state_of(net)["hooks"] == 0


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("caller", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_activations_and_gradients_are_those_of_plain_autograd(caller: Callable[[], Any], frozen: bool) -> None:
    net = make_net()
    expected, expected_gradients = full_autograd(net, make_images(), target=2)
    net.requires_grad_(not frozen)
    with caller():
        # Made here, it is an inference tensor under inference_mode.
        images = make_images()
        with Recorder(net, SITES, gradients=True) as recorder:
            gradients = recorder.gradients(recorder.run(net.logits, images)[:, 2].sum())
    assert list(recorder.activations) == list(gradients) == SITES
    for site in SITES:
        assert expected[site].std() > 1e-2
        assert expected_gradients[site].std() > 1e-5
        torch.testing.assert_close(recorder.activations[site], expected[site].detach(), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(gradients[site], expected_gradients[site], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("gradients", [False, True])
def test_an_in_place_operation_after_the_layer_does_not_alter_what_was_captured(gradients: bool) -> None:
    net = make_net()
    with Recorder(net, [Site("last"), Site("stem.1")], gradients=gradients) as recorder:
        output = recorder.run(net, make_images())
    assert all(activation.min() < 0 for activation in recorder.activations.values())
    torch.testing.assert_close(output, net(make_images()))


class PassThrough(nn.Module):
    """A layer that returns its very input, which the model overwrites afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.tap = nn.Identity(), nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        x = self.first(images) * 2
        tapped = self.tap(x) * 1
        x.zero_()
        return (tapped**2).sum()


@pytest.mark.parametrize("sites", [[Site("tap")], [Site("first"), Site("tap")]])
def test_a_later_write_to_a_tensor_that_the_layer_passed_through_does_not_alter_it(sites: list[Site]) -> None:
    net, images = PassThrough(), make_images()
    with Recorder(net, sites, gradients=True) as recorder:
        gradients = recorder.gradients(recorder.run(net, images))
    torch.testing.assert_close(recorder.activations[Site("tap")], 2 * images)
    torch.testing.assert_close(gradients[Site("tap")], 4 * images)


def test_images_made_in_inference_mode_can_meet_the_explained_layer_again() -> None:
    net = PassThrough()
    with torch.inference_mode():
        images = make_images()
        with Recorder(net, [Site("tap")], gradients=True) as recorder:
            score = recorder.run(lambda x: (net.tap(x) * x).sum(), images)
            gradients = recorder.gradients(score)
    torch.testing.assert_close(gradients[Site("tap")], make_images())


def test_several_sites_and_scores_of_one_pass_equal_separate_passes() -> None:
    net, images = make_net(), make_images()
    with Recorder(net, SITES, gradients=True) as together:
        logits = together.run(net, images)
        shared = [together.gradients(logits[:, k].sum(), retain_graph=True) for k in range(4)]
    for site in SITES:
        for target in range(4):
            with Recorder(net, [site], gradients=True) as alone:
                gradients = alone.gradients(alone.run(net, images)[:, target].sum())
            assert gradients[site].abs().max() > 1e-5
            torch.testing.assert_close(shared[target][site], gradients[site], rtol=1e-12, atol=1e-15)
            torch.testing.assert_close(together.activations[site], alone.activations[site])


def test_calls_of_a_shared_module_are_counted_from_zero_in_every_run() -> None:
    net, images = make_net(), make_images()
    expected, _ = full_autograd(net, images, 0)
    sites = [Site("shared", 2), Site("shared", 0), Site("shared", 1)]
    with Recorder(net, sites) as recorder:
        for _ in range(2):
            recorder.run(net, images)
            assert list(recorder.activations) == sites
            for site in sites:
                torch.testing.assert_close(recorder.activations[site], expected[site].detach())
    assert (expected[sites[0]] - expected[sites[1]]).abs().max() > 1e-2


def test_a_module_with_two_names_is_captured_under_both() -> None:
    net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten()).double()
    net.add_module("again", net[0])
    net.forward = lambda images: net[1](net[0](images))
    with Recorder(net, [Site("0"), Site("again")], gradients=True) as recorder:
        gradients = recorder.gradients((recorder.run(net.forward, make_images()) ** 2).sum())
    for site in (Site("0"), Site("again")):
        torch.testing.assert_close(gradients[site], 2 * recorder.activations[site])


def test_a_replacement_changes_the_prediction_of_the_given_call_only() -> None:
    net, images = make_net(), make_images()
    plain = net(images)
    site = Site("shared", 1)
    with Recorder(net, [Site("shared", 0), site], replace={site: torch.zeros_like}) as recorder:
        replaced = recorder.run(net, images)
    assert recorder.activations[site].abs().max() == 0
    assert recorder.activations[Site("shared", 0)].abs().max() > 0
    assert (replaced - plain).abs().max() > 1e-3
    torch.testing.assert_close(net(images), plain)


def test_a_replaced_output_can_be_differentiated() -> None:
    net, images = make_net(), make_images()
    with Recorder(net, [Site("last")], gradients=True, replace={Site("last"): lambda x: x + 100}) as recorder:
        gradients = recorder.gradients(recorder.run(net, images)[:, 3].sum())
    torch.testing.assert_close(
        gradients[Site("last")], (net.fc.weight[3] / 25)[None, :, None, None].expand(2, 8, 5, 5).detach()
    )


@pytest.mark.parametrize("site", SITES)
def test_nothing_below_the_shallowest_site_is_kept_for_backward(site: Site) -> None:
    net, images = make_net(), make_images().requires_grad_()
    saved: list[torch.Size] = []

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tensor.shape)
        return tensor

    packing = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with packing, Recorder(net, [site], gradients=True) as recorder:
        recorder.gradients(recorder.run(net, images).sum())
    below_all = images.shape
    below_last = (2, 6, 7, 7)
    assert below_all not in saved
    assert (below_last in saved) == (site.module != "last")


def test_a_backbone_under_no_grad_can_be_explained() -> None:
    net = make_net()

    def forward(images: Tensor) -> Tensor:
        with torch.no_grad():
            features = net.last(net.stem(images))
        return net.fc(features.relu().mean(dim=(2, 3)))

    with Recorder(net, [Site("last")], gradients=True) as recorder:
        gradients = recorder.gradients(recorder.run(forward, make_images())[:, 0].sum())
    expected = (recorder.activations[Site("last")] > 0) * net.fc.weight[0, :, None, None] / 25
    torch.testing.assert_close(gradients[Site("last")], expected.detach())


def test_without_gradients_nothing_carries_a_graph() -> None:
    net = make_net()
    with Recorder(net, SITES) as recorder:
        output = recorder.run(net, make_images().requires_grad_())
    assert not output.requires_grad
    assert not any(activation.requires_grad for activation in recorder.activations.values())


def test_half_precision_keeps_its_dtype() -> None:
    net = make_net(torch.bfloat16)
    with Recorder(net, SITES, gradients=True) as recorder:
        gradients = recorder.gradients(recorder.run(net, make_images(torch.bfloat16))[:, 2].float().sum())
    assert {gradient.dtype for gradient in gradients.values()} == {torch.bfloat16}
    assert {activation.dtype for activation in recorder.activations.values()} == {torch.bfloat16}


def test_a_used_recorder_can_be_entered_again() -> None:
    net = make_net()
    recorder = Recorder(net, [Site("last")], gradients=True)
    found = []
    for scale in (1, 2):
        with recorder:
            found.append(recorder.gradients(recorder.run(net, scale * make_images())[:, 2].sum())[Site("last")])
    expected = [full_autograd(net, scale * make_images(), 2)[1][Site("last")] for scale in (1, 2)]
    assert (expected[0] - expected[1]).abs().max() > 1e-3
    torch.testing.assert_close(found, expected)


def test_recorders_can_be_nested_on_one_module() -> None:
    net = make_net().train()
    before, images = state_of(net), make_images()
    with Recorder(net, [Site("stem.0")], gradients=True) as outer:
        first = outer.run(net, images)
        with Recorder(net, [Site("last")], gradients=True) as inner:
            inner_gradients = inner.gradients(inner.run(net, images)[:, 2].sum())
        outer_gradients = outer.gradients(first[:, 2].sum())
    assert state_of(net) == before
    _, expected = full_autograd(net.eval(), images, 2)
    torch.testing.assert_close(inner_gradients[Site("last")], expected[Site("last")])
    torch.testing.assert_close(outer_gradients[Site("stem.0")], expected[Site("stem.0")])


class Pair(nn.Module):
    """A layer that gives two tensors, and one that gives whole numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.both, self.whole = nn.LSTM(4, 4), nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        return self.both(images)[0] + self.whole(images.argmax(dim=-1))[..., None]


@pytest.mark.parametrize(
    ("site", "message"),
    [
        (Site("lats"), r"layer 'lats' is not in this Net; did you mean 'last'\?"),
        (Site("xyz"), r"layer 'xyz' is not in this Net; named_modules\(\) lists the paths"),
        (Site("shared", 3), r"'shared' \(call 3\) was not reached: .* calls the module 3 time"),
        (Site("shared", -1), r"'shared' \(call -1\) was not reached"),
        (Site("unused"), r"'unused' \(call 0\) was not reached: .* calls the module 0 time"),
        (Site(""), r"'the root module' \(call 0\) was not reached"),
    ],
)
@pytest.mark.parametrize("role", ["capture", "replace"])
def test_a_site_that_is_not_there_is_named(site: Site, message: str, role: str) -> None:
    net = make_net()
    recorder = Recorder(net, [site]) if role == "capture" else Recorder(net, replace={site: torch.relu})
    with pytest.raises(LayerError, match=message), recorder:
        recorder.run(net.logits, make_images())


@pytest.mark.parametrize(
    ("path", "message"), [("both", "gives a tuple; expected one"), ("whole", "gives a tensor of torch.int64")]
)
def test_a_layer_that_gives_no_floating_tensor_is_named(path: str, message: str) -> None:
    net = Pair()
    with pytest.raises(LayerError, match=f"'{path}'.*{message}"), Recorder(net, [Site(path)]) as recorder:
        recorder.run(net, torch.rand(3, 2, 4))


def scores_without_gradient(recorder: Recorder, net: Net) -> dict[str, Tensor]:
    logits = recorder.run(net, make_images())
    return {
        "many": logits[:, 0],
        "detached": logits.detach().sum(),
        "elsewhere": net.fc.bias.detach().requires_grad_()[0],
    }


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("many", r"score has shape \(2,\); expected a single value"),
        ("detached", r"carries no graph, so no gradient arrives at layer 'last' \(call 0\)"),
        ("elsewhere", r"no gradient arrives at layer 'last' \(call 0\): the score does not depend on it"),
    ],
)
def test_a_score_without_a_gradient_is_explained(kind: str, message: str) -> None:
    net = make_net()
    with Recorder(net, [Site("last")], gradients=True) as recorder:
        score = scores_without_gradient(recorder, net)[kind]
        with pytest.raises(GradientError, match=message):
            recorder.gradients(score)


def test_only_the_layers_that_the_score_does_not_see_are_named() -> None:
    net = make_net()

    def forward(images: Tensor) -> Tensor:
        return net.stem(images) + net.branch(images).detach()

    with Recorder(net, [Site("branch.0"), Site("stem.0")], gradients=True) as recorder:
        score = recorder.run(forward, make_images()).sum()
        with pytest.raises(GradientError, match=r"at layer 'branch.0' \(call 0\): the score"):
            recorder.gradients(score)


def test_gradients_need_a_recorder_that_keeps_the_graph_and_an_open_block() -> None:
    net = make_net()
    with Recorder(net, [Site("last")]) as recorder:
        score = recorder.run(net, make_images()).sum()
        with pytest.raises(GradientError, match="gradients=True"):
            recorder.gradients(score)
    with Recorder(net, [Site("last")], gradients=True) as recorder:
        score = recorder.run(net, make_images()).sum()
    with pytest.raises(GradientError, match="inside the same block"):
        recorder.gradients(score)
    with pytest.raises(RuntimeError, match="works inside its block"):
        recorder.run(net, make_images())


def test_a_model_made_in_inference_mode_can_run_but_not_be_differentiated() -> None:
    with torch.inference_mode():
        net = make_net()
    with Recorder(net, SITES) as recorder:
        recorder.run(net, make_images())
    with pytest.raises(GradientError, match=r"'stem.0.weight' was made inside torch.inference_mode"):
        Recorder(net, SITES, gradients=True).__enter__()


class Checkpointed(nn.Module):
    """Throws away what it computed on the way, and computes it again for the gradient."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.first, self.reentrant = nn.Conv2d(3, 4, 3), reentrant
        self.second = nn.Sequential(nn.Conv2d(4, 2, 3), nn.Sigmoid())

    def forward(self, images: Tensor) -> Tensor:
        found = checkpoint(self.second, self.first(images), use_reentrant=self.reentrant)
        return found.mean(dim=(2, 3))


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize(("path", "reentrant"), [("first", True), ("second.0", False)])
def test_what_is_computed_again_for_the_gradient_is_told(path: str, reentrant: bool) -> None:
    net = Checkpointed(reentrant)
    with Recorder(net, [Site(path)], gradients=True) as recorder:
        logits = recorder.run(net, make_images(torch.float32))
        with pytest.raises(GradientError, match=r"again for the gradient \(.*\); switch torch\.utils\.checkpoint off"):
            recorder.gradients(logits[:, 1].sum())
