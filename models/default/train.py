"""Trains one or several networks on the same canvases, in legs that can be cut off and resumed.

    python -m models.default.data  --data DATA --out build/pack.npz
    python -m models.default.train --pack build/pack.npz --teachers DATA/models --out build/leg1 \
        --networks plain --steps 20000 --minutes 9
    python -m models.default.train ... --out build/leg2 --resume build/leg1      # the same options, until it is done

A leg ends after --minutes and leaves what the next one needs; the last one writes NAME.onnx. The learning rate and all
other schedules follow the step; layouts are drawn by the step too, but noise is drawn anew from where a leg starts.
--replan sets a longer or shorter schedule in mid-training, and moves the learning rate accordingly. README.md is the
model card, and says what DATA must hold.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from models.default import data, export, layout, loss, metrics, network, render
from models.default.pack import LABELS
from models.default.teachers import Targets, Teachers

CONFIG = tomllib.loads((Path(__file__).parent / "config.toml").read_text())
SIZE = (CONFIG["width"], CONFIG["height"])


class Canvases(IterableDataset[dict[str, Any]]):
    """An endless run of batches of layouts, alternating between the configured canvas shapes."""

    def __init__(self, composer: layout.Composer, start: int) -> None:
        self.composer, self.start = composer, start

    def __iter__(self) -> Iterator[dict[str, Any]]:
        info = torch.utils.data.get_worker_info()
        number, workers = (info.id, info.num_workers) if info else (0, 1)
        shapes = CONFIG["canvas"]["shapes"]
        step = self.start + number
        while True:
            rng = np.random.default_rng((CONFIG["seed"], step))
            width, height, count = shapes[step % len(shapes)]
            samples = [self.composer.sample(rng, width, height) for _ in range(count)]
            arrays: dict[str, Any] = {key: torch.from_numpy(value) for key, value in layout.batch(samples).items()}
            yield {**arrays, "size": (width, height)}
            step += workers


class Student:
    """A network in training: its optimiser, its pretext heads, and the average of its weights that will be kept."""

    def __init__(self, name: str, device: torch.device, classes: int, stale: float) -> None:
        self.name, self.steps, self.total = name, 0, 0
        self.box_weight: float = CONFIG["loss"]["box"]
        description = network.ARCHITECTURES[name.split("-")[0]](classes)
        self.net = network.Network(description, classes, stale=stale if "-stale" in name else 0.0)
        self.net.to(device, memory_format=_memory(device))
        self.pretext = nn.ModuleList([_pretext_head(c) for c in self.net.neck_channels]).to(device)
        self.average = copy.deepcopy(self.net).eval().requires_grad_(False)
        self._pairs = [_floating(net) for net in (self.average, self.net)]
        matrices = [p for p in self.parameters() if p.ndim > 1]
        vectors = [p for p in self.parameters() if p.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": CONFIG["optimiser"]["weight_decay"]}, {"params": vectors}]
        self.optimiser = torch.optim.AdamW(groups, lr=0.0, weight_decay=0.0, fused=device.type == "cuda")

    def parameters(self) -> list[nn.Parameter]:
        """Everything that learns."""
        return [*self.net.parameters(), *self.pretext.parameters()]

    def learn(
        self, images: Tensor, cells: loss.Cells, truth: dict[str, Tensor], soft: Targets, labelled: Tensor, share: float
    ) -> Tensor:
        """One step; returns score loss, box loss and pretext loss, float[3]. share: of the training done, 0..1."""
        o, weights = CONFIG["optimiser"], CONFIG["loss"]
        for group in self.optimiser.param_groups:
            group["lr"] = o["last_rate"] + (o["rate"] - o["last_rate"]) * 0.5 * (1 + math.cos(math.pi * share))
            group["lr"] *= min(1.0, self.steps / o["warmup_steps"])
        with torch.autocast(images.device.type, torch.bfloat16, enabled=images.is_cuda):
            heads, necks = self.net(images)
        logits, found = cells.boxes(heads, self.net.classes)
        aim = loss.goal(logits.detach(), found.detach(), cells, truth, soft, labelled)
        score, box = loss.detection_loss(logits, found, aim)
        total = score + self.box_weight * box
        pretext = torch.zeros_like(score)
        left = min(1.0, share / weights["pretext_share"])
        if left < 1:
            with torch.autocast(images.device.type, torch.bfloat16, enabled=images.is_cuda):
                guesses = [head(neck) for head, neck in zip(self.pretext, necks, strict=True)]
            pretext = loss.pretext_loss(guesses, soft)
            total = total + weights["pretext"] * 0.5 * (1 + math.cos(math.pi * left)) * pretext
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(self.parameters(), 10.0)
        self.optimiser.step()
        self._keep()
        return torch.stack([score, box, pretext]).detach()

    def _keep(self) -> None:
        self.steps += 1
        decay = min(CONFIG["optimiser"]["average"], (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            torch._foreach_lerp_(*self._pairs, 1 - decay)

    def save(self, folder: Path, resumable: bool) -> None:
        """The averaged weights; and what a later leg needs, with the optimiser's state at half precision."""
        torch.save(self.average.state_dict(), folder / f"{self.name}.average.pt")
        if not resumable:
            return
        state = {"net": self.net.state_dict(), "pretext": self.pretext.state_dict(), "steps": (self.steps, self.total)}
        optimiser = self.optimiser.state_dict()
        moments = ("exp_avg", "exp_avg_sq")
        optimiser["state"] = {
            key: entry | {name: entry[name].bfloat16() for name in moments} for key, entry in optimiser["state"].items()
        }
        torch.save({**state, "optimiser": optimiser}, folder / f"{self.name}.resume.pt")

    def load(self, folder: Path, fresh: bool = False) -> None:
        """What `save` wrote. fresh: only average weights, if any, for a new schedule."""
        if fresh:
            start = folder / f"{self.name.split('-')[0]}.average.pt"
            if start.exists():
                for net in (self.net, self.average):
                    net.load_state_dict(torch.load(start, map_location="cpu"))
            return
        self.average.load_state_dict(torch.load(folder / f"{self.name}.average.pt", map_location="cpu"))
        state = torch.load(folder / f"{self.name}.resume.pt", map_location="cpu")
        self.net.load_state_dict(state["net"])
        self.pretext.load_state_dict(state["pretext"])
        self.steps, self.total = state["steps"]
        self.optimiser.load_state_dict(state["optimiser"])
        for entry in self.optimiser.state.values():
            entry["exp_avg"], entry["exp_avg_sq"] = entry["exp_avg"].float(), entry["exp_avg_sq"].float()


