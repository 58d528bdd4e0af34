"""Descriptions: cost counted by hand, names, strides; and that branches fold into one convolution."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed; only training needs it")

from models.default import network
from models.default.network import ARCHITECTURES, Conv, Network, Node
from tests.models.trained import settle


def test_macs_of_one_description_by_hand():
    at4, at8, at16, at32 = 160 * 96, 80 * 48, 40 * 24, 20 * 12
    stem = at4 * 32 * 3 * 36
    c8 = at8 * 9 * (32 * 48 + 2 * 48 * 48)
    c16 = at16 * 9 * (48 * 96 + 2 * 96 * 96)
    c32 = at32 * 9 * (96 * 144 + 2 * 144 * 144)
    middle = at32 * 144 * 96 + at16 * 96 * 96 + at16 * 9 * 96 * 96
    fine = at16 * 96 * 48 + at8 * 48 * 48 + at8 * 9 * 48 * 48
    coarse = at32 * 9 * 144 * 144
    heads = 10 * (at8 * 48 + at16 * 96 + at32 * 144)
    assert ARCHITECTURES["small"](2).macs(640, 384) == stem + c8 + c16 + c32 + middle + fine + coarse + heads


def test_grouped_convolutions_cost_their_groups():
    description = network.Description()
    x = description.conv("images", 16)
    description.separable(x, 32)
    assert description.macs(10, 10) == 100 * (16 * 3 * 9 + 16 * 9 + 16 * 32)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_description_is_sound(name):
    description = ARCHITECTURES[name](2)
    names = [node.name for node in description.nodes]
    assert len(set(names)) == len(names)
    known = {"images": 1}
    for node in description.nodes:
        before = {known[source] for source in node.inputs}  # KeyError: read before it is made
        factor = {"upsample": 0.5}.get(node.op, node.step)
        assert before == {node.stride / factor}
        known[node.name] = node.stride
        assert node.channels % 16 == 0 or node.op == "head"
    heads = [node for node in description.nodes if node.op == "head"]
    assert [(node.name, node.stride, node.channels) for node in heads] == [(f"head{s}", s, 10) for s in (8, 16, 32)]
    assert 0.5e9 <= description.macs(640, 384) <= 1.5e9


@pytest.mark.parametrize("name", ["small", "separable"])
def test_a_network_gives_a_head_and_its_features_per_stride(name):
    net = Network(ARCHITECTURES[name](3), 3)
    heads, necks = net(torch.zeros(2, 3, 64, 96))
    assert [tuple(head.shape) for head in heads] == [(2, 15, 64 // s, 96 // s) for s in (8, 16, 32)]
    assert [neck.shape[1] for neck in necks] == net.neck_channels
    assert torch.sigmoid(heads[0][:, :3]).max() < 0.05  # before training, hardly anything is found


@pytest.mark.parametrize(
    ("source", "node", "parts"),
    [
        (8, Node("c", "conv", ("x",), 8, 1, kernel=3, relu=False), 3),
        (8, Node("c", "conv", ("x",), 16, 2, kernel=3, step=2, relu=False), 2),
        (8, Node("c", "conv", ("x",), 8, 1, kernel=3, groups=8, relu=False), 1),
        (3, Node("c", "conv", ("x",), 8, 4, kernel=6, step=4, relu=False), 1),
        (8, Node("c", "conv", ("x",), 16, 1, relu=False), 1),
    ],
)
def test_branches_fold_into_one_convolution(source, node, parts):
    conv = settle(Conv(source, node, branches=True))
    assert parts == 1 + (conv.point is not None) + (conv.same_norm is not None)
    x = torch.randn(1, source, 12, 16)
    weight, bias = conv.folded()
    whole = torch.nn.functional.conv2d(x, weight, bias, node.step, conv.main.padding, groups=node.groups)
    torch.testing.assert_close(whole, conv(x), rtol=1e-4, atol=1e-5)


def test_stale_noise_is_for_training_only_and_grows_with_the_threshold():
    description = ARCHITECTURES["small"](2)
    plain = Network(description, 2)
    image = torch.rand(1, 3, 64, 64) * 255

    def off(stale):
        net = Network(description, 2, stale=stale)
        net.load_state_dict(plain.state_dict())
        torch.manual_seed(0)
        for part in (*net.modules(), *plain.modules()):
            if isinstance(part, torch.nn.BatchNorm2d):
                part.momentum = 0.0  # or a pass in training mode would change what both are compared by
        noisy, still = net.train()(image)[1][0], plain.train()(image)[1][0]
        torch.testing.assert_close(net.eval()(image)[1][0], plain.eval()(image)[1][0])
        return float((noisy - still).detach().abs().mean())

    assert off(0.0) < 1e-6
    assert 0 < off(0.5) < off(2.0)
