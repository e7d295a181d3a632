// What happens to frames beside the network; the same numbers as convert.cpp. dtype: the values of DType.

enum Type { u8, u16, i16, u32, f32, f64 };

// out = in - offset for n pixels of planes height x width. first_bad becomes the least index of one that is not finite.
extern "C" __global__ void to_float(const unsigned char* in, int dtype, long long row_stride, long long channel_stride,
                                    unsigned height, unsigned width, unsigned n, float offset, float* out,
                                    unsigned* first_bad) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    const unsigned row = i / width, channel = row / height;
    const unsigned char* line = in + channel * channel_stride + (row - channel * height) * row_stride;
    const unsigned x = i - row * width;
    float value;
    switch (dtype) {
        case u8:
            value = static_cast<float>(line[x]) - offset;
            break;
        case u16:
            value = static_cast<float>(reinterpret_cast<const unsigned short*>(line)[x]) - offset;
            break;
        case i16:
            value = static_cast<float>(reinterpret_cast<const short*>(line)[x]) - offset;
            break;
        case u32:
            value = static_cast<float>(static_cast<double>(reinterpret_cast<const unsigned*>(line)[x]) -
                                       static_cast<double>(offset));
            break;
        case f32:
            value = reinterpret_cast<const float*>(line)[x] - offset;
            break;
        default:
            value = static_cast<float>(reinterpret_cast<const double*>(line)[x] - static_cast<double>(offset));
    }
    out[i] = value;
    if (!isfinite(value)) atomicMin(first_bad, i);
}

template <class T>
__device__ T rounded(double value, double low, double high) {
    return static_cast<T>(rint(fmin(high, fmax(low, value))));  // fmax takes the number beside a NaN
}

// out = in + offset in the type of the output; integers are rounded half to even and clipped.
extern "C" __global__ void from_float(const float* in, unsigned n, float offset, int dtype, void* out) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    const double value = static_cast<double>(in[i]) + static_cast<double>(offset);
    switch (dtype) {
        case u8:
            static_cast<unsigned char*>(out)[i] = rounded<unsigned char>(value, 0, 255);
            break;
        case u16:
            static_cast<unsigned short*>(out)[i] = rounded<unsigned short>(value, 0, 65535);
            break;
        case i16:
            static_cast<short*>(out)[i] = rounded<short>(value, -32768, 32767);
            break;
        case u32:
            static_cast<unsigned*>(out)[i] = rounded<unsigned>(value, 0, 4294967295.0);
            break;
        case f32:
            static_cast<float*>(out)[i] = static_cast<float>(value);
            break;
        default:
            static_cast<double*>(out)[i] = value;
    }
}

extern "C" __global__ void subtract(float* values, unsigned n, float offset) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) values[i] -= offset;
}

// out = before + share * (from - before)
extern "C" __global__ void blend(const float* before, const float* from, float share, unsigned n, float* out) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = before[i] + share * (from[i] - before[i]);
}

// Adds sum and sum of squares of channel blockIdx.y to sums[2 * channel] and the one behind it.
extern "C" __global__ void add_sums(const float* frame, unsigned plane, double* sums) {
    const float* values = frame + static_cast<size_t>(blockIdx.y) * plane;
    double sum = 0, squares = 0;
    for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < plane; i += gridDim.x * blockDim.x) {
        const double value = values[i];
        sum += value;
        squares += value * value;
    }
    for (int step = 16; step > 0; step /= 2) {
        sum += __shfl_down_sync(0xffffffffu, sum, step);
        squares += __shfl_down_sync(0xffffffffu, squares, step);
    }
    if (threadIdx.x % 32 == 0) {
        atomicAdd(sums + 2 * blockIdx.y, sum);
        atomicAdd(sums + 2 * blockIdx.y + 1, squares);
    }
}
