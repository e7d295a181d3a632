// Compiled once per instruction set. CMakeLists.txt defines LOWDOSE_ROWS (the name of the result), LOWDOSE_NAME (as
// text), LOWDOSE_VECTOR_BYTES (0: plain loops for any compiler) and the block of pixels that is computed together:
// LOWDOSE_BLOCK_ROWS (1 or 2) rows of LOWDOSE_BLOCK_VECTORS vectors.
#include "blind_spot_rows.hpp"

#include <cstddef>
#include <cstring>

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

constexpr int block_rows = LOWDOSE_BLOCK_ROWS;
constexpr int row_vectors = LOWDOSE_BLOCK_VECTORS;
constexpr int n_vectors = block_rows * row_vectors;
constexpr int block_width = lanes * row_vectors;
static_assert(strip_width % block_width == 0, "a strip holds whole blocks");
static_assert(block_rows <= most_rows_per_block && lanes <= most_floats_per_vector &&
                  lanes * n_vectors <= most_floats_per_block,
              "the scratch memory holds a block");

inline int lines_per_tap(const PackedNetwork& network) { return 2 * network.margin + block_rows; }

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
// Brings the pixels of a line that is needed soon into the cache while the blocks before it are computed.
inline void fetch_ahead(const float* row, int count) {
    constexpr int floats_per_cache_line = 16;
    for (int x = 0; x < count; x += floats_per_cache_line) __builtin_prefetch(row + x);
}
#else
inline void fetch_ahead(const float*, int) {}
#endif

// Adds what one line of pixels gives to three features of the block's rows first ... last. kernel_line: the row of
// the kernel that lies on this line for row 0 of the block; for row 1 it is the one before.
template <int first, int last>
inline void add_line(const float* pixels, const float* kernel_line, int size,
                     Vector (&sums)[feature_group][n_vectors]) {
    for (int j = 0; j < size; ++j)
        for (int v = 0; v < row_vectors; ++v) {
            Vector pixel = load(pixels + j + v * lanes);
#if LOWDOSE_VECTOR_BYTES > 0
            __asm__("" : "+v"(pixel));  // stay in a register: GCC would load it again for each feature
#endif
            for (int row = first; row <= last; ++row) {
                const float* weights = kernel_line + (j - row * size) * feature_group;
                for (int f = 0; f < feature_group; ++f) sums[f][row * row_vectors + v] += weights[f] * pixel;
            }
        }
}

// Three features of a block before the mixing layers; the sums stay in registers. lines: the lines of pixels around
// the block, tap by tap. A size fixed at compile time unrolls the columns.
template <int fixed_size>
LOWDOSE_CONVOLVE void convolve(const PackedNetwork& network, const PackedBranch& branch, const float* kernel,
                               const float* const* lines, std::ptrdiff_t x, Vector* features) {
    constexpr int last = block_rows - 1;
    const int size = fixed_size ? fixed_size : branch.size;
    const int inset = network.margin - size / 2;
    const int kernel_line = size * feature_group;
    Vector sums[feature_group][n_vectors] = {};
    for (int tap = 0; tap < network.n_taps; ++tap) {
        const float* const* line = lines + tap * lines_per_tap(network) + inset;
        for (int i = 0; i < last; ++i, kernel += kernel_line) add_line<0, 0>(line[i] + inset + x, kernel, size, sums);
        for (int i = last; i < size; ++i, kernel += kernel_line)
            add_line<0, last>(line[i] + inset + x, kernel, size, sums);
        if (last > 0) add_line<last, last>(line[size] + inset + x, kernel, size, sums);
    }
    for (int f = 0; f < feature_group; ++f)
        for (int v = 0; v < n_vectors; ++v)
            features[f * n_vectors + v] = larger(sums[f][v], network.first_slope * sums[f][v]);
}

