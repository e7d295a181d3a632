// Latency of the stages of a stream, in bounded memory.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>

namespace lowdose {

// Counts durations in bins 2 % wide, from 1 microsecond to about 400 seconds; the maximum is exact.
class Latency {
public:
    void add(double milliseconds);
    std::uint64_t count() const { return count_; }
    double max_ms() const { return max_ms_; }
    double mean_ms() const { return count_ ? sum_ms_ / static_cast<double>(count_) : 0.0; }
    // The bin below which a share (0..1) of the durations lies, at most 2 % too long; 0 when there are none.
    double percentile_ms(double share) const;

private:
    std::array<std::uint64_t, 1000> bins_{};
    std::uint64_t count_ = 0;
    double max_ms_ = 0, sum_ms_ = 0;
};

// What a stream did since it was opened or reset. `total` is a whole push or flush that gave a result, host memory to
// host memory.
struct Statistics {
    std::uint64_t frames_in = 0, frames_out = 0;
    std::uint64_t replaced = 0;  // models or filters that took over
    Latency convert, choose, network, low_pass, output, total;
};

class Stopwatch {
public:
    double milliseconds() const {
        return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start_).count();
    }

private:
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace lowdose
