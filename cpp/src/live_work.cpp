// What the thread of a live stream does, or its caller's where there is no queue: denoises, gives results out, counts.
#include "error.hpp"
#include "live_stream.hpp"

namespace lowdose {

namespace {

double ms_between(std::chrono::steady_clock::time_point from, std::chrono::steady_clock::time_point to) {
    return std::chrono::duration<double, std::milli>(to - from).count();
}

}  // namespace

bool LiveStream::has_work() const {
    if (resetting_ || broken_ || ended_) return false;
    // When nothing may be lost, there must be room for what comes.
    if ((live_.policy == Policy::block || flushing_) && results_.size() >= live_.most_results()) return false;
    return !waiting_.empty() || flushing_;
}

void LiveStream::work() {
    Lock lock(state_);
    while (true) {
        work_.wait(lock, [&] { return closing_ || has_work(); });
        if (closing_) return;
        working_ = true;
        try {
            work_once(lock);
        } catch (...) {
            if (!lock.owns_lock()) lock.lock();
            broken_ = std::current_exception();
            ready_.notify_all();
            room_.notify_all();
        }
        working_ = false;
        in_work_ = 0;
        idle_.notify_all();
    }
}

void LiveStream::work_once(Lock& lock) {
    const Clock::time_point now = Clock::now();
    while (live_.deadline_ms > 0 && !waiting_.empty() && ms_between(waiting_.front().since, now) > live_.deadline_ms) {
        statistics_.counts.dropped_late += 1;
        spare_frames_.push_back(std::move(waiting_.front().pixels));
        waiting_.pop_front();
    }
    room_.notify_all();
    if (!waiting_.empty()) {
        Waiting frame = std::move(waiting_.front());
        waiting_.pop_front();
        in_work_ = 1;
        statistics_.wait.add(ms_between(frame.since, now));
        lock.unlock();
        room_.notify_all();
        const auto row_bytes = static_cast<std::ptrdiff_t>(size_of(stream_.options().in)) * stream_.width();
        denoise_one({frame.pixels.data(), row_bytes, row_bytes * stream_.height()}, {frame.tag, frame.since});
        lock.lock();
        spare_frames_.push_back(std::move(frame.pixels));
    } else if (flushing_) {
        lock.unlock();
        flush_one();
        lock.lock();
    }
}

void LiveStream::denoise_one(const FrameView& frame, const Taken& taken) {
    Ready ready{};
    {
        const Lock lock(state_);
        ready.pixels = spare(spare_results_, result_bytes_);
    }
    const std::uint64_t n_before = stream_.statistics().frames_in;
    bool is_there = false;
    try {
        is_there = stream_.push(frame.data, frame.row_stride_bytes, frame.channel_stride_bytes, ready.pixels.data());
    } catch (...) {
        ready.problem = std::current_exception();
    }
    const Lock lock(state_);
    keep_statistics();
    in_work_ = 0;
    const bool entered = stream_.statistics().frames_in > n_before;
    if (entered) taken_.push_back(taken);
    if (!ready.problem && !is_there) {
        spare_results_.push_back(std::move(ready.pixels));
        return;
    }
    // A frame that was refused, or the one whose result was due.
    const Taken due = entered ? taken_.front() : taken;
    if (entered) taken_.pop_front();
    ready.tag = due.tag;
    ready.age_ms = ms_between(due.since, Clock::now());
    ready.n_replaced = stream_.statistics().replaced;
    publish(std::move(ready));
}

void LiveStream::flush_one() {
    Ready ready{};
    {
        const Lock lock(state_);
        ready.pixels = spare(spare_results_, result_bytes_);
    }
    bool is_there = false, too_short = false;
    try {
        is_there = stream_.flush(ready.pixels.data());
    } catch (const Error& error) {
        too_short = error.kind == Error::Kind::order;
        ready.problem = std::current_exception();
    } catch (...) {
        ready.problem = std::current_exception();
    }
    const Lock lock(state_);
    keep_statistics();
    ready.n_replaced = stream_.statistics().replaced;
    if (!taken_.empty()) {
        ready.tag = taken_.front().tag;
        ready.age_ms = ms_between(taken_.front().since, Clock::now());
        taken_.pop_front();
    }
    const bool complete = !is_there && !ready.problem;
    if (complete)
        spare_results_.push_back(std::move(ready.pixels));
    else
        publish(std::move(ready));
    if (too_short) {
        statistics_.counts.refused += taken_.size();
        taken_.clear();
    }
    ended_ = too_short || complete;
    ready_.notify_all();
}

void LiveStream::keep_statistics() {
    statistics_.stages = stream_.statistics();
    settled_ = settled();
}

void LiveStream::publish(Ready ready) {
    if (ready.problem)
        statistics_.counts.refused += 1;
    else
        statistics_.age.add(ready.age_ms);
    const bool may_drop = live_.policy != Policy::block && !flushing_;
    while (may_drop && results_.size() >= live_.most_results()) {
        if (!results_.front().problem) statistics_.counts.dropped_results += 1;
        throw_away(results_.front());
        results_.pop_front();
    }
    results_.push_back(std::move(ready));
    ready_.notify_one();
}

void LiveStream::throw_away(Ready& ready) {
    if (!ready.pixels.empty()) spare_results_.push_back(std::move(ready.pixels));
}

LiveStream::Buffer LiveStream::spare(std::vector<Buffer>& buffers, size_t n_bytes) {
    if (buffers.empty()) return Buffer(n_bytes);
    Buffer buffer = std::move(buffers.back());
    buffers.pop_back();
    return buffer;
}

}  // namespace lowdose
