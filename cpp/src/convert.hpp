// Detector types in, float32 inside, float32 or the detector's type out.
#pragma once

#include <cstddef>
#include <string>

namespace lowdose {

enum class DType { u8, u16, i16, u32, f32, f64 };

// NumPy's name of the type ("uint8", ...); parse throws Error naming the accepted ones.
const char* name_of(DType dtype);
DType parse_dtype(const std::string& name);
size_t size_of(DType dtype);

// out[y * out_step + x] = in(y, x) - offset. `in` has rows `row_stride_bytes` apart; out_step 0: rows of `out` follow
// each other. Throws Error when a pixel is NaN or infinite.
void to_float(const void* in, DType dtype, std::ptrdiff_t row_stride_bytes, int height, int width, float offset,
              float* out, size_t out_step = 0);

// out = in + offset, contiguous; integers are rounded half to even and clipped to their range, never wrapped; what is
// no number becomes the lowest.
void from_float(const float* in, size_t n_pixels, float offset, DType dtype, void* out);

}  // namespace lowdose
