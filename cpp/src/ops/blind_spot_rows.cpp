// Compiled once per instruction set. CMakeLists.txt defines LOWDOSE_ROWS (the name of the result), LOWDOSE_NAME (as
// text), LOWDOSE_VECTOR_BYTES (0: plain loops for any compiler) and LOWDOSE_BLOCK_VECTORS, how many vectors of a row
// are computed together.
#include "blind_spot_rows.hpp"

#include <cstddef>
#include <cstring>

#include "toom_cook.hpp"
#include "vector.hpp"

namespace lowdose::ops {

namespace {

#if LOWDOSE_VECTOR_BYTES > 0
#define LOWDOSE_CONVOLVE inline
#elif defined(_MSC_VER)
// In a function of its own the compiler finds vectors in the loops of the portable form: twice as fast with GCC.
#define LOWDOSE_CONVOLVE __declspec(noinline)
#else
#define LOWDOSE_CONVOLVE __attribute__((noinline))
#endif

constexpr int row_vectors = LOWDOSE_BLOCK_VECTORS;
constexpr int block_width = lanes * row_vectors;
static_assert(strip_width % block_width == 0, "a strip holds whole blocks");
static_assert(lanes <= most_floats_per_vector && block_width <= most_floats_per_block,
              "the scratch memory holds a block");

// Copies pixels first ... first + length - 1 of a row that repeats periodically.
void copy_periodic(const float* row, int width, int first, int length, float* out) {
    int x = (first % width + width) % width;
    for (int done = 0; done < length; x = 0) {
        const int run = width - x < length - done ? width - x : length - done;
        std::memcpy(out + done, row + x, static_cast<size_t>(run) * sizeof(float));
        done += run;
    }
}

#if LOWDOSE_VECTOR_BYTES > 0
// Brings pixels first ... last - 1 of a row that is needed soon into the cache while the tile before it is computed.
inline void fetch_ahead(const float* row, int width, int first, int last) {
    constexpr int floats_per_cache_line = 16;
    for (int x = first < 0 ? 0 : first; x < last && x < width; x += floats_per_cache_line) __builtin_prefetch(row + x);
}
#else
inline void fetch_ahead(const float*, int, int, int) {}
#endif

// The values at the points of a part of a kernel with this many rows: out[point * step + x], from as many lines.
template <int rows>
void transform(const float* const* lines, std::ptrdiff_t first, int length, std::ptrdiff_t step, float* out) {
    constexpr int pairs = n_pairs(rows);
    constexpr Polynomials polynomials(pairs);
    const float* from[n_points(rows)];
    for (int i = 0; i < n_points(rows); ++i) from[i] = lines[i] + first;
    for (int x = 0; x < length; x += lanes) {
        float* to = out + x;
        Vector line[n_points(rows)];
        for (int i = 0; i < n_points(rows); ++i) line[i] = load(from[i] + x);
        for (int pair = 0; pair < pairs; ++pair) {
            Vector even{}, odd{};
            for (int i = 0; i < pairs; ++i) {
                const double weight = polynomials.without[pair][i];
                even += static_cast<float>(weight) * line[2 * i + 2];
                odd += static_cast<float>(pair_points[pair] * weight) * line[2 * i + 1];
            }
            store(to, even + odd);
            store(to + step, even - odd);
            to += 2 * step;
        }
        Vector zero{}, infinity{};
        for (int i = 0; i <= pairs; ++i) {
            zero += static_cast<float>(polynomials.all[i]) * line[2 * i];
            if (has_infinity(rows)) infinity += static_cast<float>(polynomials.all[i]) * line[2 * i + 1];
        }
        store(to, zero);
        if (has_infinity(rows)) store(to + step, infinity);
    }
}

// Adds to four rows what the products at the points of a part give: sums[point * step].
template <int rows>
inline void combine(const Vector* sums, std::ptrdiff_t step, Vector* row) {
    constexpr int pairs = n_pairs(rows);
    for (int pair = 0; pair < pairs; ++pair) {
        const Vector plus = sums[2 * pair * step], minus = sums[(2 * pair + 1) * step];
        const Vector even = plus + minus, odd = plus - minus;
        const auto point = static_cast<float>(pair_points[pair]);
        row[0] += even;
        row[1] += point * odd;
        row[2] += point * point * even;
        row[3] += point * point * point * odd;
    }
    row[0] += sums[2 * pairs * step];
    if (has_infinity(rows)) row[3] += sums[(2 * pairs + 1) * step];
}

template <int n>
struct Rows {
    static constexpr int rows = n;
};

// Calls run(first line, first point, Rows) for each part of a kernel.
template <class Run>
inline void for_each_part(int size, Run run) {
    for (int part = 0, line = 0, point = 0; part < n_parts(size); ++part) {
        const int rows = part_rows(size, part);
        if (rows == 1) run(line, point, Rows<1>{});
        if (rows == 3) run(line, point, Rows<3>{});
        if (rows == 4) run(line, point, Rows<4>{});
        if (rows == 5) run(line, point, Rows<5>{});
        line += rows;
        point += n_points(rows);
    }
}

// The products of three features of a block at each point, summed over taps and columns. lines: the transformed lines
// from the block's first column on, `step` apart; sums: (n_points, 3, row_vectors).
LOWDOSE_CONVOLVE void convolve(const PackedNetwork& network, int size, const float* kernel, const float* lines,
                               std::ptrdiff_t step, std::ptrdiff_t sums_step, Vector* sums) {
    for (int point = 0; point < n_points_of_kernel(size); ++point, sums += sums_step) {
        Vector sum[feature_group][row_vectors] = {};
        for (int tap = 0; tap < network.n_taps; ++tap, lines += step)
            for (int j = 0; j < size; ++j, kernel += feature_group)
                for (int v = 0; v < row_vectors; ++v) {
                    Vector pixel = load(lines + j + v * lanes);
#if LOWDOSE_VECTOR_BYTES > 0
                    __asm__("" : "+v"(pixel));  // stay in a register: GCC would load it again for each feature
#endif
                    for (int f = 0; f < feature_group; ++f) sum[f][v] += kernel[f] * pixel;
                }
        for (int f = 0; f < feature_group; ++f)
            for (int v = 0; v < row_vectors; ++v) sums[f * row_vectors + v] = sum[f][v];
    }
}

// The layers after the convolution, from the features of four rows, (4, n_features), to what the branch adds to them.
// With the number of features fixed at compile time they stay in registers; else (0) `features` has room for twice as
// many.
template <int fixed_features>
inline void add_mixed(const PackedNetwork& network, const PackedBranch& branch, Vector* features, float* result) {
    const int n_features = fixed_features ? fixed_features : network.n_features;
    Vector own[2][fixed_features ? fixed_features * tile_rows : 1];
    Vector* now = fixed_features ? own[0] : features;
    Vector* next = fixed_features ? own[1] : features + n_features * tile_rows;
    if (fixed_features)
        for (int i = 0; i < n_features * tile_rows; ++i) now[i] = features[i];
    const float* weights = branch.mixing;
    for (int layer = 0; layer < network.n_mixing; ++layer) {
        for (int out = 0; out < n_features; ++out, weights += n_features)
            for (int y = 0; y < tile_rows; ++y) {
                Vector sum = weights[0] * now[y * n_features];
                for (int in = 1; in < n_features; ++in) sum += weights[in] * now[y * n_features + in];
                next[y * n_features + out] = larger(sum, leaky_slope * sum);
            }
        for (int i = 0; i < n_features * tile_rows; ++i) now[i] = next[i];
    }
    for (int y = 0; y < tile_rows; ++y) {
        Vector sum = branch.head[0] * now[y * n_features];
        for (int in = 1; in < n_features; ++in) sum += branch.head[in] * now[y * n_features + in];
        float* to = result + y * strip_width;
        store(to, load(to) + branch.share * larger(Vector{}, sum));
    }
}

// Adds a branch to the results of a block.
template <int fixed_features>
inline void add_branch(const PackedNetwork& network, const PackedBranch& branch, const float* lines,
                       std::ptrdiff_t step, const Scratch& scratch, float* result) {
    const int n_features = fixed_features ? fixed_features : network.n_features;
    auto* sums = reinterpret_cast<Vector*>(scratch.sums);
    auto* features = reinterpret_cast<Vector*>(scratch.features);
    const std::ptrdiff_t sums_step = n_features * row_vectors;
    const int n_products = n_points_of_kernel(branch.size) * network.n_taps * branch.size;
    for (int f = 0; f < n_features; f += feature_group)
        convolve(network, branch.size, branch.kernel + static_cast<std::ptrdiff_t>(f) * n_products, lines, step,
                 sums_step, sums + f * row_vectors);
    for (int v = 0; v < row_vectors; ++v) {
        for (int f = 0; f < n_features; ++f) {
            Vector row[tile_rows] = {};
            for_each_part(branch.size, [&](int, int point, auto rows) {
                combine<decltype(rows)::rows>(sums + point * sums_step + f * row_vectors + v, sums_step, row);
            });
            for (int y = 0; y < tile_rows; ++y)
                features[y * n_features + f] = larger(row[y], network.first_slope * row[y]);
        }
        add_mixed<fixed_features>(network, branch, features, result + v * lanes);
    }
}

// Four rows of a strip, from the lines around them, tap by tap.
void denoise_tile(const PackedNetwork& network, const Scratch& scratch, int length) {
    const int lines_per_tap = 2 * network.margin + tile_rows;
    const std::ptrdiff_t line_floats = floats_per_line(network.margin), step = network.n_taps * line_floats;
    std::memset(scratch.result, 0, sizeof(float) * tile_rows * strip_width);
    for (int b = 0; b < network.n_branches; ++b) {
        const PackedBranch& branch = network.branches[b];
        const int inset = network.margin - branch.size / 2;
        for (int tap = 0; tap < network.n_taps; ++tap)
            for_each_part(branch.size, [&](int line, int point, auto rows) {
                transform<decltype(rows)::rows>(scratch.lines + tap * lines_per_tap + inset + line, inset,
                                                length + 2 * (branch.size / 2), step,
                                                scratch.transformed + point * step + tap * line_floats);
            });
        for (int x = 0; x < length; x += block_width)
            if (network.n_features == feature_group)
                add_branch<feature_group>(network, branch, scratch.transformed + x, line_floats, scratch,
                                          scratch.result + x);
            else
                add_branch<0>(network, branch, scratch.transformed + x, line_floats, scratch, scratch.result + x);
    }
}

// Rows first_row ... last_row - 1 of the strip that begins at column left. The lines around four rows are kept in a
// ring, so that each is copied once.
void denoise_strip(const PackedNetwork& network, const float* const* frames, int height, int width, int first_row,
                   int last_row, int left, const Scratch& scratch, float* out) {
    const int margin = network.margin;
    const int n_lines = 2 * margin + tile_rows;
    const int strip = width - left < strip_width ? width - left : strip_width;
    const int length = (strip + block_width - 1) / block_width * block_width;
    const int first = left - margin, n_copied = length + 2 * margin + lanes - 1;  // the transform takes whole vectors
    const auto line = [&](int tap, int row) {
        const int slot = tap * n_lines + (row - first_row + margin) % n_lines;
        return scratch.pixels + static_cast<std::ptrdiff_t>(slot) * floats_per_line(margin);
    };
    int copied = first_row - margin;
    for (int y = first_row; y < last_row; y += tile_rows) {
        for (; copied < y + tile_rows + margin; ++copied) {
            const int row = (copied % height + height) % height;
            const int later = (row + tile_rows) % height;
            for (int tap = 0; tap < network.n_taps; ++tap) {
                copy_periodic(frames[tap] + static_cast<std::ptrdiff_t>(row) * width, width, first, n_copied,
                              line(tap, copied));
                fetch_ahead(frames[tap] + static_cast<std::ptrdiff_t>(later) * width, width, first, first + n_copied);
            }
        }
        for (int tap = 0; tap < network.n_taps; ++tap)
            for (int i = 0; i < n_lines; ++i) scratch.lines[tap * n_lines + i] = line(tap, y - margin + i);
        denoise_tile(network, scratch, length);
        for (int row = 0; row < tile_rows && y + row < last_row; ++row)
            std::memcpy(out + static_cast<std::ptrdiff_t>(y + row) * width + left, scratch.result + row * strip_width,
                        static_cast<size_t>(strip) * sizeof(float));
    }
}

void run(const PackedNetwork& network, const float* const* frames, int height, int width, int first_row, int last_row,
         const Scratch& scratch, float* out) {
    for (int left = 0; left < width; left += strip_width)
        denoise_strip(network, frames, height, width, first_row, last_row, left, scratch, out);
}

}  // namespace

const RowKernel LOWDOSE_ROWS{LOWDOSE_NAME, &run};

}  // namespace lowdose::ops
