#include "frames.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "error.hpp"

namespace lowdose {

namespace {

// The one of `length` positions that stands for position at + step, seen from `at`. Mirrored about `at` itself, so
// that no position stands for its own neighbour: a blind network would see its own pixel.
long long present(long long at, int step, long long length, Ends ends) {
    const long long there = at + step, other = at - step;
    if (there >= 0 && there < length) return there;
    if (ends == Ends::mirror && other >= 0 && other < length) return other;
    const long long nearest = std::clamp<long long>(there, 0, length - 1);
    if (ends == Ends::repeat || nearest != at) return nearest;
    return std::clamp<long long>(other, 0, length - 1);
}

}  // namespace

FrameRing::FrameRing(const Contract& contract, const ScanShape& scan, size_t frame_values, int batch)
    : contract_(contract), scan_(scan), frame_values_(frame_values) {
    const int y = contract.reach_y(), x = contract.reach_x();
    const bool mirror = contract.ends == Ends::mirror && contract.block_frames == 0;
    latency_ = contract.scan ? y * scan.n_x + x : mirror ? x : std::max(0, contract.taps.back().dx);
    shortest_ = mirror && !contract.scan ? x + 1 : 1;
    if (contract.scan && mirror && (scan.n_y <= y || scan.n_x <= x))
        throw Error("a scan of " + std::to_string(scan.n_y) + "x" + std::to_string(scan.n_x) +
                    " positions is too small for " + contract.method + ": it needs at least " + std::to_string(y + 1) +
                    "x" + std::to_string(x + 1));
    const bool has_states = contract.n_states > 0;  // a model that takes over computes them again
    const int states_back = has_states ? contract.n_states - contract.taps.front().dx : 0;
    const int back = contract.scan ? latency_ : contract.block_frames > 0 ? 0 : std::max(x, states_back);
    n_slots_ = latency_ + back + batch;
    if (contract.takes_offset)
        sums_.assign(static_cast<size_t>(n_slots_), std::vector<double>(2 * static_cast<size_t>(contract.n_channels)));
}

void FrameRing::allocate(Backend& backend) {
    for (int i = 0; i < n_slots_; ++i) slots_.push_back(backend.zeros(frame_values_));
}

float* FrameRing::next() {
    if (contract_.scan && count_ == static_cast<long long>(scan_.n_y) * scan_.n_x)
        throw Error("the scan of " + std::to_string(scan_.n_y) + "x" + std::to_string(scan_.n_x) +
                        " positions is complete: flush before the next one",
                    Error::Kind::order);
    return slots_[slot(count_)].get();
}

void FrameRing::take() { ++count_; }

long long FrameRing::neighbour(long long index, const Tap& tap) const {
    if (!contract_.scan) return present(index, tap.dx, count_, contract_.ends);
    const long long columns = std::min<long long>(scan_.n_x, count_);
    const long long column = present(index % scan_.n_x, tap.dx, columns, contract_.ends);
    const long long rows = (count_ - column + scan_.n_x - 1) / scan_.n_x;  // that have come, in this column
    const long long row = present(index / scan_.n_x, tap.dy, rows, contract_.ends);
    return row * scan_.n_x + column;
}

void FrameRing::window(long long index, std::vector<const float*>& frames) const {
    frames.clear();
    for (const Tap& tap : contract_.taps) frames.push_back(slots_[slot(neighbour(index, tap))].get());
}

void FrameRing::moments(long long index, std::vector<float>& mean, std::vector<float>& deviation) const {
    const auto n_channels = static_cast<size_t>(contract_.n_channels);
    mean.assign(n_channels, 0);
    deviation.assign(n_channels, 0);
    const double n = static_cast<double>(frame_values_ / n_channels) * contract_.n_taps();
    for (size_t channel = 0; channel < n_channels; ++channel) {
        double sum = 0, squares = 0;
        for (const Tap& tap : contract_.taps) {
            const std::vector<double>& sums = sums_[slot(neighbour(index, tap))];
            sum += sums[2 * channel];
            squares += sums[2 * channel + 1];
        }
        mean[channel] = static_cast<float>(sum / n);
        deviation[channel] = static_cast<float>(std::sqrt(std::max(0.0, squares / n - sum / n * (sum / n))));
    }
}

}  // namespace lowdose
