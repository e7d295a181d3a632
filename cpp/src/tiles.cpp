#include "tiles.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "error.hpp"

namespace lowdose {

namespace {

constexpr int smallest_tile = 16;

// Along one axis: `in` is where the input starts; first..end is what is yielded.
struct Span {
    int in, first, end;
};

// A periodic frame: all tiles have the same size, the last one moves back into the frame instead of shrinking.
std::vector<Span> cover_around(int length, int tile, int margin) {
    std::vector<Span> spans;
    for (int first = 0; first < length; first += tile)
        spans.push_back({std::min(first, length - tile) - margin, first, std::min(first + tile, length)});
    return spans;
}

// A frame that the network pads: a tile's input ends where the aligned frame does.
std::vector<Span> cover_inside(int length, int tile, int margin, int input, int aligned) {
    std::vector<Span> spans;
    for (int first = 0; first < length; first += tile)
        spans.push_back({std::clamp(first - margin, 0, aligned - input), first, std::min(first + tile, length)});
    return spans;
}

int around(int index, int length) {
    const int rest = index % length;
    return rest < 0 ? rest + length : rest;
}

// Mirrored at the far border, as often as it takes.
int back(int index, int length) {
    const int twice = std::max(1, 2 * (length - 1));
    const int rest = index % twice;
    return rest < length ? rest : twice - rest;
}

TilePlan make_plan(const std::vector<Span>& rows, const std::vector<Span>& columns, int input_height, int input_width,
                   bool periodic) {
    TilePlan plan{input_height, input_width, periodic, false, {}};
    for (const Span& y : rows)
        for (const Span& x : columns)
            plan.tiles.push_back({y.in, x.in, y.first, x.first, y.end - y.first, x.end - x.first});
    return plan;
}

}  // namespace

int round_up(int length, int step) { return (length + step - 1) / step * step; }

TilePlan plan_tiles(int height, int width, const TileRules& rules, int tile) {
    const int step = rules.align_px, margin = round_up(rules.margin_px, step);
    const int aligned_height = round_up(height, step), aligned_width = round_up(width, step);
    if (tile == 0 || (tile >= height && tile >= width)) {
        const bool as_it_is = aligned_height == height && aligned_width == width;
        return {aligned_height, aligned_width, false, as_it_is, {{0, 0, 0, 0, height, width}}};
    }
    if (rules.periodic) {
        const int tile_y = std::min(tile, height), tile_x = std::min(tile, width);
        return make_plan(cover_around(height, tile_y, margin), cover_around(width, tile_x, margin), tile_y + 2 * margin,
                         tile_x + 2 * margin, true);
    }
    const int side = std::max(step, tile / step * step);
    const int input_height = std::min(side + 2 * margin, aligned_height);
    const int input_width = std::min(side + 2 * margin, aligned_width);
    return make_plan(cover_inside(height, side, margin, input_height, aligned_height),
                     cover_inside(width, side, margin, input_width, aligned_width), input_height, input_width, false);
}

int tile_for_memory(int height, int width, const TileRules& rules, double bytes_per_px, double max_bytes) {
    const double max_px = max_bytes / bytes_per_px;
    const int step = rules.align_px;
    if (static_cast<double>(round_up(height, step)) * round_up(width, step) <= max_px) return 0;
    const int tile = static_cast<int>(std::sqrt(std::max(0.0, max_px))) - 2 * round_up(rules.margin_px, step);
    if (tile < std::max(smallest_tile, step))
        throw Error("a memory cap that leaves " +
                        std::to_string(static_cast<long long>(std::max(0.0, max_bytes) / 1e6)) +
                        " MB for tiles is too small for frames of " + std::to_string(height) + "x" +
                        std::to_string(width) + " pixels; raise the cap (--max-mem, max_bytes)",
                    Error::Kind::memory);
    return tile;
}

void gather_tile(const float* frame, int height, int width, const TilePlan& plan, const Tile& tile, float* out) {
    for (int row = 0; row < plan.input_height; ++row) {
        const int y = plan.periodic ? around(tile.in_y + row, height) : back(tile.in_y + row, height);
        const float* from = frame + static_cast<std::ptrdiff_t>(y) * width;
        for (int column = 0; column < plan.input_width;) {
            const int at = tile.in_x + column;
            if (!plan.periodic && at >= width) {
                *out++ = from[back(at, width)];
                ++column;
                continue;
            }
            const int x = around(at, width);
            const int run = std::min(width - x, plan.input_width - column);
            out = std::copy(from + x, from + x + run, out);
            column += run;
        }
    }
}

void scatter_tile(const float* in, const TilePlan& plan, const Tile& tile, int width, float* frame) {
    for (int row = tile.y; row < tile.y + tile.n_y; ++row) {
        const float* from = in + static_cast<std::ptrdiff_t>(row - tile.in_y) * plan.input_width + (tile.x - tile.in_x);
        std::copy(from, from + tile.n_x, frame + static_cast<std::ptrdiff_t>(row) * width + tile.x);
    }
}

}  // namespace lowdose
