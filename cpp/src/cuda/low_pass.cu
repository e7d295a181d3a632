// The function LowPass (export/lowdose_export/functions.py) around the transforms of cuFFT.

// A value near the mean of each plane goes around the transforms: rounding errors are then in proportion to the
// contrast. One block per plane.
extern "C" __global__ void sample_levels(const float* frames, unsigned plane, float* levels) {
    const unsigned step = max(61u, plane / 8192 | 1);  // a sample is enough
    const float* frame = frames + static_cast<size_t>(blockIdx.x) * plane;
    __shared__ float sums[32];
    float sum = 0;
    for (unsigned i = threadIdx.x * step; i < plane; i += blockDim.x * step) sum += frame[i];
    for (int shift = 16; shift > 0; shift /= 2) sum += __shfl_down_sync(0xffffffffu, sum, shift);
    if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x > 0) return;
    float all = 0;
    for (unsigned i = 0; i < blockDim.x / 32; ++i) all += sums[i];
    levels[blockIdx.x] = all / static_cast<float>((plane + step - 1) / step);
}

extern "C" __global__ void subtract_levels(const float* frames, const float* levels, unsigned plane, float* contrast) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    const size_t at = static_cast<size_t>(blockIdx.y) * plane + i;
    if (i < plane) contrast[at] = frames[at] - levels[blockIdx.y];
}

// Clears what lies outside the disc, in the single-precision operations of inside_disc (lowpass.cpp). spectrum:
// (planes, height, width / 2 + 1).
extern "C" __global__ void keep_disc(float2* spectrum, const float* cutoff, unsigned height, unsigned width) {
    const unsigned n_columns = width / 2 + 1, n = height * n_columns;
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    const unsigned k_y = i / n_columns, k_x = i - k_y * n_columns;
    const float f_y = __fdiv_rn(static_cast<float>(min(k_y, height - k_y)), static_cast<float>(height));
    const float f_x = __fdiv_rn(static_cast<float>(k_x), static_cast<float>(width));
    const float square = __fadd_rn(__fmul_rn(f_y, f_y), __fmul_rn(f_x, f_x));
    if (square > __fmul_rn(*cutoff, *cutoff)) spectrum[static_cast<size_t>(blockIdx.y) * n + i] = make_float2(0, 0);
}

// filtered: what the transforms made of the contrast, times the pixels of a plane. A cutoff from `all` on keeps the
// frame as it is.
extern "C" __global__ void add_levels(const float* frames, const float* levels, const float* cutoff, float all,
                                      unsigned plane, float* filtered) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= plane) return;
    const size_t at = static_cast<size_t>(blockIdx.y) * plane + i;
    filtered[at] = *cutoff >= all ? frames[at] : filtered[at] / static_cast<float>(plane) + levels[blockIdx.y];
}
