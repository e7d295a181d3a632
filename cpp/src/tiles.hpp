// Tile geometry: plain integers, nothing else.
#pragma once

#include <vector>

namespace lowdose {

// A tile yields rows y..y+height and columns x..x+width of the frame, of which the first `skip_y` rows
// and `skip_x` columns were already yielded by its neighbours. Its input has `margin` more pixels on each side.
struct Tile {
    int y, x, skip_y, skip_x;
};

struct TilePlan {
    int height, width;  // of every tile, without margins
    int margin;         // 0 when the one tile is the whole frame
    std::vector<Tile> tiles;

    bool whole_frame() const { return tiles.size() == 1 && margin == 0; }
    int input_height() const { return height + 2 * margin; }
    int input_width() const { return width + 2 * margin; }
};

// Tiles of at most tile x tile pixels (0: one tile, the whole frame). All have the same size, so that one
// session serves all: the last row and column move back into the frame instead of shrinking.
TilePlan plan_tiles(int height, int width, int margin, int tile);

// The largest tile whose input stays within `max_bytes` at `bytes_per_px`; 0 when the whole frame does.
// Throws Error when not even a tile of 16 pixels fits.
int tile_for_memory(int height, int width, int margin, double bytes_per_px, double max_bytes);

// Copies the tile's input from `frame` (height, width) to `out`; beyond the border the frame repeats periodically.
void gather_tile(const float* frame, int height, int width, const TilePlan& plan, const Tile& tile, float* out);

// Copies what the tile yields from `in` (input_height, input_width) into `frame`.
void scatter_tile(const float* in, const TilePlan& plan, const Tile& tile, int width, float* frame);

}  // namespace lowdose
