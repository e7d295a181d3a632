// The kernels of cpp/src/cuda on a CPU: every thread of a block is a thread here, block after block. Slow, and the same
// arithmetic. For test_cuda_kernels.py.
#include <pthread.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <mutex>
#include <thread>
#include <vector>

using std::isfinite, std::max, std::min;

struct Index {
    unsigned x, y;
};
static thread_local Index threadIdx, blockIdx;
static Index blockDim, gridDim;
static pthread_barrier_t barrier;
static std::mutex one_at_a_time;
static double exchanged[1024];

#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(n)

static void __syncthreads() { pthread_barrier_wait(&barrier); }

template <class T>
static T __shfl_down_sync(unsigned, T value, int step) {
    const unsigned thread = threadIdx.y * blockDim.x + threadIdx.x;
    __syncthreads();
    exchanged[thread] = static_cast<double>(value);
    __syncthreads();
    const T other = thread % 32 + step < 32 ? static_cast<T>(exchanged[thread + step]) : value;
    __syncthreads();
    return other;
}

static void atomicAdd(double* at, double value) {
    const std::lock_guard<std::mutex> lock(one_at_a_time);
    *at += value;
}

static void atomicMin(unsigned* at, unsigned value) {
    const std::lock_guard<std::mutex> lock(one_at_a_time);
    *at = min(*at, value);
}

struct float2 {
    float x, y;
};
static float2 make_float2(float x, float y) { return {x, y}; }
static float __fadd_rn(float a, float b) { return a + b; }
static float __fmul_rn(float a, float b) { return a * b; }
static float __fdiv_rn(float a, float b) { return a / b; }

#include "blind_spot.cu"
#include "common.cu"
#include "low_pass.cu"

template <class Kernel>
static void run(Index grid, Index block, Kernel kernel) {
    gridDim = grid;
    blockDim = block;
    const unsigned n_threads = block.x * block.y;
    pthread_barrier_init(&barrier, nullptr, n_threads);
    std::vector<std::thread> threads;
    for (unsigned thread = 0; thread < n_threads; ++thread)
        threads.emplace_back([=] {
            threadIdx = {thread % block.x, thread / block.x};
            for (blockIdx.y = 0; blockIdx.y < grid.y; ++blockIdx.y)
                for (blockIdx.x = 0; blockIdx.x < grid.x; ++blockIdx.x) {
                    kernel();
                    __syncthreads();
                }
        });
    for (std::thread& thread : threads) thread.join();
    pthread_barrier_destroy(&barrier);
}

static constexpr unsigned threads_of_a_block = 64;
static Index blocks_for(unsigned n, unsigned rows = 1) {
    return {(n + threads_of_a_block - 1) / threads_of_a_block, rows};
}

extern "C" {

void run_blind_spot(const void* pointers, int n_sets, int batch, int height, int width, float* out) {
    Arguments arguments;
    std::memcpy(&arguments, pointers, sizeof(arguments));
    const unsigned n_y = (height + 31) / 32, n_x = (width + 31) / 32;
    run({n_x, n_y * batch}, {32, 8}, [&] { blind_spot(arguments, n_sets, height, width, n_y, out); });
}

void run_to_float(const unsigned char* in, int dtype, long long row_stride, long long channel_stride, unsigned height,
                  unsigned width, unsigned n, float offset, float* out, unsigned* first_bad) {
    run(blocks_for(n), {threads_of_a_block, 1},
        [&] { to_float(in, dtype, row_stride, channel_stride, height, width, n, offset, out, first_bad); });
}

void run_from_float(const float* in, unsigned n, float offset, int dtype, void* out) {
    run(blocks_for(n), {threads_of_a_block, 1}, [&] { from_float(in, n, offset, dtype, out); });
}

void run_sums(const float* frame, unsigned n_channels, unsigned plane, double* sums) {
    run({3, n_channels}, {threads_of_a_block, 1}, [&] { add_sums(frame, plane, sums); });
}

void run_contrast(const float* frames, unsigned n, unsigned plane, float* levels, float* contrast) {
    run({n, 1}, {threads_of_a_block, 1}, [&] { sample_levels(frames, plane, levels); });
    run(blocks_for(plane, n), {threads_of_a_block, 1}, [&] { subtract_levels(frames, levels, plane, contrast); });
}

void run_disc(float* spectrum, float cutoff, unsigned n, unsigned height, unsigned width) {
    run(blocks_for(height * (width / 2 + 1), n), {threads_of_a_block, 1},
        [&] { keep_disc(reinterpret_cast<float2*>(spectrum), &cutoff, height, width); });
}

void run_add_levels(const float* frames, const float* levels, float cutoff, float all, unsigned n, unsigned plane,
                    float* filtered) {
    run(blocks_for(plane, n), {threads_of_a_block, 1},
        [&] { add_levels(frames, levels, &cutoff, all, plane, filtered); });
}
}
