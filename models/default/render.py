"""Pixels of training canvases, on the GPU: sampling from all pictures at once, then what cameras and codecs do to them.

All pictures and their half-size copies lie in one flat tensor, one packed int32 a pixel, so that a canvas of many
pictures is one gather per tap.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

LEVELS = 4
PAD_VALUE = 114


class Pool:
    """Every picture at full, half, quarter and eighth size. sizes: int[N, 2] width and height."""

    def __init__(self, jpegs: list[bytes], device: torch.device) -> None:
        with ThreadPoolExecutor() as workers:
            stacks = list(workers.map(_pyramid, jpegs))
        self.sizes = np.array([[s[0].shape[1], s[0].shape[0]] for s in stacks])
        ends = np.cumsum([level.size for s in stacks for level in s]).reshape(len(stacks), LEVELS)
        self.pixels = torch.from_numpy(np.concatenate([level.ravel() for s in stacks for level in s])).to(device)
        self.start = torch.from_numpy(ends - [[level.size for level in s] for s in stacks]).to(device)
        shape = np.array([[[level.shape[1], level.shape[0]] for level in s] for s in stacks])
        self.shape = torch.from_numpy(shape).to(device)
        self.labelled = torch.zeros(len(jpegs), dtype=torch.bool, device=device)

    def render(self, batch: dict[str, Tensor], width: int, height: int) -> tuple[Tensor, Tensor]:
        """Canvases float[B, 3, H, W] BGR 0..255, and the top layer at each pixel, -1 for none, int[B, H, W]."""
        device = self.pixels.device
        x = torch.arange(width, device=device).float() + 0.5
        y = torch.arange(height, device=device).float() + 0.5
        count = batch["picture"].shape[0]
        top = torch.full((count, height, width), -1, dtype=torch.int64, device=device)
        for layer in range(batch["picture"].shape[1]):
            rect = batch["rect"][:, layer]
            in_x = (x >= rect[:, None, 0]) & (x < rect[:, None, 2])
            in_y = (y >= rect[:, None, 1]) & (y < rect[:, None, 3])
            top.masked_fill_(in_y[:, :, None] & in_x[:, None, :], layer)
        seen = top.clamp(min=0).flatten(1)

        def per_pixel(values: Tensor) -> Tensor:
            return values.gather(1, seen).view(count, height, width)

        picture = batch["picture"]
        smallest = batch["scale"].amin(2)
        level = torch.floor(torch.log2(1.0 / smallest.clamp(min=1e-3)) + 0.25).clamp(0, LEVELS - 1).long()
        shape = self.shape[picture, level].float()
        full = self.shape[picture, 0].float()
        ratio = shape / full / batch["scale"]
        u = (x[None, None, :] - per_pixel(batch["offset"][..., 0])) * per_pixel(ratio[..., 0])
        v = (y[None, :, None] - per_pixel(batch["offset"][..., 1])) * per_pixel(ratio[..., 1])
        wide, high = per_pixel(shape[..., 0]), per_pixel(shape[..., 1])
        u = torch.where(per_pixel(batch["flip"]), wide - u, u) - 0.5
        image = self._bilinear(u, v - 0.5, wide, high, per_pixel(self.start[picture, level]))
        return image.masked_fill_((top < 0)[:, None], PAD_VALUE), top

    def _bilinear(self, u: Tensor, v: Tensor, wide: Tensor, high: Tensor, start: Tensor) -> Tensor:
        u, v = u.clamp(min=0), v.clamp(min=0)
        u, v = torch.minimum(u, wide - 1), torch.minimum(v, high - 1)
        x0, y0 = u.floor(), v.floor()
        x1, y1 = torch.minimum(x0 + 1, wide - 1), torch.minimum(y0 + 1, high - 1)
        fx, fy = u - x0, v - y0
        out = torch.zeros(u.shape[0], 3, *u.shape[1:], device=u.device)
        row0, row1 = start + (y0 * wide).long(), start + (y1 * wide).long()
        for row, wy in ((row0, 1 - fy), (row1, fy)):
            for column, wx in ((x0, 1 - fx), (x1, fx)):
                packed = self.pixels[row + column.long()]
                weight = wy * wx
                for channel in range(3):
                    out[:, channel] += ((packed >> (8 * channel)) & 255) * weight
        return out


def _pyramid(jpeg: bytes) -> list[np.ndarray]:
    image: np.ndarray = np.asarray(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR))
    levels = []
    for _ in range(LEVELS):
        wide = image.astype(np.int32)
        levels.append(wide[..., 0] | wide[..., 1] << 8 | wide[..., 2] << 16)
        size = (max(1, (image.shape[1] + 1) // 2), max(1, (image.shape[0] + 1) // 2))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return levels


def _draw(count: int, chance: float, device: torch.device) -> Tensor:
    """bool[count, 1, 1, 1], each true with the given chance."""
    return torch.rand(count, 1, 1, 1, device=device) < chance


def _between(count: int, low: float, high: float, device: torch.device) -> Tensor:
    return torch.rand(count, 1, 1, 1, device=device) * (high - low) + low


def recolour(image: Tensor) -> Tensor:
    """Exposure, contrast, white balance, saturation, grey: what leaves a teacher's judgement sound."""
    count, device = image.shape[0], image.device
    gain = torch.exp(_between(count, -0.45, 0.35, device))
    gains = gain * torch.exp(torch.randn(count, 3, 1, 1, device=device) * 0.07)
    shift = torch.randn(count, 1, 1, 1, device=device) * 10
    image = (image * gains + shift).clamp(0, 255)
    grey = (image * image.new_tensor([0.114, 0.587, 0.299])[None, :, None, None]).sum(1, keepdim=True)
    saturation = torch.where(_draw(count, 0.12, device), torch.zeros_like(gain), _between(count, 0.5, 1.4, device))
    return (grey + (image - grey) * saturation).clamp(0, 255)