def _floating(net: nn.Module) -> list[Tensor]:
    """Weights and statistics; no counters."""
    return [values for values in net.state_dict().values() if values.is_floating_point()]


def _pretext_head(channels: int) -> nn.Conv2d:
    head = nn.Conv2d(channels, loss.FEATURES + loss.OBJECTS, 1)
    assert head.bias is not None
    nn.init.constant_(head.bias[loss.FEATURES :], -6.0)  # rare at first, as in the network's own heads
    return head


def _memory(device: torch.device) -> torch.memory_format:
    """Channels last is faster on a GPU; on a CPU, PyTorch 2.13's backward pass of it corrupts the heap."""
    return torch.channels_last if device.type == "cuda" else torch.contiguous_format


def chosen(pictures: list[data.Picture], tiers: str) -> list[data.Picture]:
    """The pictures to train on, of these licence tiers only, and all that validate."""
    return [p for p in pictures if p.tier in tiers or p.split == "val"]


def weights_of(pictures: list[data.Picture]) -> np.ndarray:
    """How often each picture is drawn, by the configured mix; pictures with vehicles are rare and drawn twice."""
    mix = CONFIG["mix"]
    clips = {name for name, *_ in data.CLIPS}
    weights = []
    for picture in pictures:
        kind = "clip" if picture.source in clips else picture.source
        vehicles = picture.labelled and bool((picture.classes[~picture.ignored] == 2).any())
        weights.append(mix.get(kind, 1.0) * (2.0 if vehicles else 1.0))
    return np.array(weights)


@torch.no_grad()
def validate(net: network.Network, pool: render.Pool, composer: layout.Composer, classes: int) -> dict[str, float]:
    """AP50 per class of the pool's pictures, letterboxed to the network's input."""
    device = pool.pixels.device
    cells = loss.Cells.of(*SIZE, device)
    pairs: list[metrics.Pair] = []
    for index in range(len(composer.pictures)):
        sample = composer.plain(index, *SIZE)
        arrays = {key: torch.from_numpy(value).to(device) for key, value in layout.batch([sample]).items()}
        image, _ = pool.render(arrays, *SIZE)
        logits, boxes = cells.boxes(net(image.round())[0], classes)
        pairs.append((_decode(logits[0], boxes[0]), metrics.Truth(sample.boxes, sample.classes, sample.ignored)))
    return {LABELS[c]: round(metrics.average_precision(pairs, c), 4) for c in range(classes)}


