// Tile geometry: plain integers, nothing else.
#pragma once

#include <vector>

namespace lowdose {

// How a network may be cut into tiles.
struct TileRules {
    int margin_px;  // how far an output pixel sees
    int align_px;   // sides and starts of what the network takes are multiples of it
    bool periodic;  // beyond its border the frame repeats; if not, the network pads, and tiles end at the border
};

// A tile takes the pixels from (in_y, in_x) on and yields rows y..y+n_y and columns x..x+n_x of the frame.
struct Tile {
    int in_y, in_x, y, x, n_y, n_x;
};

struct TilePlan {
    int input_height, input_width;  // of every tile: one session serves all
    bool periodic;                  // what lies beyond the frame; if not, it is mirrored up to the alignment
    bool whole_frame;               // the one tile is the frame as it is
    std::vector<Tile> tiles;
};

// The least multiple of `step` that is not below `length`.
int round_up(int length, int step);

// Tiles that yield at most tile x tile pixels (0: one tile, the whole frame).
TilePlan plan_tiles(int height, int width, const TileRules& rules, int tile);

// The largest tile whose input stays within `max_bytes` at `bytes_per_px`; 0 when the whole frame does.
// Throws Error when not even a tile of 16 pixels fits.
int tile_for_memory(int height, int width, const TileRules& rules, double bytes_per_px, double max_bytes);

// Copies the tile's input from one plane of the frame, (height, width), to `out`.
void gather_tile(const float* frame, int height, int width, const TilePlan& plan, const Tile& tile, float* out);

// Copies what the tile yields from `in` (input_height, input_width) into one plane of the frame.
void scatter_tile(const float* in, const TilePlan& plan, const Tile& tile, int width, float* frame);

}  // namespace lowdose
