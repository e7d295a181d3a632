#include "fft_block.hpp"

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

namespace lowdose {

namespace {

constexpr double pi = 3.14159265358979323846264338327950288;
constexpr int largest_factor = 23;  // from the next prime on, Bluestein's detour is shorter

const ops::FftPasses& passes_for([[maybe_unused]] ops::InstructionSet set) {
#ifdef LOWDOSE_X86_KERNELS
    if (set == ops::InstructionSet::sse42) return ops::fft_sse42;
    if (set == ops::InstructionSet::avx2) return ops::fft_avx2;
    if (set == ops::InstructionSet::avx512) return ops::fft_avx512;
#endif
    return ops::fft_portable;
}

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

// The length to transform instead: itself, or for large prime factors the next one from 2 * length - 1 on that has no
// factor above 5.
int padded_length(int length) {
    const std::vector<int> factors = factorise(length);
    if (factors.empty() || *std::max_element(factors.begin(), factors.end()) <= largest_factor) return length;
    for (int n = 2 * length - 1;; ++n)
        if (const auto found = factorise(n); *std::max_element(found.begin(), found.end()) <= 5) return n;
}

}  // namespace

FftBlock::FftBlock(int length, ops::InstructionSet set)
    : length_(length),
      padded_(padded_length(length)),
      factors_(factorise(padded_)),
      set_(set),
      passes_(passes_for(set)) {
    const auto n = static_cast<size_t>(padded_);
    for (auto* memory : {&re, &im, &scratch_re_, &scratch_im_}) memory->resize(n * width);
    for (size_t i = 0; i < n; ++i) {
        const double angle = 2 * pi * static_cast<double>(i) / static_cast<double>(n);
        cosine_.push_back(static_cast<float>(std::cos(angle)));
        sine_.push_back(static_cast<float>(std::sin(angle)));
    }
    if (padded_ != length_) prepare_chirp();
}

void FftBlock::clear(size_t first, size_t last) {
    if (first >= last) return;
    std::fill(re.data() + first * width, re.data() + last * width, 0.0f);
    std::fill(im.data() + first * width, im.data() + last * width, 0.0f);
}

void FftBlock::run_passes(int sign) {
    const ops::FftPlan plan{padded_, static_cast<int>(factors_.size()), factors_.data(), cosine_.data(), sine_.data()};
    if (!passes_.run(plan, sign, re.data(), im.data(), scratch_re_.data(), scratch_im_.data())) return;
    std::swap(re, scratch_re_);
    std::swap(im, scratch_im_);
}

// Multiplies element i of all sequences by c + i s.
void FftBlock::turn(size_t i, float c, float s) {
    for (size_t at = i * width; at < (i + 1) * width; ++at) {
        const float a = re[at], b = im[at];
        re[at] = c * a - s * b;
        im[at] = c * b + s * a;
    }
}

void FftBlock::prepare_chirp() {
    const auto n = static_cast<size_t>(length_), padded = static_cast<size_t>(padded_);
    for (size_t i = 0; i < n; ++i) {
        const auto square = static_cast<double>(i * i % (2 * n));  // exact: the angle stays below 2 pi
        chirp_c_.push_back(static_cast<float>(std::cos(pi * square / static_cast<double>(n))));
        chirp_s_.push_back(static_cast<float>(std::sin(pi * square / static_cast<double>(n))));
    }
    clear(0, padded);
    for (size_t i = 0; i < n; ++i)
        for (const size_t at : {i, (padded - i) % padded}) {
            re[at * width] = chirp_c_[i];
            im[at * width] = chirp_s_[i];
        }
    run_passes(-1);
    for (size_t i = 0; i < padded; ++i) {
        response_c_.push_back(re[i * width] / static_cast<float>(padded));
        response_s_.push_back(im[i * width] / static_cast<float>(padded));
    }
}

// Bluestein: since 2 n k = n^2 + k^2 - (k - n)^2, the transform is a convolution with a chirp between two products
// with it. The chirp is even, so the backward transform takes the conjugate of everything.
void FftBlock::run(int sign) {
    if (padded_ == length_) {
        run_passes(sign);
        return;
    }
    const auto n = static_cast<size_t>(length_);
    const auto direction = static_cast<float>(sign);
    for (size_t i = 0; i < n; ++i) turn(i, chirp_c_[i], direction * chirp_s_[i]);
    clear(n, static_cast<size_t>(padded_));
    run_passes(-1);
    for (size_t i = 0; i < response_c_.size(); ++i) turn(i, response_c_[i], -direction * response_s_[i]);
    run_passes(+1);
    for (size_t i = 0; i < n; ++i) turn(i, chirp_c_[i], direction * chirp_s_[i]);
}

Spares<FftBlock>::Lease fft_block_of(int length, ops::InstructionSet set) {
    static Spares<FftBlock> spares;
    return spares.take([&](const FftBlock& block) { return block.is_for(length, set); },
                       [&] { return std::make_unique<FftBlock>(length, set); });
}

}  // namespace lowdose
