// Compiled once per instruction set. CMakeLists.txt defines LOWDOSE_FEATURES (the name of the result), LOWDOSE_NAME (as
// text) and LOWDOSE_VECTOR_BYTES (0: plain loops for any compiler).
#include "blind_features_tiles.hpp"

#include <cstring>

#include "blind_features_blocks.hpp"

namespace lowdose::ops {

namespace {

static_assert(most_pixels_per_block % block_width == 0 && most_pixels_per_block % layer_width == 0 &&
                  most_pixels_per_block % (row_vectors * lanes) == 0 && tile_columns % most_pixels_per_block == 0 &&
                  block_rows % row_rows == 0,
              "a tile holds whole blocks");

constexpr int round_up(int length, int unit) { return (length + unit - 1) / unit * unit; }

// Copies a part of a plane; what lies outside the plane is zero. Lines that come soon are brought into the cache.
void copy_part(const Plane& plane, int top, int left, int rows, int columns, float* out, int stride) {
    constexpr int lines_ahead = 4, floats_per_cache_line = 16;
    const int before = left < 0 ? (-left < columns ? -left : columns) : 0;
    int inside = plane.width - (left + before);
    inside = inside < 0 ? 0 : inside < columns - before ? inside : columns - before;
    for (int y = top; y < top + rows; ++y, out += stride) {
        if (y < 0 || y >= plane.height) {
            std::memset(out, 0, static_cast<size_t>(columns) * sizeof(float));
            continue;
        }
        const float* line = plane.pixels + static_cast<Offset>(y) * plane.stride + left + before;
        if (y + lines_ahead < plane.height)
            for (int x = 0; x < inside; x += floats_per_cache_line)
                LOWDOSE_FETCH(line + lines_ahead * plane.stride + x);
        std::memset(out, 0, static_cast<size_t>(before) * sizeof(float));
        std::memcpy(out + before, line, static_cast<size_t>(inside) * sizeof(float));
        std::memset(out + before + inside, 0, static_cast<size_t>(columns - before - inside) * sizeof(float));
    }
}

// How the scratch memory is used for tiles of this size, all in floats.
struct FilterMemory {
    int rows, columns, stride;  // of the part of a plane that the filter sees
    Offset sums;

    FilterMemory(const PackedFeatures& network, const Tile& tile)
        : rows(round_up(tile.rows, block_rows) + network.linear_height - 1),
          columns(round_up(tile.columns, block_width) + network.linear_width - 1),
          stride(round_up(columns, 16)),
          sums(static_cast<Offset>(rows) * stride) {}
    Offset size() const { return sums + (tile_rows + block_rows) * tile_columns; }
};

void filter(const PackedFeatures& network, const Plane* planes, const Tile& tile, float* scratch, float* out,
            int stride) {
    const FilterMemory memory(network, tile);
    float* results = scratch + memory.sums;
    for (int p = 0; p < network.n_planes; ++p) {
        copy_part(planes[p], tile.top - network.linear_height / 2, tile.left - network.linear_width / 2, memory.rows,
                  memory.columns, scratch, memory.stride);
        const float* weights = network.linear + static_cast<Offset>(p) * network.linear_width * network.linear_height;
        for (int y = 0; y < tile.rows; y += block_rows)
            for (int x = 0; x < tile.columns; x += block_width) {
                Sums sums;
                LOWDOSE_UNROLL
                for (int row = 0; row < block_rows; ++row) {
                    LOWDOSE_UNROLL
                    for (int v = 0; v < block_vectors; ++v)
                        sums.of[row][v] =
                            p ? load(results + (y + row) * tile_columns + x + v * lanes) : filled(network.linear_bias);
                }
                correlate(scratch + static_cast<Offset>(y) * memory.stride + x, memory.stride, weights,
                          network.linear_height, network.linear_width, sums);
                store_block(sums, results + y * tile_columns + x, tile_columns);
            }
    }
    for (int y = 0; y < tile.rows; ++y)
        std::memcpy(out + static_cast<Offset>(y) * stride, results + y * tile_columns,
                    static_cast<size_t>(tile.columns) * sizeof(float));
}

struct FeatureMemory {
    int rows, columns;  // of the tile, in whole blocks
    int above, before;  // margins of the planes around the tile
    int plane_rows, plane_stride;
    Offset plane_size;
    int mixed_rows;    // of a mixture: the tile with the rows that a feature sees
    int seen_columns;  // the columns that a feature sees
    int input_stride;  // between inputs of the perceptron
    Offset mixed, columns_done, inputs, hidden, size;

