#include "blocks.hpp"

#include <algorithm>
#include <utility>

namespace lowdose {

Blocks::Blocks(const Contract& contract, size_t plane)
    : n_frames_(contract.block_frames),
      overlap_(contract.block_overlap),
      plane_(plane),
      newest_(plane * static_cast<size_t>(n_frames_)),
      earlier_(newest_.size()) {}

std::optional<long long> Blocks::wanted(long long index, long long n_frames) const {
    if (start_ < 0) return std::max(0LL, std::min(index, n_frames - n_frames_));
    const long long last_frame = n_frames - 1;
    const bool ends_here = covers(start_, last_frame);
    if (index < start_ + n_frames_ - overlap_ || ends_here) return std::nullopt;
    return std::min(start_ + n_frames_ - overlap_, n_frames - n_frames_);
}

float* Blocks::begin(long long start) {
    std::swap(newest_, earlier_);
    earlier_start_ = start_;
    start_ = start;
    return newest_.data();
}

void Blocks::frame(long long index, float* out) const {
    const auto at = [&](const std::vector<float>& block, long long start) {
        return block.data() + static_cast<size_t>(index - start) * plane_;
    };
    const float* from = at(newest_, start_);
    if (!covers(earlier_start_, index)) {
        std::copy_n(from, plane_, out);
        return;
    }
    const long long shared = earlier_start_ + n_frames_ - overlap_;  // the first frame of the overlap
    const float share = static_cast<float>(index - shared + 1) / static_cast<float>(overlap_ + 1);
    const float* before = at(earlier_, earlier_start_);
    for (size_t i = 0; i < plane_; ++i) out[i] = before[i] + share * (from[i] - before[i]);
}

void Blocks::clear() { start_ = earlier_start_ = -1; }

}  // namespace lowdose
