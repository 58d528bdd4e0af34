"""The networks: lists of nodes that PyTorch trains and `export.py` writes, so that both are one description.

A description is made of 3x3 convolutions with ReLU, additions, nearest upsampling and 1x1 heads. While it is trained a
3x3 convolution may have a 1x1 and an identity branch beside it (RepVGG, Ding et al. 2021, arXiv:2101.03697); all of
them and their batch normalisations fold into one convolution afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

INPUT_SCALE = 1.0 / 128
"""The network sees B, G, R / 128; it is folded into the first convolution's weights."""
# Per stride, how far a cached value may be from the true one, in spreads: the engine's default thresholds.
STALE = {2: 0.03, 4: 0.06, 8: 0.12, 16: 0.12, 32: 0.12}


@dataclass(frozen=True)
class Node:
    """One step. op: conv, add, upsample or head. stride: of its output, in input pixels."""

    name: str
    op: str
    inputs: tuple[str, ...]
    channels: int
    stride: int
    kernel: int = 1
    step: int = 1
    groups: int = 1
    relu: bool = True

    @property
    def padding(self) -> int:
        """Pixels of zeros on every side, so that a map of whole strides stays one."""
        return (self.kernel - self.step) // 2 if self.kernel % 2 == 0 else self.kernel // 2


