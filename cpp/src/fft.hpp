// Discrete Fourier transforms of real frames, any size, single precision.
#pragma once

#include <vector>

namespace lowdose {

// `count` transforms of length `length` side by side: element i of transform j is at [i * count + j],
// real and imaginary parts in two arrays. A length with large prime factors p costs O(length * p).
class BatchedFft {
public:
    explicit BatchedFft(int length);

    // sign -1 forward, +1 backward; not normalised. `scratch_*` are as large as the data.
    // The result ends in `re`, `im`.
    void run(float* re, float* im, float* scratch_re, float* scratch_im, int count, int sign) const;

private:
    void stage(int radix, int done, const float* in_re, const float* in_im, float* out_re, float* out_im, int count,
               int sign) const;

    int length_;
    std::vector<int> factors_;
    std::vector<float> cosine_, sine_;  // of 2 pi n / length
};

// The columns 0..n_columns-1 of a real frame's transform, all rows: (height, n_columns).
struct Spectrum {
    int height, width, n_columns;
    std::vector<float> re, im;
};

// frame: (height, width), row-major. 1 <= n_columns <= width / 2 + 1.
Spectrum forward_transform(const float* frame, int height, int width, int n_columns);

// The frame whose other columns are zero: inverse of forward_transform, normalised. Uses up `spectrum`.
void backward_transform(Spectrum& spectrum, float* frame);

}  // namespace lowdose