    FeatureMemory(const PackedFeatures& network, const Tile& tile) {
        const auto larger_of = [](int a, int b) { return a > b ? a : b; };
        rows = round_up(tile.rows, block_rows);
        columns = round_up(tile.columns, most_pixels_per_block);
        above = larger_of(network.height, network.own_side) / 2;
        before = larger_of(network.width, network.own_side) / 2;
        seen_columns = round_up(columns + network.width - 1, layer_width);
        plane_rows = rows + 2 * above;
        plane_stride = round_up(before + larger_of(seen_columns, columns + before), 16);
        plane_size = static_cast<Offset>(plane_rows) * plane_stride;
        mixed_rows = rows + network.height - 1;
        input_stride = columns + 16;  // not a power of two: the inputs would share few lines of the cache
        mixed = plane_size * (network.n_planes + 1);
        columns_done = mixed + static_cast<Offset>(sizes.mix_outputs) * mixed_rows * layer_width;
        inputs = columns_done + static_cast<Offset>(sizes.mix_outputs) * rows * seen_columns;
        hidden = inputs + static_cast<Offset>(rows) * network.n_inputs * input_stride;
        size = hidden + static_cast<Offset>(network.n_hidden_1 + sizes.layer_outputs) * layer_width;
    }
};

// Mixtures first ... first + mix_outputs - 1 of the planes, for a strip of columns as wide as a block.
void mix(const PackedFeatures& network, const FeatureMemory& memory, int first, const float* planes, float* mixed) {
    for (int y = 0; y < memory.mixed_rows; ++y, planes += memory.plane_stride, mixed += layer_width) {
        Vector sums[sizes.mix_outputs][layer_vectors];
        fill(sums, 0);
        add_inputs(planes, memory.plane_size, network.n_mixed, network.mix + first * network.n_mixed, sums);
        LOWDOSE_UNROLL
        for (int f = 0; f < sizes.mix_outputs; ++f) {
            LOWDOSE_UNROLL
            for (int v = 0; v < layer_vectors; ++v)
                store(mixed + f * memory.mixed_rows * layer_width + v * lanes, sums[f][v]);
        }
    }
}

// The correlation of a strip of a mixture with a column.
void look_up_and_down(const float* mixed, const float* weights, int height, int rows, float* out, int stride) {
    for (int x = 0; x < layer_width; x += block_width)
        for (int y = 0; y < rows; y += block_rows) {
            Sums sums;
            fill(sums.of, 0);
            correlate(mixed + y * layer_width + x, layer_width, weights, height, 1, sums);
            store_block(sums, out + y * stride + x, stride);
        }
}

// The correlation of columns that are done with a row.
void look_left_and_right(const float* columns, int columns_stride, const float* weights, int width,
                         const FeatureMemory& memory, float* out, Offset stride) {
    for (int y = 0; y < memory.rows; y += row_rows)
        for (int x = 0; x < memory.columns; x += row_vectors * lanes) {
            const float* from = columns + y * columns_stride + x;
            Vector sums[row_rows][row_vectors];
            fill(sums, 0);
            int j = 0;
#if LOWDOSE_VECTOR_BYTES == 64
            // Nearly every load crosses a cache line and takes twice as long; every other one is put together instead.
            for (; j + 1 < width; j += 2) {
                LOWDOSE_UNROLL
                for (int row = 0; row < row_rows; ++row) {
                    Vector pixel = load(from + row * columns_stride + j);
                    LOWDOSE_KEEP(pixel);
                    LOWDOSE_UNROLL
                    for (int v = 0; v < row_vectors; ++v) {
                        Vector after = load(from + row * columns_stride + j + (v + 1) * lanes);
                        LOWDOSE_KEEP(after);
                        sums[row][v] += weights[j] * pixel;
                        sums[row][v] += weights[j + 1] * moved_by_one(pixel, after);
                        pixel = after;
                    }
                }
            }
#endif
            for (; j < width; ++j) {
                LOWDOSE_UNROLL
                for (int row = 0; row < row_rows; ++row) {
                    LOWDOSE_UNROLL
                    for (int v = 0; v < row_vectors; ++v)
                        sums[row][v] += weights[j] * load(from + row * columns_stride + j + v * lanes);
                }
            }
            LOWDOSE_UNROLL
            for (int row = 0; row < row_rows; ++row) {
                LOWDOSE_UNROLL
                for (int v = 0; v < row_vectors; ++v) store(out + (y + row) * stride + x + v * lanes, sums[row][v]);
            }
        }
}

// Features first ... first + n - 1 of a tile, side by side with the other inputs of the perceptron.
void compute_features(const PackedFeatures& network, const FeatureMemory& memory, int first, int n, float* scratch) {
    float *mixed = scratch + memory.mixed, *columns = scratch + memory.columns_done;
    const float* planes = scratch + static_cast<Offset>(memory.above - network.height / 2) * memory.plane_stride +
                          (memory.before - network.width / 2);
    for (int x = 0; x < memory.seen_columns; x += layer_width) {
        mix(network, memory, first, planes + x, mixed);
        for (int f = 0; f < n; ++f)
            look_up_and_down(mixed + f * memory.mixed_rows * layer_width,
                             network.vertical + (first + f) * network.height, network.height, memory.rows,
                             columns + f * memory.rows * memory.seen_columns + x, memory.seen_columns);
    }
    float* out = scratch + memory.inputs + (network.n_inputs - network.n_features + first) * memory.input_stride;
    for (int f = 0; f < n; ++f)
        look_left_and_right(columns + f * memory.rows * memory.seen_columns, memory.seen_columns,
                            network.horizontal + (first + f) * network.width, network.width, memory,
                            out + f * memory.input_stride, network.n_inputs * memory.input_stride);
}

// The perceptron for a vector block: `inputs` are input_stride floats apart. total: its result and the linear filter's.
LOWDOSE_INLINE void perceptron(const PackedFeatures& network, const float* inputs, Offset input_stride, float* hidden,
                               Vector (&total)[1][layer_vectors]) {
    constexpr int n_outputs = sizes.layer_outputs;
    const Vector zero{};
    LOWDOSE_UNROLL
    for (int v = 0; v < layer_vectors; ++v) total[0][v] = load(inputs + v * lanes) + filled(network.b3);
    add_inputs(inputs, input_stride, network.n_inputs, network.w3_inputs, total);
    for (int first = 0; first < network.n_hidden_1; first += n_outputs) {
        Vector sums[n_outputs][layer_vectors];
        LOWDOSE_UNROLL
        for (int out = 0; out < n_outputs; ++out) {
            LOWDOSE_UNROLL
            for (int v = 0; v < layer_vectors; ++v) sums[out][v] = filled(network.b1[first + out]);
        }
        add_inputs(inputs, input_stride, network.n_inputs, network.w1 + first * network.n_inputs, sums);
        LOWDOSE_UNROLL
        for (int out = 0; out < n_outputs; ++out) {
            LOWDOSE_UNROLL
            for (int v = 0; v < layer_vectors; ++v) {
                const Vector value = larger(sums[out][v], zero);
                store(hidden + (first + out) * layer_width + v * lanes, value);
                total[0][v] += network.w3_hidden_1[first + out] * value;
            }
        }
    }
    for (int first = 0; first < network.n_hidden_2; first += n_outputs) {
        Vector sums[n_outputs][layer_vectors];
        LOWDOSE_UNROLL
        for (int out = 0; out < n_outputs; ++out) {
            LOWDOSE_UNROLL
            for (int v = 0; v < layer_vectors; ++v) sums[out][v] = filled(network.b2[first + out]);
        }
        add_inputs(hidden, layer_width, network.n_hidden_1, network.w2 + first * network.n_hidden_1, sums);
        LOWDOSE_UNROLL
        for (int out = 0; out < n_outputs; ++out) {
            LOWDOSE_UNROLL
            for (int v = 0; v < layer_vectors; ++v)
                total[0][v] += network.w3_hidden_2[first + out] * larger(sums[out][v], zero);
        }
    }
}

void denoise(const PackedFeatures& network, const Plane* planes, const Plane& filtered, int margin_y, int margin_x,
             const Tile& tile, float* scratch, float* out, int stride) {
    const FeatureMemory memory(network, tile);
    const int top = tile.top - memory.above, left = tile.left - memory.before;
    for (int p = 0; p < network.n_planes; ++p)
        copy_part(planes[p], top, left, memory.plane_rows, memory.plane_stride, scratch + p * memory.plane_size,
                  memory.plane_stride);
    copy_part(filtered, top + margin_y, left + margin_x, memory.plane_rows, memory.plane_stride,
              scratch + network.n_planes * memory.plane_size, memory.plane_stride);
    const int n_own = network.own_side * network.own_side, reach = network.own_side / 2;
    for (int y = 0; y < tile.rows; ++y) {
        float* inputs = scratch + memory.inputs + static_cast<Offset>(y) * network.n_inputs * memory.input_stride;
        const auto take = [&](int plane, int dy, int dx) {
            std::memcpy(inputs,
                        scratch + plane * memory.plane_size +
                            static_cast<Offset>(y + memory.above + dy) * memory.plane_stride + memory.before + dx,
                        static_cast<size_t>(memory.columns) * sizeof(float));
            inputs += memory.input_stride;
        };
        take(network.n_planes, 0, 0);
        for (int i = 0; i < n_own; ++i)
            take(network.own_plane, i / network.own_side - reach, i % network.own_side - reach);
    }
    for (int f = 0; f < network.n_features; f += sizes.mix_outputs)
        compute_features(network, memory, f,
                         network.n_features - f < sizes.mix_outputs ? network.n_features - f : sizes.mix_outputs,
                         scratch);
    for (int y = 0; y < tile.rows; ++y) {
        const float* inputs = scratch + memory.inputs + static_cast<Offset>(y) * network.n_inputs * memory.input_stride;
        for (int x = 0; x < tile.columns; x += layer_width) {
            Vector total[1][layer_vectors];
            perceptron(network, inputs + x, memory.input_stride, scratch + memory.hidden, total);
            const int count = tile.columns - x < layer_width ? tile.columns - x : layer_width;
            std::memcpy(out + static_cast<Offset>(y) * stride + x, total, static_cast<size_t>(count) * sizeof(float));
        }
    }
}

std::size_t scratch_size(const PackedFeatures& network) {
    const Tile largest{0, 0, tile_rows, tile_columns};
    const Offset of_filter = FilterMemory(network, largest).size(), of_features = FeatureMemory(network, largest).size;
    return static_cast<std::size_t>(of_filter > of_features ? of_filter : of_features);
}

}  // namespace

const FeatureKernel LOWDOSE_FEATURES{LOWDOSE_NAME, sizes, &filter, &denoise, &scratch_size};

}  // namespace lowdose::ops
