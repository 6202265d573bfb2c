# SPDX-License-Identifier: MPL-2.0
"""Quick checks of the tools: `python -m pytest -q`."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch

import world
from batches import AUX_SIZES, Clock, cell_labels, prefix, segment_mask, turn
from clips import describe
from model import Dense, new_model
from render import Matrix, draw, draw_natively, from_yuv420, patches, reduce_frame, to_yuv420
from tokenizer import Codec
from world import Scene, Thing

SHIPPED = Path(__file__).resolve().parent.parent.parent / "models" / "demo"


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec(SHIPPED / "tokenizer.json")


def still(color: str, shape: str, motions: list[str | None]) -> Thing:
    n = 2 * len(motions)
    return Thing(color, (255, 0, 0), shape, 10.0, motions, np.full((n, 2), 40.0))


def test_captions_follow_the_grammar() -> None:
    red = still("red", "circle", ["up-left", "up-left", "down"])
    orange = still("orange", "square", ["still", "still", "left"])
    scene = Scene((3, 4), 3, [red, orange])
    want = "A red circle moves up-left then down and an orange square stays still then moves left."
    assert world.caption(scene) == want
    assert world.caption(scene, video=False) == "A red circle and an orange square."


def test_a_tail_adds_nothing_to_the_caption() -> None:
    scene = Scene((3, 4), 2, [still("red", "circle", ["left", None])], tail=True)
    assert world.caption(scene) == "A red circle moves left."


def test_a_tail_counts_its_frame_twice() -> None:
    assert Clock().pair_times(2, tail=True) == [0.5, 2.0]
    assert Clock().pair_times(2, tail=False) == [0.5, 2.5]


@pytest.mark.parametrize(
    ("size", "grid"),
    [((320, 240), (3, 4)), ((1920, 1080), (3, 5)), ((854, 480), (2, 5)), ((384, 384), (4, 4)), ((160, 120), (3, 4))],
)
def test_sizes_map_to_the_grids_of_smart_resize(size: tuple[int, int], grid: tuple[int, int]) -> None:
    assert world.grid_for(*size) == grid


def test_paths_show_their_motions_inside_the_canvas() -> None:
    rng = random.Random(1)
    for _ in range(200):
        scene = world.object_scene(rng, world.random_grid(rng), rng.randint(1, 4))
        height, width = scene.size
        for thing in scene.things:
            assert (thing.positions >= thing.radius).all()
            assert (thing.positions <= [width - thing.radius, height - thing.radius]).all()
            for pair, motion in enumerate(thing.motions):
                step = thing.positions[2 * pair + 1] - thing.positions[2 * pair]
                if motion in world.DIRECTIONS:
                    name, margin = world.direction_of(*step)
                    assert name == motion and margin > 12
                else:
                    assert np.allclose(step, 0)


@pytest.mark.parametrize("matrix", list(Matrix))
def test_yuv_round_trip_keeps_flat_colors(matrix: Matrix) -> None:
    frame = np.empty((16, 16, 3), np.uint8)
    for rgb in ((255, 0, 0), (0, 255, 0), (30, 70, 200), (255, 255, 255), (0, 0, 0)):
        frame[:] = rgb
        back = from_yuv420(*to_yuv420(frame, matrix), matrix)
        assert np.abs(back.astype(int) - frame).max() <= 2


def test_native_drawing_comes_back_as_the_canvas() -> None:
    scene = world.object_scene(random.Random(3), (3, 5), 2, clean=1.0)
    noise = np.random.default_rng(0)
    direct, native = draw(scene, noise), draw_natively(scene, noise, (640, 360), None)
    assert np.abs(direct.astype(int) - native).mean() < 1.5
    assert reduce_frame(direct[0], scene.grid).shape == direct[0].shape


def test_cells_know_their_objects() -> None:
    scene = world.object_scene(random.Random(5), (3, 4), 2, count=2)
    labels = cell_labels(scene)
    assert labels.shape == (2, 4, 3, 4)
    assert {int(c) for c in labels[:, 0].ravel()} - {AUX_SIZES[0] - 1, -100} == {
        world.COLOR_NAMES.index(t.color) for t in scene.things
    }


def test_descriptions_are_plain_json() -> None:
    scene = world.object_scene(random.Random(7), (3, 5), 3, clean=0.0)
    clip = describe(scene, "x", [("q", "a")])
    assert len(clip["objects"][0]["x"]) == 6
    assert clip["caption"] == world.caption(scene)


@pytest.mark.parametrize(("image", "pairs", "grid"), [(False, 2, (3, 5)), (True, 1, (4, 4))])
def test_dense_forward_is_the_stock_forward(codec: Codec, image: bool, pairs: int, grid: tuple[int, int]) -> None:
    torch.manual_seed(0)
    stock = new_model(codec).eval()
    for weight in stock.parameters():
        if weight.ndim > 1:
            weight.data.normal_(0, 0.08)
        else:
            weight.data.add_(torch.randn_like(weight) * 0.1)
    frames = draw(world.object_scene(random.Random(1), grid, pairs), np.random.default_rng(1))
    pixels = torch.from_numpy(patches(frames, grid)).float() / 127.5 - 1
    head = prefix(codec, grid, pairs, image=image)
    after = codec.encode(turn("Describe the video."))
    ids = torch.tensor([head.ids + after])
    places = head.positions + [(head.next_position + i,) * 3 for i in range(len(after))]
    positions = torch.tensor(places).T[:, None]
    is_visual = torch.tensor(head.is_visual + [False] * len(after))
    dense = Dense(stock)
    kinds = torch.zeros_like(ids)
    kinds[ids == codec.image_pad], kinds[ids == codec.video_pad] = 1, 2
    thw = torch.tensor([[pairs, 2 * grid[0], 2 * grid[1]]])
    flat = pixels.flatten(0, 1)
    visual = {"pixel_values": flat, "image_grid_thw": thw}
    if not image:
        visual = {"pixel_values_videos": flat, "video_grid_thw": thw}
    with torch.no_grad():
        tokens, deep = dense.vision(pixels, grid)
        hidden = dense.text(
            ids, positions, segment_mask(torch.zeros_like(ids)), is_visual,
            tokens.reshape(1, -1, tokens.shape[-1]), [d.reshape(1, -1, d.shape[-1]) for d in deep],
        )  # fmt: skip
        want = stock(input_ids=ids, attention_mask=torch.ones_like(ids), mm_token_type_ids=kinds, **visual).logits
    assert (dense.logits(hidden) - want).abs().max() < 1e-4
