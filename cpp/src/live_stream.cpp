#include "live_stream.hpp"

#include <algorithm>
#include <cstring>
#include <string>

#include "error.hpp"

namespace lowdose {

namespace {

size_t frame_bytes(const Model& model, int height, int width, DType dtype) {
    if (height < 1 || width < 1) return 0;  // Stream refuses it
    return static_cast<size_t>(height) * static_cast<size_t>(width) * static_cast<size_t>(model.contract().n_channels) *
           size_of(dtype);
}

// Throws Error for a policy that does not fit the stream; takes the queue's memory from the cap.
StreamOptions checked(const Model& model, int height, int width, StreamOptions options, const LiveOptions& live) {
    const auto refuse = [](const std::string& what) { throw Error(what, Error::Kind::argument); };
    constexpr int longest_queue = 1 << 16;
    if (live.queue_frames < 0 || live.queue_frames > longest_queue)
        refuse("a queue of " + std::to_string(live.queue_frames) + " frames; it may hold 0 to " +
               std::to_string(longest_queue));
    if (!(live.deadline_ms >= 0 && live.deadline_ms < 1e9))
        refuse("the deadline must be 0 or more ms, and less than 1e9");
    const bool drops = live.policy != Policy::block || live.deadline_ms > 0;
    if (drops && live.queue_frames == 0)
        refuse("only a queue can drop frames: give queue_frames, or the policy block without a deadline");
    if (drops && options.scan)
        refuse("a scan cannot lose positions: its frames come with the policy block and without a deadline");
    if (options.max_bytes > 0) {
        const double n_frames = live.queue_frames > 0 ? live.queue_frames + 2 : 0;
        options.max_bytes -= n_frames * static_cast<double>(frame_bytes(model, height, width, options.in)) +
                             static_cast<double>(live.most_results() + 1) *
                                 static_cast<double>(frame_bytes(model, height, width, options.out));
        if (options.max_bytes <= 0)
            throw Error("the memory cap is too small for the queue alone; raise it, or shorten the queue",
                        Error::Kind::memory);
    }
    return options;
}

}  // namespace

LiveStream::LiveStream(std::shared_ptr<const Model> model, int height, int width, StreamOptions options,
                       const LiveOptions& live)
    : live_(live),
      stream_(model, height, width, checked(*model, height, width, options, live)),
      frame_bytes_(frame_bytes(*model, height, width, options.in)),
      result_bytes_(frame_bytes(*model, height, width, options.out)),
      settled_(settled()) {
    for (size_t i = 0; i <= live_.most_results(); ++i) spare_results_.emplace_back(result_bytes_);
    if (!queued()) return;
    for (int i = 0; i < live_.queue_frames + 2; ++i) spare_frames_.emplace_back(frame_bytes_);
    thread_ = std::thread([this] { work(); });
}

LiveStream::~LiveStream() {
    {
        const Lock lock(state_);
        closing_ = true;
    }
    work_.notify_all();
    if (thread_.joinable()) thread_.join();
}

LiveStream::Pushed LiveStream::push(const FrameView& frame, const Tag& tag) {
    const std::lock_guard<std::mutex> one_at_a_time(producer_);
    if (queued()) return push_to_queue(frame, tag);
    const std::lock_guard<std::mutex> core(core_);
    {
        const Lock lock(state_);
        if (flushing_) throw Error("the sequence was flushed: pop its results up to the end first", Error::Kind::order);
        if (!results_.empty()) throw Error("the result before must be popped first", Error::Kind::order);
        statistics_.counts.pushed += 1;
        in_work_ = 1;
    }
    denoise_one(frame, {tag, Clock::now()});
    const Lock lock(state_);
    if (!results_.empty() && results_.front().problem) {
        const std::exception_ptr problem = results_.front().problem;
        throw_away(results_.front());
        results_.pop_front();
        std::rethrow_exception(problem);
    }
    return Pushed::taken;
}

LiveStream::Pushed LiveStream::push_to_queue(const FrameView& frame, const Tag& tag) {
    const Clock::time_point now = Clock::now();
    const auto capacity = static_cast<size_t>(live_.queue_frames);
    Lock lock(state_);
    if (broken_) std::rethrow_exception(broken_);
    if (flushing_) throw Error("the sequence was flushed: pop its results up to the end first", Error::Kind::order);
    if (live_.policy == Policy::block) {
        const auto has_room = [&] { return waiting_.size() < capacity || broken_; };
        if (live_.deadline_ms <= 0) {
            room_.wait(lock, has_room);
        } else if (!room_.wait_for(lock, std::chrono::duration<double, std::milli>(live_.deadline_ms), has_room)) {
            statistics_.counts.pushed += 1;
            statistics_.counts.dropped_late += 1;
            return Pushed::dropped;
        }
        if (broken_) std::rethrow_exception(broken_);
    }
    Waiting waiting{tag, now, spare(spare_frames_, frame_bytes_)};
    lock.unlock();
    copy_in(frame, waiting.pixels.data());
    lock.lock();
    const size_t may_stay = live_.policy == Policy::newest_wins ? 0 : capacity - 1;
    while (live_.policy != Policy::block && waiting_.size() > may_stay) {
        statistics_.counts.dropped_full += 1;
        spare_frames_.push_back(std::move(waiting_.front().pixels));
        waiting_.pop_front();
    }
    waiting_.push_back(std::move(waiting));
    statistics_.counts.pushed += 1;
    lock.unlock();
    work_.notify_one();
    return Pushed::taken;
}

LiveStream::Popped LiveStream::pop(const ResultView& to, double timeout_ms, Result& result) {
    std::unique_lock<std::mutex> core(core_, std::defer_lock);
    if (!queued()) core.lock();
    Lock lock(state_);
    const auto is_there = [&] { return !results_.empty() || ended_ || broken_; };
    if (!queued() && flushing_ && !is_there()) {
        lock.unlock();
        flush_one();
        lock.lock();
    } else if (queued() && timeout_ms < 0) {
        ready_.wait(lock, is_there);
    } else if (queued() && timeout_ms > 0) {
        constexpr double longest_ms = 1e9;
        ready_.wait_for(lock, std::chrono::duration<double, std::milli>(std::min(timeout_ms, longest_ms)), is_there);
    }
    if (!results_.empty()) {
        Ready ready = std::move(results_.front());
        results_.pop_front();
        result.tag = ready.tag;
        result.age_ms = ready.age_ms;
        result.n_replaced = ready.n_replaced;
        const std::uint64_t dropped = statistics_.counts.dropped();
        result.n_dropped = dropped - dropped_before_;
        dropped_before_ = dropped;
        if (ready.problem) {
            throw_away(ready);
            work_.notify_one();
            std::rethrow_exception(ready.problem);
        }
        statistics_.counts.popped += 1;
        lock.unlock();
        work_.notify_one();
        copy_out(ready.pixels.data(), to);
        lock.lock();
        spare_results_.push_back(std::move(ready.pixels));
        return Popped::result;
    }
    if (broken_) std::rethrow_exception(broken_);
    if (!ended_) return Popped::none;
    flushing_ = ended_ = false;
    return Popped::end;
}

void LiveStream::flush() {
    const std::lock_guard<std::mutex> after_the_last_push(producer_);
    {
        const Lock lock(state_);
        if (flushing_) throw Error("the sequence was flushed already", Error::Kind::order);
        flushing_ = true;
    }
    work_.notify_one();
}

void LiveStream::reset() {
    std::unique_lock<std::mutex> core(core_, std::defer_lock);
    if (!queued()) core.lock();
    Lock lock(state_);
    resetting_ = true;
    idle_.wait(lock, [&] { return !working_; });
    LiveCounts& counts = statistics_.counts;
    counts.discarded += waiting_.size() + taken_.size();
    for (Waiting& frame : waiting_) spare_frames_.push_back(std::move(frame.pixels));
    for (Ready& ready : results_) {
        if (!ready.problem) counts.discarded += 1;
        throw_away(ready);
    }
    waiting_.clear();
    taken_.clear();
    results_.clear();
    flushing_ = ended_ = resetting_ = false;
    broken_ = nullptr;
    stream_.begin_scene();
    settled_ = settled();
    lock.unlock();
    room_.notify_all();
    work_.notify_all();
}

void LiveStream::denoise(size_t n_frames, const std::function<FrameView(size_t)>& frame,
                         const std::function<ResultView(size_t)>& result) {
    if (queued()) throw Error("a stream with a queue denoises what is pushed: open one without", Error::Kind::order);
    const std::lock_guard<std::mutex> one_at_a_time(producer_), core(core_);
    Buffer out;
    {
        const Lock lock(state_);
        if (flushing_ || !taken_.empty() || !results_.empty())
            throw Error("another sequence is under way: flush it and pop its results, or reset", Error::Kind::order);
        out = spare(spare_results_, result_bytes_);
    }
    size_t n_results = 0;
    const auto finish = [&] {
        keep_statistics();
        statistics_.counts.pushed += n_frames;
        statistics_.counts.popped += n_results;
        statistics_.counts.refused += n_frames - n_results;
        spare_results_.push_back(std::move(out));
    };
    try {
        for (size_t i = 0; i < n_frames; ++i) {
            const FrameView view = frame(i);
            if (stream_.push(view.data, view.row_stride_bytes, view.channel_stride_bytes, out.data()))
                copy_out(out.data(), result(n_results++));
        }
        while (stream_.flush(out.data())) copy_out(out.data(), result(n_results++));
    } catch (...) {
        stream_.begin_sequence();
        const Lock lock(state_);
        finish();
        throw;
    }
    const Lock lock(state_);
    finish();
}

LiveStatistics LiveStream::statistics() const {
    const Lock lock(state_);
    LiveStatistics all = statistics_;
    all.counts.in_flight = waiting_.size() + taken_.size() + in_work_;
    for (const Ready& ready : results_) all.counts.in_flight += ready.problem ? 0 : 1;
    return all;
}

LiveStream::Settled LiveStream::settings() const {
    const Lock lock(state_);
    return settled_;
}

void LiveStream::copy_in(const FrameView& frame, unsigned char* to) const {
    const size_t row_bytes = size_of(stream_.options().in) * static_cast<size_t>(stream_.width());
    for (int channel = 0; channel < stream_.n_channels(); ++channel)
        for (int y = 0; y < stream_.height(); ++y, to += row_bytes)
            std::memcpy(to,
                        static_cast<const unsigned char*>(frame.data) + channel * frame.channel_stride_bytes +
                            y * frame.row_stride_bytes,
                        row_bytes);
}

void LiveStream::copy_out(const unsigned char* from, const ResultView& to) const {
    const size_t row_bytes = size_of(stream_.options().out) * static_cast<size_t>(stream_.width());
    for (int channel = 0; channel < stream_.n_channels(); ++channel)
        for (int y = 0; y < stream_.height(); ++y, from += row_bytes)
            std::memcpy(
                static_cast<unsigned char*>(to.data) + channel * to.channel_stride_bytes + y * to.row_stride_bytes,
                from, row_bytes);
}

}  // namespace lowdose