// The sum over all branches for the block of pixels that begins at column x of the lines. With the number of features
// fixed at compile time they stay in registers; else (0) they lie in `memory`.
template <int fixed_features>
inline void denoise_block(const PackedNetwork& network, const float* const* lines, std::ptrdiff_t x, Vector* memory,
                          Vector* total) {
    const int n_features = fixed_features ? fixed_features : network.n_features;
    Vector own[fixed_features ? fixed_features * (n_vectors + 1) : 1];
    Vector* features = fixed_features ? own : memory;
    Vector* before = features + n_features * n_vectors;  // what one vector of pixels holds before a layer
    for (int v = 0; v < n_vectors; ++v) total[v] = Vector{};
    for (int b = 0; b < network.n_branches; ++b) {
        const PackedBranch& branch = network.branches[b];
        const int n_products = network.n_taps * branch.size * branch.size;
        for (int f = 0; f < n_features; f += feature_group) {
            const float* kernel = branch.kernel + static_cast<std::ptrdiff_t>(f) * n_products;
            Vector* group = features + f * n_vectors;
            switch (branch.size) {
                case 3:
                    convolve<3>(network, branch, kernel, lines, x, group);
                    break;
                case 5:
                    convolve<5>(network, branch, kernel, lines, x, group);
                    break;
                case 7:
                    convolve<7>(network, branch, kernel, lines, x, group);
                    break;
                default:
                    convolve<0>(network, branch, kernel, lines, x, group);
            }
        }
        const float* weights = branch.mixing;
        for (int layer = 0; layer < network.n_mixing; ++layer, weights += n_features * n_features)
            for (int v = 0; v < n_vectors; ++v) {
                for (int in = 0; in < n_features; ++in) before[in] = features[in * n_vectors + v];
                for (int out = 0; out < n_features; ++out) {
                    Vector sum = weights[out * n_features] * before[0];
                    for (int in = 1; in < n_features; ++in) sum += weights[out * n_features + in] * before[in];
                    features[out * n_vectors + v] = larger(sum, leaky_slope * sum);
                }
            }
        for (int v = 0; v < n_vectors; ++v) {
            Vector sum = branch.head[0] * features[v];
            for (int in = 1; in < n_features; ++in) sum += branch.head[in] * features[in * n_vectors + v];
            total[v] += branch.share * larger(Vector{}, sum);
        }
    }
}

// Rows first_row ... last_row - 1 of the strip that begins at column left. The lines around a row of blocks are kept in
// a ring, so that each is copied once.
void denoise_strip(const PackedNetwork& network, const float* const* frames, int height, int width, int first_row,
                   int last_row, int left, const Scratch& scratch, float* out) {
    const int margin = network.margin;
    const int n_lines = lines_per_tap(network);
    const int strip = width - left < strip_width ? width - left : strip_width;
    const int length = (strip + block_width - 1) / block_width * block_width + 2 * margin;
    const auto line = [&](int tap, int row) {
        const int slot = tap * n_lines + (row - first_row + margin) % n_lines;
        return scratch.pixels + static_cast<std::ptrdiff_t>(slot) * (strip_width + 2 * margin);
    };
    auto* memory = reinterpret_cast<Vector*>(scratch.features);
    int copied = first_row - margin;
    for (int y = first_row; y < last_row; y += block_rows) {
        for (; copied < y + block_rows + margin; ++copied) {
            const int row = (copied % height + height) % height;
            const int later = (row + block_rows) % height;
            for (int tap = 0; tap < network.n_taps; ++tap) {
                copy_periodic(frames[tap] + static_cast<std::ptrdiff_t>(row) * width, width, left - margin, length,
                              line(tap, copied));
                fetch_ahead(frames[tap] + static_cast<std::ptrdiff_t>(later) * width + left, strip);
            }
        }
        for (int tap = 0; tap < network.n_taps; ++tap)
            for (int i = 0; i < n_lines; ++i) scratch.lines[tap * n_lines + i] = line(tap, y - margin + i);
        for (int x = 0; x < strip; x += block_width) {
            Vector total[n_vectors];
            if (network.n_features == feature_group)
                denoise_block<feature_group>(network, scratch.lines, x, memory, total);
            else
                denoise_block<0>(network, scratch.lines, x, memory, total);
            const int count = strip - x < block_width ? strip - x : block_width;
            for (int row = 0; row < block_rows && y + row < last_row; ++row)
                std::memcpy(out + static_cast<std::ptrdiff_t>(y + row) * width + left + x, total + row * row_vectors,
                            static_cast<size_t>(count) * sizeof(float));
        }
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