def degrade(image: Tensor) -> Tensor:
    """Low light, blur, loss of resolution, sensor noise, JPEG: what a student must see through."""
    count, device = image.shape[0], image.device
    dark = torch.where(_draw(count, 0.12, device), _between(count, 0.15, 0.5, device), torch.ones(1, device=device))
    gamma = torch.exp(_between(count, -0.25, 0.25, device))
    image = 255 * (image / 255).clamp(0, 1).pow(gamma) * dark
    image = torch.where(_draw(count, 0.2, device), _blur(image), image)
    image = torch.where(_draw(count, 0.12, device), _coarse(image), image)
    noise = _between(count, 0, 1, device).pow(3) * 14
    image = image + torch.randn_like(image) * noise * torch.sqrt((image + 16) / 128).clamp(0.4, 1.5)
    image = image / torch.where(_draw(count, 0.5, device), dark, torch.ones(1, device=device)).clamp(min=0.4)
    return torch.where(_draw(count, 0.7, device), jpeg(image, _between(count, 0.3, 2.2, device)), image).clamp(0, 255)


def _blur(image: Tensor) -> Tensor:
    """Gaussian blur, a sigma of 0.5 to 2 px for each picture and axis (so also of motion along an axis)."""
    count, device = image.shape[0], image.device
    reach = torch.arange(-4, 5, device=device).float()
    for axis in (2, 3):
        sigma = torch.exp(torch.rand(count, 1, device=device) * math.log(6) + math.log(0.4))
        kernel = torch.exp(-(reach**2) / (2 * sigma**2))
        kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(3, 0)
        shape = (-1, 1, 9, 1) if axis == 2 else (-1, 1, 1, 9)
        pad = (0, 0, 4, 4) if axis == 2 else (4, 4, 0, 0)
        flat = functional.pad(image.reshape(1, -1, *image.shape[2:]), pad, mode="replicate")
        image = functional.conv2d(flat, kernel.view(shape), groups=count * 3).view_as(image)
    return image


def _coarse(image: Tensor) -> Tensor:
    """Down to 40-80% and up again."""
    scale = 0.4 + 0.4 * float(torch.rand(()))
    small = functional.interpolate(image, scale_factor=scale, mode="bilinear", antialias=True)
    return functional.interpolate(small, size=image.shape[2:], mode="bilinear")


_LUMA = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
_CHROMA = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99,
    24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99,
) + (99,) * 32  # fmt: skip


def jpeg(image: Tensor, strength: Tensor) -> Tensor:
    """JPEG (ITU-T T.81, Annex K tables) with 4:2:0 chroma. strength: factor on the tables; 1 is quality 50."""
    to_ycc = image.new_tensor([[0.114, 0.587, 0.299], [0.5, -0.3313, -0.1687], [-0.0813, -0.4187, 0.5]])
    ycc = torch.einsum("kc,bchw->bkhw", to_ycc, image)
    luma = _blocks(ycc[:, :1] - 128, image.new_tensor(_LUMA).view(8, 8), strength) + 128
    small = functional.avg_pool2d(ycc[:, 1:], 2)
    chroma = _blocks(small, image.new_tensor(_CHROMA).view(8, 8), strength)
    chroma = functional.interpolate(chroma, scale_factor=2, mode="nearest")
    return torch.einsum("ck,bkhw->bchw", torch.linalg.inv(to_ycc), torch.cat([luma, chroma], 1))


def _blocks(plane: Tensor, table: Tensor, strength: Tensor) -> Tensor:
    """Each 8x8 block through the cosine transform, quantisation and back."""
    k = torch.arange(8, device=plane.device).float()
    dct = torch.cos((2 * k[None, :] + 1) * k[:, None] * math.pi / 16) * 0.5
    dct[0] *= math.sqrt(0.5)
    b, c, h, w = plane.shape
    both = torch.kron(dct, dct)  # of a whole block at once, as one large matrix product
    blocks = plane.view(b, c, h // 8, 8, w // 8, 8).transpose(3, 4).reshape(b, -1, 64)
    step = (table.reshape(64) * strength[..., 0]).clamp(min=1)
    coefficients = torch.round((blocks @ both.T) / step) * step
    return (coefficients @ both).view(b, c, h // 8, w // 8, 8, 8).transpose(3, 4).reshape(b, c, h, w)
