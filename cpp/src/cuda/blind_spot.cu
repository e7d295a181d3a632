// The function BlindSpot (export/lowdose_export/functions.py) in one kernel: no intermediate leaves the multiprocessor.
// Compiled for one architecture: N_TAPS, N_FEATURES, N_MIXING, LARGEST (odd, of the kernel sizes) and BRANCHES, a list
// of BRANCH(index, size).

constexpr int tile = 32, rows_per_thread = 4, margin = LARGEST / 2, side = tile + 2 * margin;

// Weights of all features side by side, so that one load brings them.
struct alignas(N_FEATURES > 2 ? 16 : 4 * N_FEATURES) Weights {
    float of[N_FEATURES];
};

struct Branch {
    const float *kernel, *mixing, *head;  // of all weight sets
};
struct Arguments {
    const float* frames[N_TAPS];
    const long long* weight_set;
    const float* shares;
    Branch branches[N_BRANCHES];
};

template <int index, int size>
__device__ void add_branch(const Arguments& all, int set, const float (*frames)[side][side], float (&out)[4]) {
    constexpr int n_taps_and_pixels = N_TAPS * size * size, n_mixing = N_MIXING * N_FEATURES * N_FEATURES;
    __shared__ Weights kernel[n_taps_and_pixels];
    __shared__ float mixing[n_mixing > 0 ? n_mixing : 1], head[N_FEATURES];
    const Branch& branch = all.branches[index];
    const int thread = threadIdx.y * tile + threadIdx.x, n_threads = tile * tile / rows_per_thread;
    for (int i = thread; i < n_taps_and_pixels * N_FEATURES; i += n_threads)
        kernel[i % n_taps_and_pixels].of[i / n_taps_and_pixels] =
            branch.kernel[set * n_taps_and_pixels * N_FEATURES + i];
    for (int i = thread; i < n_mixing; i += n_threads) mixing[i] = branch.mixing[set * n_mixing + i];
    for (int i = thread; i < N_FEATURES; i += n_threads) head[i] = branch.head[set * N_FEATURES + i];
    __syncthreads();

    float features[rows_per_thread][N_FEATURES] = {};
    constexpr int inset = margin - size / 2, n_rows = rows_per_thread + size - 1;
    const int top = threadIdx.y * rows_per_thread + inset, left = threadIdx.x + inset;
#pragma unroll 1
    for (int tap = 0; tap < N_TAPS; ++tap)
#pragma unroll
        for (int x = 0; x < size; ++x) {
            float column[n_rows];
#pragma unroll
            for (int y = 0; y < n_rows; ++y) column[y] = frames[tap][top + y][left + x];
#pragma unroll
            for (int y = 0; y < size; ++y) {
                const Weights weights = kernel[(tap * size + y) * size + x];
#pragma unroll
                for (int row = 0; row < rows_per_thread; ++row)
#pragma unroll
                    for (int f = 0; f < N_FEATURES; ++f) features[row][f] += weights.of[f] * column[row + y];
            }
        }

    const float share = all.shares[set * N_BRANCHES + index];
#pragma unroll
    for (int row = 0; row < rows_per_thread; ++row) {
#pragma unroll
        for (int layer = 0; layer < N_MIXING; ++layer) {
            float mixed[N_FEATURES] = {};
#pragma unroll
            for (int to = 0; to < N_FEATURES; ++to)
#pragma unroll
                for (int from = 0; from < N_FEATURES; ++from)
                    mixed[to] += mixing[(layer * N_FEATURES + to) * N_FEATURES + from] * features[row][from];
#pragma unroll
            for (int f = 0; f < N_FEATURES; ++f) features[row][f] = mixed[f] > 0 ? mixed[f] : 0.1f * mixed[f];
        }
        float sum = 0;
#pragma unroll
        for (int f = 0; f < N_FEATURES; ++f) sum += head[f] * features[row][f];
        out[row] += share * fmaxf(sum, 0.0f);
    }
}

// Borders are periodic. Grid: tiles along x and y, and z through the batch; block: (tile, tile / rows_per_thread).
extern "C" __global__ void __launch_bounds__(tile* tile / rows_per_thread)
    blind_spot(Arguments all, int n_sets, int height, int width, unsigned n_tiles_y, float* denoised) {
    __shared__ float frames[N_TAPS][side][side];
    const int item = blockIdx.y / n_tiles_y;
    const int first_y = (blockIdx.y - item * n_tiles_y) * tile, first_x = blockIdx.x * tile;
    const size_t plane = static_cast<size_t>(height) * width;
    const int thread = threadIdx.y * tile + threadIdx.x, n_threads = tile * tile / rows_per_thread;
    for (int i = thread; i < side * side; i += n_threads) {
        const int row = i / side, column = i - row * side;
        const int y = (first_y + row - margin + height) % height, x = (first_x + column - margin + width) % width;
#pragma unroll
        for (int tap = 0; tap < N_TAPS; ++tap)
            frames[tap][row][column] = all.frames[tap][item * plane + static_cast<size_t>(y) * width + x];
    }
    int set = static_cast<int>(*all.weight_set);
    if (set < 0) set += n_sets;  // as Gather does
    float out[rows_per_thread] = {};
#define BRANCH(index, size) add_branch<index, size>(all, set, frames, out);
    BRANCHES
#pragma unroll
    for (int row = 0; row < rows_per_thread; ++row) {
        const int y = first_y + static_cast<int>(threadIdx.y) * rows_per_thread + row, x = first_x + threadIdx.x;
        if (y < height && x < width) denoised[item * plane + static_cast<size_t>(y) * width + x] = out[row];
    }
}
