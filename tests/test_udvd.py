"""UDVD: published size, blindness, homogeneity, any frame size, stages, and agreement with a direct reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lowdose_train.mirror import mirrored
from lowdose_train.scan_taps import SCAN_TAPS
from lowdose_train.udvd import WIDTHS, CausalUNet, MovieUdvd, ScanUdvd, pool_above
from udvd_networks import TINY, TINY_WITH_FILTER, random_udvd

WIDTHS_TESTED = [TINY, TINY_WITH_FILTER]


def n_parameters(network):
    return sum(weights.numel() for weights in network.parameters())


def test_full_has_the_published_number_of_parameters():
    """Two U-Nets of 3 x 3 kernels with 48 and 96 features, and the merge 384 -> 96 -> 1."""
    encoder = 9 * (48 * 48 * 2) + 9 * (48 * 48 * 3) + 9 * (48 * 96 + 96 * 96 + 96 * 48)
    decoder = 9 * (96 * 96 * 4) + 9 * (96 * 96 * 2)
    first = encoder + decoder + 9 * 3 * 48 + 9 * (96 + 3) * 96
    second = encoder + decoder + 9 * 288 * 48 + 9 * (96 + 288) * 96
    assert n_parameters(MovieUdvd(WIDTHS["full"])) == first + second + 384 * 96 + 96 == 2_114_448
    assert n_parameters(MovieUdvd(WIDTHS["lite"])) < 150_000


def test_a_u_net_sees_no_row_below_its_own():
    torch.manual_seed(0)
    network = CausalUNet(3, TINY)
    x = torch.rand(1, 3, 16, 20, requires_grad=True)
    out = network(x)
    for row in range(16):
        (gradient,) = torch.autograd.grad(out[0, :, row].sum(), x, retain_graph=True)
        assert not gradient[:, :, row + 1 :].any()
        assert gradient[:, :, row].any()


def test_pooling_takes_maxima_one_row_higher():
    frame = torch.arange(24.0).reshape(1, 1, 4, 6)
    assert pool_above(frame)[0, 0].tolist() == [[1, 3, 5], [13, 15, 17]]
    assert pool_above(-1 - frame)[0, 0].tolist() == [[0, 0, 0], [-7, -9, -11]]  # zeros follow from above


@pytest.mark.parametrize("width", WIDTHS_TESTED)
@pytest.mark.parametrize("blind_px", [1, 3])
@pytest.mark.parametrize(("y", "x"), [(0, 0), (7, 9), (15, 19), (8, 0)])
def test_an_output_pixel_does_not_see_itself_in_any_of_the_five_frames(width, blind_px, y, x):
    network = random_udvd(MovieUdvd, width, blind_px)
    frames = torch.rand(1, 5, 16, 20, requires_grad=True)
    (gradient,) = torch.autograd.grad(network.before_relu(frames)[0, 0, y, x], frames)
    seen = gradient[0] != 0  # (5, 16, 20)
    hidden = torch.zeros(16, 20, dtype=torch.bool)
    reach = blind_px // 2
    hidden[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1] = True
    assert not seen[:, hidden].any()
    around = torch.zeros(16, 20, dtype=torch.bool)
    around[max(0, y - reach - 1) : y + reach + 2, max(0, x - reach - 1) : x + reach + 2] = True
    assert seen.any(0)[around & ~hidden].all()
    assert all(frame.any() for frame in seen)


@pytest.mark.parametrize("neighbours", list(SCAN_TAPS))
def test_a_pattern_does_not_see_its_pixel_in_any_neighbour(neighbours):
    network = random_udvd(ScanUdvd)
    positions = SCAN_TAPS[neighbours].positions(4, 5)
    scan = torch.rand(20, 12, 8, requires_grad=True)
    out = network.before_relu(scan[positions])
    assert out.shape == (20, 1, 12, 8)
    (gradient,) = torch.autograd.grad(out[7, 0, 5, 3], scan)
    assert not gradient[:, 5, 3].any()
    assert {int(i) for i in gradient.flatten(1).any(1).nonzero()} == set(positions[7])


@pytest.mark.parametrize("width", WIDTHS_TESTED)
def test_is_homogeneous(width):
    network = random_udvd(MovieUdvd, width)
    frames = torch.randn(1, 5, 12, 16)
    torch.testing.assert_close(network(7 * frames), 7 * network(frames), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 3), (13, 22), (16, 31), (37, 4)])
def test_takes_frames_of_any_size(shape):
    """An unaligned frame is the corner of the aligned one that its mirror image fills up."""
    network = random_udvd(MovieUdvd)
    frames = torch.rand(2, 5, *shape)
    with torch.no_grad():
        out = network(frames)
        filled = frames
        for axis, size in zip((2, 3), shape, strict=True):
            filled = filled.index_select(axis, torch.from_numpy(mirrored(np.arange(size + -size % 4), size)))
        whole = network(filled)
    assert out.shape == (2, 1, *shape)
    assert torch.isfinite(out).all()
    assert torch.equal(out, whole[..., : shape[0], : shape[1]])


def test_turning_the_frames_turns_the_result():
    """Of a network whose merge treats the four orientations alike."""
    network = random_udvd(MovieUdvd, TINY)
    with torch.no_grad():
        n = TINY.up_outer[-1]
        network.merge.weight.copy_(network.merge.weight[:, :n].repeat(1, 4, 1, 1))
        frames = torch.rand(1, 5, 12, 20)
        out = network(frames)
        for turns in (1, 2, 3):
            turned = network(torch.rot90(frames, turns, (2, 3)))
            torch.testing.assert_close(torch.rot90(turned, -turns, (2, 3)), out, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("width", WIDTHS_TESTED)
def test_stages_of_a_stream_give_what_five_frames_give(width):
    network = random_udvd(MovieUdvd, width)
    frames = torch.rand(1, 9, 14, 21)
    with torch.no_grad():
        clip = network(frames)
        alone = torch.cat([network(frames[:, t : t + 5]) for t in range(5)], 1)
        filled = frames[..., :12, :20]
        states = [network.stage_1(filled[:, t : t + 3]) for t in range(7)]
        streamed = torch.cat([F.relu(network.stage_2(states[t : t + 3])) for t in range(5)], 1)
        whole = network(filled)
    torch.testing.assert_close(clip, alone, rtol=0, atol=1e-6)
    torch.testing.assert_close(streamed, whole, rtol=0, atol=1e-6)
    assert states[0].shape == (1, network.n_state, 12, 20)


@pytest.mark.parametrize("margin_case", WIDTHS_TESTED)
def test_sees_no_further_than_its_margin(margin_case):
    network = random_udvd(MovieUdvd, margin_case)
    side = 2 * network.margin_px + 9
    frames = torch.zeros(1, 5, side, side, requires_grad=True)
    middle = side // 2
    with torch.no_grad():
        frames += torch.rand(1, 5, side, side)
    (gradient,) = torch.autograd.grad(network.before_relu(frames)[0, 0, middle, middle], frames)
    rows, columns = gradient[0].abs().sum(0).nonzero(as_tuple=True)
    reach = max(int((rows - middle).abs().max()), int((columns - middle).abs().max()))
    assert network.margin_px - 12 <= reach <= network.margin_px


def waves(n_rows=24):
    """Five frames of moving plane waves (5, n_rows, 24), and their three triplets under a little noise."""
    y, x = np.mgrid[:n_rows, :24]
    shift = np.arange(5)[:, None, None]
    frames = torch.tensor(2 + np.sin(x / 2 + 0.3 * shift) + np.cos(y / 3), dtype=torch.float32)
    noise = torch.randn(frames.shape, generator=torch.Generator().manual_seed(0))
    return frames, (frames + 0.01 * noise)[[0, 1, 2, 1, 2, 3, 2, 3, 4]][None]


def test_the_filter_is_the_best_linear_prediction():
    frames, triplets = waves()
    network = MovieUdvd(TINY_WITH_FILTER)
    network.solve(triplets)
    assert not network.filter.kernel[..., 2, 2].any()
    assert not network.head.weight.any()  # a new network stays without a say
    with torch.no_grad():
        error = network(frames[None])[0, 0] - frames[2]
    assert float(error[4:-4, 4:-4].abs().max()) < 0.05


def test_frames_smaller_than_the_filter_solve_nothing():
    network = random_udvd(MovieUdvd)
    before = network.filter.kernel.clone()
    network.solve(torch.rand(2, 9, 4, 16))
    assert torch.equal(network.filter.kernel, before)


def test_the_edge_gain_makes_up_for_what_lies_outside():
    network = random_udvd(MovieUdvd)
    parts = network.filter(torch.ones(1, 3, 9, 11))[0]
    flat = parts.sum(0) * network.filter.edge_gain(9, 11)
    torch.testing.assert_close(flat, torch.full((9, 11), float(network.filter.kernel.sum())), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("weighted", [False, True])
def test_filter_and_head_are_solved_together(weighted):
    """The squared error on the pixels that were fitted gets worse whichever weight changes."""
    network = random_udvd(MovieUdvd)
    generator = torch.Generator().manual_seed(1)
    frames = torch.rand(6, 9, 16, 16, generator=generator) + waves()[1][:, :, :16, :16]
    weights = torch.rand(6, 1, 16, 16, generator=generator) if weighted else None
    network.solve(frames, weights)

    def error():
        with torch.no_grad():
            states = [network.stage_1(frames[:, i : i + 3]) for i in (0, 3, 6)]
            squares = (network.stage_2(states) - frames[:, 4:5]).square()[..., 2:-2, 2:-2]
        return float((squares * (weights[..., 2:-2, 2:-2] if weighted else 1)).mean())

    best = error()
    for values in (network.head.weight.data, network.filter.kernel):
        for index in (0, 2):
            kept = values.flatten()[index].clone()
            for step in (-0.05, 0.05):
                values.view(-1)[index] = kept + step
                assert error() > best
            values.view(-1)[index] = kept


@pytest.mark.parametrize(("size", "expected"), [(1, [0, 0, 0, 0]), (2, [0, 1, 0, 1]), (5, [0, 1, 2, 3, 4, 3, 2, 1, 0])])
def test_mirrored_indices(size, expected):
    assert mirrored(np.arange(len(expected)), size).tolist() == expected
    assert mirrored(-np.arange(len(expected)), size).tolist() == expected


def test_taps_of_scans():
    grid = np.arange(12).reshape(3, 4)
    inner = {name: taps.positions(3, 4)[5].tolist() for name, taps in SCAN_TAPS.items()}
    assert inner["cross"] == [1, 4, 5, 4, 5, 6, 5, 6, 9]
    assert inner["3x3"] == grid[:, :3].flatten().tolist()
    assert SCAN_TAPS["line"].positions(1, 5)[2].tolist() == [0, 1, 2, 1, 2, 3, 2, 3, 4]
    corner = SCAN_TAPS["3x3"].positions(3, 4)[0]
    assert corner.tolist() == [5, 4, 5, 1, 0, 1, 5, 4, 5]
    for taps in SCAN_TAPS.values():
        assert taps.positions(5, 6).shape == (30, 9)
        assert (taps.positions(5, 6)[:, 4] == np.arange(30)).all()
        assert set(taps.triplets) == set(range(len(taps.offsets)))
