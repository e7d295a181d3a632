#include "tiles.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "error.hpp"

namespace lowdose {

namespace {

constexpr int smallest_tile = 16;

struct Span {
    int start, skip;
};

std::vector<Span> cover(int length, int tile) {
    std::vector<Span> spans;
    for (int start = 0; start < length; start += tile) {
        const int moved = std::min(start, length - tile);
        spans.push_back({moved, start - moved});
    }
    return spans;
}

int around(int index, int length) {
    const int rest = index % length;
    return rest < 0 ? rest + length : rest;
}

}  // namespace

TilePlan plan_tiles(int height, int width, int margin, int tile) {
    if (tile == 0 || (tile >= height && tile >= width)) return {height, width, 0, {{0, 0, 0, 0}}};
    TilePlan plan{std::min(tile, height), std::min(tile, width), margin, {}};
    for (const Span y : cover(height, plan.height))
        for (const Span x : cover(width, plan.width)) plan.tiles.push_back({y.start, x.start, y.skip, x.skip});
    return plan;
}

int tile_for_memory(int height, int width, int margin, double bytes_per_px, double max_bytes) {
    const double max_px = max_bytes / bytes_per_px;
    if (static_cast<double>(height) * width <= max_px) return 0;
    const int tile = static_cast<int>(std::sqrt(std::max(0.0, max_px))) - 2 * margin;
    if (tile < smallest_tile)
        throw Error("a memory cap that leaves " +
                    std::to_string(static_cast<long long>(std::max(0.0, max_bytes) / 1e6)) +
                    " MB for tiles is too small for frames of " + std::to_string(height) + "x" + std::to_string(width) +
                    " pixels; raise the cap (--max-mem)");
    return tile;
}

void gather_tile(const float* frame, int height, int width, const TilePlan& plan, const Tile& tile, float* out) {
    for (int row = 0; row < plan.input_height(); ++row) {
        const int y = around(tile.y - plan.margin + row, height);
        for (int column = 0; column < plan.input_width();) {
            const int x = around(tile.x - plan.margin + column, width);
            const int run = std::min(width - x, plan.input_width() - column);
            const float* from = frame + static_cast<std::ptrdiff_t>(y) * width + x;
            out = std::copy(from, from + run, out);
            column += run;
        }
    }
}

void scatter_tile(const float* in, const TilePlan& plan, const Tile& tile, int width, float* frame) {
    for (int row = tile.skip_y; row < plan.height; ++row) {
        const float* from =
            in + static_cast<std::ptrdiff_t>(plan.margin + row) * plan.input_width() + plan.margin + tile.skip_x;
        float* to = frame + static_cast<std::ptrdiff_t>(tile.y + row) * width + tile.x + tile.skip_x;
        std::copy(from, from + (plan.width - tile.skip_x), to);
    }
}

}  // namespace lowdose