@dataclass
class Description:
    """A network under construction; every method returns the name of the value it makes."""

    nodes: list[Node] = field(default_factory=list)
    necks: list[str] = field(default_factory=list)
    """The values that the heads read, finest first."""

    def node(self, name: str) -> Node:
        """The node that makes `name`."""
        return next(node for node in self.nodes if node.name == name)

    def _add(self, op: str, inputs: tuple[str, ...], channels: int, stride: int, **rest: int | bool) -> str:
        name = f"{op}{len(self.nodes)}"
        self.nodes.append(Node(name, op, inputs, channels, stride, **rest))  # type: ignore[arg-type]
        return name

    def conv(self, x: str, channels: int, kernel: int = 3, step: int = 1, groups: int = 1, relu: bool = True) -> str:
        """Convolution, batch normalisation, ReLU."""
        stride = (self.node(x).stride if self.nodes else 1) * step
        return self._add("conv", (x,), channels, stride, kernel=kernel, step=step, groups=groups, relu=relu)

    def convs(self, x: str, channels: int, count: int) -> str:
        """`count` 3x3 convolutions of the same width."""
        for _ in range(count):
            x = self.conv(x, channels)
        return x

    def residual(self, x: str, channels: int, count: int) -> str:
        """`count` blocks of two 3x3 convolutions with a shortcut (He et al. 2016)."""
        for _ in range(count):
            x = self.add(x, self.conv(self.conv(x, channels), channels, relu=False))
        return x

    def separable(self, x: str, channels: int, step: int = 1) -> str:
        """Depthwise 3x3, then 1x1."""
        source = self.node(x).channels
        return self.conv(self.conv(x, source, 3, step, groups=source), channels, 1)

    def add(self, x: str, y: str) -> str:
        """x + y, ReLU."""
        node = self.node(x)
        return self._add("add", (x, y), node.channels, node.stride)

    def upsample(self, x: str) -> str:
        """Twice the size, nearest."""
        node = self.node(x)
        return self._add("upsample", (x,), node.channels, node.stride // 2)

    def heads(self, necks: list[str], classes: int) -> None:
        """One 1x1 convolution per stride: a score logit, then l, t, r, b, per class."""
        self.necks = necks
        for x in necks:
            stride = self.node(x).stride
            self.nodes.append(Node(f"head{stride}", "head", (x,), 5 * classes, stride))

    def macs(self, width: int, height: int) -> int:
        """Multiply-accumulates of one frame."""
        channels = {"images": 3} | {node.name: node.channels for node in self.nodes}
        total = 0
        for node in self.nodes:
            if node.op in ("conv", "head"):
                area = (width // node.stride) * (height // node.stride)
                total += area * node.channels * channels[node.inputs[0]] // node.groups * node.kernel**2
        return total


Widths = tuple[int, int, int]
Block = Callable[[Description, str, int, int], str]


def _top_down(d: Description, stages: list[str], widths: Widths, lead: Callable[[str, int], str]) -> list[str]:
    """Coarse features are upsampled and added to finer ones (Lin et al. 2017); `lead` ends each level."""
    fine, middle, coarse = stages
    up = d.upsample(d.conv(coarse, widths[1], 1))
    middle = lead(d.add(d.conv(middle, widths[1], 1, relu=False), up), widths[1])
    up = d.upsample(d.conv(middle, widths[0], 1))
    fine = lead(d.add(d.conv(fine, widths[0], 1, relu=False), up), widths[0])
    return [fine, middle, lead(coarse, widths[2])]


def _stem(d: Description, channels: int, count: int) -> str:
    """Stride 4 in two steps, then `count` convolutions there."""
    x = d.conv(d.conv("images", 16, step=2), channels, step=2)
    return d.convs(x, channels, count)


def _patch_stem(d: Description, channels: int, count: int) -> str:
    """Stride 4 in one step, nothing at stride 2: the fewest pixels to recompute where the frame changed."""
    return d.convs(d.conv("images", channels, kernel=6, step=4), channels, count)


def _stages(d: Description, x: str, widths: Widths, counts: Widths, block: Block = Description.convs) -> list[str]:
    """The features at strides 8, 16 and 32: a strided convolution each, then `counts` blocks."""
    found = []
    for width, count in zip(widths, counts, strict=True):
        x = block(d, d.conv(x, width, step=2), width, count)
        found.append(x)
    return found


def plain(classes: int) -> Description:
    """A straight stack of 3x3 convolutions with a top-down path."""
    d = Description()
    stages = _stages(d, _stem(d, 32, 1), (64, 96, 128), (2, 3, 2))
    d.heads(_top_down(d, stages, (64, 96, 128), d.conv), classes)
    return d


def residual(classes: int) -> Description:
    """`plain` with shortcuts."""
    d = Description()
    stages = _stages(d, _stem(d, 32, 1), (64, 96, 128), (1, 2, 1), Description.residual)
    d.heads(_top_down(d, stages, (64, 96, 128), d.conv), classes)
    return d


def lean(classes: int) -> Description:
    """`plain` at about half the cost, most of it at stride 16."""
    d = Description()
    stages = _stages(d, _stem(d, 32, 0), (48, 96, 128), (2, 3, 2))
    d.heads(_top_down(d, stages, (48, 80, 128), d.conv), classes)
    return d


def patches(classes: int) -> Description:
    """`plain` that goes to stride 4 in one step."""
    d = Description()
    stages = _stages(d, _patch_stem(d, 32, 1), (64, 96, 128), (2, 3, 2))
    d.heads(_top_down(d, stages, (64, 96, 128), d.conv), classes)
    return d


def local(classes: int) -> Description:
    """No top-down path: what changes far away cannot reach the fine levels."""
    d = Description()
    d.heads(_stages(d, _stem(d, 32, 1), (64, 96, 128), (4, 4, 3)), classes)
    return d


def separable(classes: int) -> Description:
    """Depthwise-separable, as most networks for phones are; for comparison."""
    d = Description()
    x = d.conv("images", 16, step=2)
    x = d.separable(d.separable(x, 48, 2), 48)
    stages = []
    for width, count in ((96, 3), (160, 5), (256, 2)):
        x = d.separable(x, width, 2)
        for _ in range(count):
            x = d.separable(x, width)
        stages.append(x)
    d.heads(_top_down(d, stages, (96, 128, 256), lambda v, c: d.separable(d.separable(v, c), c)), classes)
    return d


def small(classes: int) -> Description:
    """`patches` and `residual` together, narrower: widths that fill three vectors of the kernels."""
    d = Description()
    stages = _stages(d, _patch_stem(d, 32, 0), (48, 96, 144), (1, 1, 1), Description.residual)
    d.heads(_top_down(d, stages, (48, 96, 144), d.conv), classes)
    return d


ARCHITECTURES: dict[str, Callable[[int], Description]] = {
    make.__name__: make for make in (plain, residual, lean, patches, local, separable, small)
}


class Conv(nn.Module):
    """Convolution and batch normalisation; with branches where the shapes allow them."""

    def __init__(self, source: int, node: Node, branches: bool) -> None:
        super().__init__()
        self.node = node
        k = node.kernel
        self.main = nn.Conv2d(source, node.channels, k, node.step, node.padding, groups=node.groups, bias=False)
        self.norm = nn.BatchNorm2d(node.channels)
        branches = branches and k == 3 and node.groups == 1
        self.point = nn.Conv2d(source, node.channels, 1, node.step, bias=False) if branches else None
        self.point_norm = nn.BatchNorm2d(node.channels) if branches else None
        same = branches and source == node.channels and node.step == 1
        self.same_norm = nn.BatchNorm2d(source) if same else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.main(x))
        if self.point is not None and self.point_norm is not None:
            y = y + self.point_norm(self.point(x))
        if self.same_norm is not None:
            y = y + self.same_norm(x)
        return torch.relu(y) if self.node.relu else y

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weights [out, in / groups, k, k] and bias [out] of the one convolution that computes the same."""
        weight, bias = _fold(self.main.weight, self.norm)
        if self.point is not None and self.point_norm is not None:
            point, shift = _fold(self.point.weight, self.point_norm)
            weight = weight + nn.functional.pad(point, (1, 1, 1, 1))
            bias = bias + shift
        if self.same_norm is not None:
            one = torch.eye(weight.shape[0], device=weight.device)[:, :, None, None]
            same, shift = _fold(one, self.same_norm)
            weight = weight + nn.functional.pad(same, (1, 1, 1, 1))
            bias = bias + shift
        return weight, bias


def _fold(weight: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale


class Network(nn.Module):
    """A Description with weights. Input float[B, 3, H, W] BGR 0..255; output per stride float[B, 5C, H/s, W/s]."""

    def __init__(self, description: Description, classes: int, branches: bool = True, stale: float = 0.0) -> None:
        super().__init__()
        self.description, self.classes, self.stale = description, classes, stale
        channels = {"images": 3}
        self.steps = nn.ModuleDict()
        for node in description.nodes:
            source = channels[node.inputs[0]]
            if node.op == "conv":
                self.steps[node.name] = Conv(source, node, branches)
            elif node.op == "head":
                self.steps[node.name] = _head(source, classes)
            channels[node.name] = node.channels
        self.neck_channels = [channels[name] for name in description.necks]

    def forward(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Heads and the features that they read, both finest first."""
        values = {"images": images * INPUT_SCALE}
        heads = []
        for node in self.description.nodes:
            x = values[node.inputs[0]]
            if node.op == "conv":
                values[node.name] = self._stale(self.steps[node.name](x), node)
            elif node.op == "add":
                values[node.name] = self._stale(torch.relu(x + values[node.inputs[1]]), node)
            elif node.op == "upsample":
                values[node.name] = nn.functional.interpolate(x, scale_factor=2, mode="nearest")
            else:
                heads.append(self.steps[node.name](x))
        return heads, [values[name] for name in self.description.necks]

    def _stale(self, x: Tensor, node: Node) -> Tensor:
        """What a cache does to a value: off by up to `stale` thresholds at a pixel, in spreads of its map."""
        if not self.training or self.stale == 0:
            return x
        reach = torch.rand(x.shape[0], 1, *x.shape[2:], device=x.device, dtype=x.dtype)
        spread = x.detach().float().std() * (self.stale * STALE[node.stride])
        return x + torch.randn_like(x) * (reach * spread.to(x.dtype))


def _head(source: int, classes: int) -> nn.Conv2d:
    head = nn.Conv2d(source, 5 * classes, 1)
    nn.init.normal_(head.weight, std=0.01)
    with torch.no_grad():
        assert head.bias is not None
        head.bias[:classes] = -5.0  # rare at first: a score of 0.007
        head.bias[classes:] = 2.5  # boxes five cells wide, so that each stride meets its own sizes
    return head
