#include "fft.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace lowdose {

namespace {

constexpr double two_pi = 6.283185307179586476925286766559;

// Rows or columns that go through one transform together: enough to fill vector registers,
// few enough that a block of a 4096-pixel line stays in the second-level cache.
constexpr int block = 16;

std::vector<int> factorise(int n) {
    std::vector<int> factors;
    while (n % 4 == 0) {
        factors.push_back(4);
        n /= 4;
    }
    for (int p = 2; n > 1; ++p) {
        if (p * p > n) p = n;
        while (n % p == 0) {
            factors.push_back(p);
            n /= p;
        }
    }
    return factors;
}

}  // namespace

BatchedFft::BatchedFft(int length) : length_(length), factors_(factorise(length)) {
    const auto n = static_cast<size_t>(length);
    cosine_.resize(n);
    sine_.resize(n);
    for (size_t i = 0; i < n; ++i) {
        const double angle = two_pi * static_cast<double>(i) / static_cast<double>(n);
        cosine_[i] = static_cast<float>(std::cos(angle));
        sine_[i] = static_cast<float>(std::sin(angle));
    }
}

// One step of the self-sorting (Stockham) form. Before it, `done` values of each of the length / done
// interleaved sub-sequences are transformed: in[j + (length / done) * k], k < done. After it, done * radix.
void BatchedFft::stage(int radix, int done, const float* in_re, const float* in_im, float* out_re, float* out_im,
                       int count, int sign) const {
    const int joined = done * radix;
    const int rest = length_ / joined;
    const size_t line = static_cast<size_t>(rest) * static_cast<size_t>(count);  // j and transform, contiguous
    for (int k = 0; k < done; ++k) {
        for (int p = 0; p < radix; ++p) {
            float* to_re = out_re + line * static_cast<size_t>(k + p * done);
            float* to_im = out_im + line * static_cast<size_t>(k + p * done);
            for (int q = 0; q < radix; ++q) {
                const float* from_re = in_re + line * static_cast<size_t>(q + radix * k);
                const float* from_im = in_im + line * static_cast<size_t>(q + radix * k);
                const auto turn = static_cast<size_t>(static_cast<long long>(q) * (k + p * done) % joined) *
                                  static_cast<size_t>(rest);
                const float c = cosine_[turn];
                const float s = static_cast<float>(sign) * sine_[turn];
                if (q == 0) {
                    for (size_t i = 0; i < line; ++i) {
                        to_re[i] = from_re[i];
                        to_im[i] = from_im[i];
                    }
                } else {
                    for (size_t i = 0; i < line; ++i) {
                        to_re[i] += c * from_re[i] - s * from_im[i];
                        to_im[i] += c * from_im[i] + s * from_re[i];
                    }
                }
            }
        }
    }
}

void BatchedFft::run(float* re, float* im, float* scratch_re, float* scratch_im, int count, int sign) const {
    float *from_re = re, *from_im = im, *to_re = scratch_re, *to_im = scratch_im;
    int done = 1;
    for (const int radix : factors_) {
        stage(radix, done, from_re, from_im, to_re, to_im, count, sign);
        done *= radix;
        std::swap(from_re, to_re);
        std::swap(from_im, to_im);
    }
    if (from_re != re) {
        const size_t size = static_cast<size_t>(length_) * static_cast<size_t>(count);
        std::copy(from_re, from_re + size, re);
        std::copy(from_im, from_im + size, im);
    }
}

namespace {

// Work space for one block of lines.
struct Lines {
    explicit Lines(int length)
        : fft(length), re(static_cast<size_t>(length) * block), im(re.size()), s_re(re.size()), s_im(re.size()) {}
    void run(int sign) { fft.run(re.data(), im.data(), s_re.data(), s_im.data(), block, sign); }

    BatchedFft fft;
    std::vector<float> re, im, s_re, s_im;
};

void transform_columns(Spectrum& spectrum, int sign) {
    Lines lines(spectrum.height);
    const auto n_columns = static_cast<size_t>(spectrum.n_columns), height = static_cast<size_t>(spectrum.height);
    for (size_t first = 0; first < n_columns; first += block) {
        const size_t used = std::min<size_t>(block, n_columns - first);
        for (size_t y = 0; y < height; ++y) {
            std::copy_n(&spectrum.re[y * n_columns + first], used, &lines.re[y * block]);
            std::copy_n(&spectrum.im[y * n_columns + first], used, &lines.im[y * block]);
        }
        lines.run(sign);
        for (size_t y = 0; y < height; ++y) {
            std::copy_n(&lines.re[y * block], used, &spectrum.re[y * n_columns + first]);
            std::copy_n(&lines.im[y * block], used, &spectrum.im[y * n_columns + first]);
        }
    }
}

}  // namespace