def _decode(logits: Tensor, boxes: Tensor, least: float = 0.02, most: int = 300) -> metrics.Found:
    found = []
    for c in range(logits.shape[0]):
        score = torch.sigmoid(logits[c])
        kept = torch.nonzero(score > least).flatten()
        kept = kept[score[kept].argsort(descending=True)][:most]
        xyxy, values = boxes[c, kept].cpu().numpy(), score[kept].cpu().numpy()
        xyxy = np.clip(xyxy, 0, np.array(SIZE * 2))
        alive = list(range(len(values)))
        overlap = loss.pair_iou(torch.from_numpy(xyxy)[:, None], torch.from_numpy(xyxy)[None])[0].numpy()
        while alive:
            first = alive.pop(0)
            found.append((xyxy[first], values[first], c))
            alive = [other for other in alive if overlap[first, other] < 0.5]
    if not found:
        return metrics.Found(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))
    xyxy, values, classes = (np.array(part) for part in zip(*found, strict=True))
    return metrics.Found(xyxy, values, classes)


def _settled(device: torch.device) -> float:
    """Now, once the GPU has nothing left to do."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.monotonic()


def _elapsed_ms(since: float, device: torch.device) -> float:
    return (_settled(device) - since) * 1e3


def _labelled_cells(top: Tensor, picture: Tensor, known: Tensor, cells: loss.Cells) -> Tensor:
    """bool[B, N]: whether the topmost picture at each cell's centre has labels; bare canvas counts as labelled."""
    x, y = cells.centre.long().unbind(1)
    layer = top[:, y, x]
    flags = known[picture.gather(1, layer.clamp(min=0))]
    return flags | (layer < 0)


def run(options: argparse.Namespace) -> None:
    """One leg."""
    begun = time.monotonic()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(CONFIG["seed"])
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    classes = options.classes
    pictures = chosen(data.load(options.pack), options.tiers)
    train = [p for p in pictures if p.split == "train"]
    val = [p for p in pictures if p.split == "val"]
    pool = render.Pool([p.jpeg for p in train], device)
    pool.labelled = torch.tensor([p.labelled for p in train], device=device)
    composer = layout.Composer(train, pool.sizes, weights_of(train))
    students = [Student(name, device, classes, options.stale) for name in options.networks]
    for student in students:
        student.box_weight = options.box_weight
        if options.resume:
            student.load(options.resume, fresh=options.fresh)
    teachers = Teachers(options.teachers, device, torch.float16 if device.type == "cuda" else torch.float32)
    start = students[0].steps
    torch.manual_seed(CONFIG["seed"] + start)
    pinned = device.type == "cuda"
    loader = DataLoader(Canvases(composer, start), batch_size=None, num_workers=options.workers, pin_memory=pinned)
    grids = {(w, h): loss.Cells.of(w, h, device) for w, h, _ in CONFIG["canvas"]["shapes"]}
    total = 0 if options.replan else options.steps or students[0].total
    log: list[dict[str, Any]] = []
    print(f"{len(train)} pictures to train on, {len(val)} to validate; ready after {time.monotonic() - begun:.0f} s")
    first = time.monotonic()
    step = start
    for step, batch in enumerate(loader, start):
        seconds = time.monotonic() - begun
        if not total and step - start == 60:
            first = time.monotonic()
        if not total and step - start == 160:
            pace = (time.monotonic() - first) / 100
            left = options.minutes * 60 - seconds - options.spare + max(0.0, options.later * 60 - 2 * options.spare)
            total = step + int(0.97 * left / pace)
            print(f"{pace * 1e3:.1f} ms a step: {total} steps")
        if (total and step >= total) or seconds > options.minutes * 60 - options.spare:
            break
        moment = time.monotonic() if step % 200 else _settled(device)
        planned = total or students[0].total  # until the pace is known, the schedule of the leg before goes on
        share = min(1.0, step / planned) if planned else 0.0
        width, height = batch.pop("size")
        batch = {key: value.to(device, non_blocking=True) for key, value in batch.items()}
        cells = grids[int(width), int(height)]
        spoil = share < CONFIG["loss"]["degrade_until"] or step % 4 < 2
        seen, soft, labelled = _draw(pool, teachers, batch, (int(width), int(height)), cells, spoil)
        soft = soft._replace(scores=soft.scores[:, :classes], boxes=soft.boxes[:, :classes])
        truth = {key: batch[key] for key in ("boxes", "classes", "scores", "ignored")}
        truth["classes"] = torch.where(truth["classes"] < classes, truth["classes"], -1)
        shared_ms = _elapsed_ms(moment, device) if step % 200 == 0 else 0.0
        losses = [student.learn(seen, cells, truth, soft, labelled, share) for student in students]
        if step % 200 == 0:
            times = {"shared_ms": round(shared_ms, 1), "all_ms": round(_elapsed_ms(moment, device), 1)}
            entry: dict[str, Any] = {"step": step, "seconds": round(seconds, 1), **times}
            entry |= {s.name: [round(float(v), 4) for v in value] for s, value in zip(students, losses, strict=True)}
            log.append(entry)
            print(json.dumps(entry), flush=True)
    done = bool(total) and step >= total
    for student in students:
        student.total = total
    pool = render.Pool([p.jpeg for p in val], device)
    log += [{"step": step, **entry} for entry in _leave(students, pool, val, options, done)]
    (options.out / "log.json").write_text(json.dumps(log, indent=1))
    print(f"{'done' if done else 'to be resumed'} at step {step} of {total} after {time.monotonic() - begun:.0f} s")


