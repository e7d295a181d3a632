#include "convert.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "error.hpp"

namespace lowdose {

namespace {

struct Named {
    DType dtype;
    const char* name;
    size_t size;
};
constexpr Named known[] = {{DType::u8, "uint8", 1},   {DType::u16, "uint16", 2},  {DType::i16, "int16", 2},
                           {DType::u32, "uint32", 4}, {DType::f32, "float32", 4}, {DType::f64, "float64", 8}};

const Named& entry(DType dtype) { return known[static_cast<size_t>(dtype)]; }

// Calls `action` with a value of the C++ type behind `dtype`.
template <class Action>
void with_type(DType dtype, Action action) {
    switch (dtype) {
        case DType::u8:
            return action(std::uint8_t{});
        case DType::u16:
            return action(std::uint16_t{});
        case DType::i16:
            return action(std::int16_t{});
        case DType::u32:
            return action(std::uint32_t{});
        case DType::f32:
            return action(float{});
        case DType::f64:
            return action(double{});
    }
}

// Types whose values float32 holds exactly are subtracted in float32, which gives the bits that float64 would.
template <class T>
void convert_row(const unsigned char* in, int width, float offset, float* out) {
    using Exact = std::conditional_t<sizeof(T) <= 2 || std::is_same_v<T, float>, float, double>;
    for (int x = 0; x < width; ++x) {
        T value;
        std::memcpy(&value, in + static_cast<size_t>(x) * sizeof(T), sizeof(T));  // rows need not be aligned
        out[x] = static_cast<float>(static_cast<Exact>(value) - static_cast<Exact>(offset));
    }
}

// The nearest integer, half to even, of |value| < 2^51: an addition leaves no room for the fraction. Compilers find
// vectors for this, and none for std::nearbyint.
double rounded(double value) {
    constexpr double no_fraction = 6755399441055744.0;  // 1.5 * 2^52
    return (value + no_fraction) - no_fraction;
}

}  // namespace

const char* name_of(DType dtype) { return entry(dtype).name; }

size_t size_of(DType dtype) { return entry(dtype).size; }

DType parse_dtype(const std::string& name) {
    std::string accepted;
    for (const Named& candidate : known) {
        if (name == candidate.name) return candidate.dtype;
        accepted += std::string(accepted.empty() ? "" : ", ") + candidate.name;
    }
    throw Error("pixel type " + name + " is not supported; accepted: " + accepted);
}

void to_float(const void* in, DType dtype, std::ptrdiff_t row_stride_bytes, int height, int width, float offset,
              float* out, size_t out_step) {
    const size_t step = out_step ? out_step : static_cast<size_t>(width);
    with_type(dtype, [&](auto zero) {
        using T = decltype(zero);
        for (int y = 0; y < height; ++y) {
            float* row = out + static_cast<size_t>(y) * step;
            convert_row<T>(static_cast<const unsigned char*>(in) + y * row_stride_bytes, width, offset, row);
            if constexpr (std::is_floating_point_v<T>) {
                for (int x = 0; x < width; ++x)
                    if (!std::isfinite(row[x]))
                        throw Error("pixel (" + std::to_string(y) + ", " + std::to_string(x) +
                                    ") is NaN, infinite or beyond float32; replace such pixels first");
            }
        }
    });
}

void from_float(const float* in, size_t n_pixels, float offset, DType dtype, void* out) {
    with_type(dtype, [&](auto zero) {
        using T = decltype(zero);
        T* to = static_cast<T*>(out);
        for (size_t i = 0; i < n_pixels; ++i) {
            const double value = static_cast<double>(in[i]) + static_cast<double>(offset);
            if constexpr (std::is_floating_point_v<T>) {
                to[i] = static_cast<T>(value);
            } else {
                constexpr double low = std::numeric_limits<T>::min(), high = std::numeric_limits<T>::max();
                using Wide = std::conditional_t<sizeof(T) <= 2, std::int32_t, std::int64_t>;
                // In this order NaN becomes the lowest value; a network gives it where pixels near 1e38 overflow.
                to[i] = static_cast<T>(static_cast<Wide>(rounded(std::min(high, std::max(low, value)))));
            }
        }
    });
}

}  // namespace lowdose