// Two real rows share one complex transform: z = a + i b, A[k] = (Z[k] + conj Z[-k]) / 2, B[k] = (Z[k] - conj Z[-k]) /
// 2i.
Spectrum forward_transform(const float* frame, int height, int width, int n_columns) {
    const auto h = static_cast<size_t>(height), w = static_cast<size_t>(width), kept = static_cast<size_t>(n_columns);
    Spectrum spectrum{height, width, n_columns, std::vector<float>(h * kept), std::vector<float>(h * kept)};
    Lines lines(width);
    for (size_t y0 = 0; y0 < h; y0 += 2 * block) {
        std::fill(lines.re.begin(), lines.re.end(), 0.0f);
        std::fill(lines.im.begin(), lines.im.end(), 0.0f);
        for (size_t j = 0; j < block; ++j)
            for (size_t part = 0; part < 2; ++part) {
                const size_t y = y0 + 2 * j + part;
                auto& to = part ? lines.im : lines.re;
                if (y < h)
                    for (size_t x = 0; x < w; ++x) to[x * block + j] = frame[y * w + x];
            }
        lines.run(-1);
        for (size_t j = 0; j < block; ++j)
            for (size_t k = 0; k < kept; ++k) {
                const size_t at = k * block + j, mirrored = (w - k) % w * block + j;
                const size_t y = y0 + 2 * j;
                if (y < h) {
                    spectrum.re[y * kept + k] = 0.5f * (lines.re[at] + lines.re[mirrored]);
                    spectrum.im[y * kept + k] = 0.5f * (lines.im[at] - lines.im[mirrored]);
                }
                if (y + 1 < h) {
                    spectrum.re[(y + 1) * kept + k] = 0.5f * (lines.im[at] + lines.im[mirrored]);
                    spectrum.im[(y + 1) * kept + k] = 0.5f * (lines.re[mirrored] - lines.re[at]);
                }
            }
    }
    transform_columns(spectrum, -1);
    return spectrum;
}

void backward_transform(Spectrum& spectrum, float* frame) {
    const auto h = static_cast<size_t>(spectrum.height), w = static_cast<size_t>(spectrum.width);
    const auto kept = static_cast<size_t>(spectrum.n_columns);
    const float scale = 1.0f / (static_cast<float>(h) * static_cast<float>(w));
    transform_columns(spectrum, +1);
    Lines lines(spectrum.width);
    const std::vector<float> zeros(kept, 0.0f);
    for (size_t y0 = 0; y0 < h; y0 += 2 * block) {
        std::fill(lines.re.begin(), lines.re.end(), 0.0f);
        std::fill(lines.im.begin(), lines.im.end(), 0.0f);
        for (size_t j = 0; j < block; ++j) {
            const size_t y = y0 + 2 * j;
            if (y >= h) break;
            const bool paired = y + 1 < h;
            const float *a_re = &spectrum.re[y * kept], *a_im = &spectrum.im[y * kept];
            const float* b_re = paired ? &spectrum.re[(y + 1) * kept] : zeros.data();
            const float* b_im = paired ? &spectrum.im[(y + 1) * kept] : zeros.data();
            for (size_t k = 0; k < kept; ++k) {
                const size_t at = k * block + j, mirrored = (w - k) % w * block + j;
                lines.re[at] = a_re[k] - b_im[k];
                lines.im[at] = a_im[k] + b_re[k];
                if (mirrored != at) {
                    lines.re[mirrored] = a_re[k] + b_im[k];
                    lines.im[mirrored] = b_re[k] - a_im[k];
                }
            }
        }
        lines.run(+1);
        for (size_t j = 0; j < block; ++j)
            for (size_t part = 0; part < 2; ++part) {
                const size_t y = y0 + 2 * j + part;
                const auto& from = part ? lines.im : lines.re;
                if (y < h)
                    for (size_t x = 0; x < w; ++x) frame[y * w + x] = scale * from[x * block + j];
            }
    }
}

}  // namespace lowdose
