#include "statistics.hpp"

#include <algorithm>
#include <cmath>

namespace lowdose {

namespace {

constexpr double first_ms = 1e-3;
const double log_step = std::log(1.02);

}  // namespace

void Latency::add(double milliseconds) {
    const double bin = std::ceil(std::log(std::max(milliseconds, first_ms) / first_ms) / log_step);
    bins_[std::min(static_cast<size_t>(bin), bins_.size() - 1)] += 1;
    count_ += 1;
    sum_ms_ += milliseconds;
    max_ms_ = std::max(max_ms_, milliseconds);
}

double Latency::percentile_ms(double share) const {
    const double wanted = share * static_cast<double>(count_);
    std::uint64_t seen = 0;
    for (size_t bin = 0; bin < bins_.size(); ++bin) {
        seen += bins_[bin];
        if (seen > 0 && static_cast<double>(seen) >= wanted)
            return std::min(max_ms_, first_ms * std::exp(log_step * static_cast<double>(bin)));
    }
    return 0.0;
}

}  // namespace lowdose