@torch.no_grad()
def _draw(
    pool: render.Pool,
    teachers: Teachers,
    batch: dict[str, Tensor],
    size: tuple[int, int],
    cells: loss.Cells,
    spoil: bool,
) -> tuple[Tensor, Targets, Tensor]:
    """A batch's canvases as the students see them, the teachers' answers to the clean ones, and `_labelled_cells`."""
    canvas, top = pool.render(batch, *size)
    bare = (top < 0)[:, None]
    clean = render.recolour(canvas).masked_fill_(bare, render.PAD_VALUE)
    soft = teachers(clean)
    seen = (render.degrade(clean) if spoil else clean).masked_fill(bare, render.PAD_VALUE).round()
    labelled = _labelled_cells(top, batch["picture"], pool.labelled, cells)
    return seen.to(memory_format=_memory(canvas.device)), soft, labelled


def _leave(
    students: list[Student], pool: render.Pool, val: list[data.Picture], options: argparse.Namespace, done: bool
) -> Iterator[dict[str, Any]]:
    """Validate and save every student, and write its ONNX file if it is done; yields what to log."""
    options.out.mkdir(parents=True, exist_ok=True)
    composer = layout.Composer(val, pool.sizes, np.ones(len(val)))
    for student in students:
        score = validate(student.average, pool, composer, options.classes)
        student.save(options.out, options.resumable)
        if done:
            export.write(student.average, LABELS[: options.classes], *SIZE, options.out / f"{student.name}.onnx")
        entry = {"network": student.name, "ap50": score}
        print(json.dumps(entry), flush=True)
        yield entry


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", type=Path, required=True, help="file written by models.default.data")
    parser.add_argument("--teachers", type=Path, required=True, help="folder of the teachers' ONNX files")
    parser.add_argument("--out", type=Path, required=True, help="folder for this leg's files")
    parser.add_argument("--networks", nargs="+", default=["plain"], help=", ".join(network.ARCHITECTURES))
    parser.add_argument("--steps", type=int, default=0, help="of the whole training; 0: as many as fit")
    parser.add_argument("--minutes", type=float, default=9.0, help="of this leg")
    parser.add_argument("--later", type=float, default=0.0, help="minutes of later legs, if --steps is not given")
    parser.add_argument("--spare", type=float, default=25.0, help="seconds of them for validation and saving")
    parser.add_argument("--resume", type=Path, help="folder of the leg before")
    parser.add_argument("--replan", action="store_true", help="set the number of steps by this leg's pace")
    parser.add_argument("--fresh", action="store_true", help="take only weights from it, and start a new schedule")
    parser.add_argument("--resumable", action="store_true", help="save what the next leg needs")
    parser.add_argument("--tiers", default="AB", help="licence tiers of the pictures to train on")
    parser.add_argument("--classes", type=int, default=3, help="2: person and face; 3: vehicle too")
    parser.add_argument("--stale", type=float, default=1.0, help="thresholds of noise for networks named NAME-stale")
    parser.add_argument("--box-weight", type=float, default=CONFIG["loss"]["box"], help="of the box loss")
    parser.add_argument("--workers", type=int, default=8)
    run(parser.parse_args())


if __name__ == "__main__":
    main()
