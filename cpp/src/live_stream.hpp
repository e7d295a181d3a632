// A stream between an acquisition thread and a consumer: frames wait in a queue, a thread denoises them, results wait
// to be taken. What happens when frames come faster than they are denoised is the policy; whatever is lost is counted.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "stream.hpp"

namespace lowdose {

// block: push waits for room. drop_oldest: the frame that waits longest goes. newest_wins: whatever waits goes when a
// newer frame is there, results included.
enum class Policy { block, drop_oldest, newest_wins };

struct LiveOptions {
    Policy policy = Policy::block;
    int queue_frames = 0;    // 0: no queue and no thread, push denoises in the caller's
    double deadline_ms = 0;  // a frame that waits longer is dropped, and a blocked push gives up; 0: none

    // That may wait to be taken.
    size_t most_results() const {
        return policy == Policy::newest_wins || queue_frames == 0 ? 1 : static_cast<size_t>(queue_frames);
    }
};

// The caller's name for a frame; comes back with its result.
struct Tag {
    std::uint64_t sequence = 0;
    std::int64_t timestamp = 0;
};

// pushed = popped + dropped_full + dropped_late + dropped_results + refused + discarded + in_flight
struct LiveCounts {
    std::uint64_t pushed = 0;
    std::uint64_t popped = 0;
    std::uint64_t dropped_full = 0;     // made room for a newer frame
    std::uint64_t dropped_late = 0;     // waited longer than the deadline
    std::uint64_t dropped_results = 0;  // denoised, but not taken before newer ones came
    std::uint64_t refused = 0;          // caused an error, such as NaN
    std::uint64_t discarded = 0;        // by a reset
    std::uint64_t in_flight = 0;        // in the queue, in the network's window, or waiting to be taken

    std::uint64_t dropped() const { return dropped_full + dropped_late + dropped_results; }
};

struct LiveStatistics {
    LiveCounts counts;
    Statistics stages;
    Latency wait;  // in the queue
    Latency age;   // from push until the result is there, waiting for later frames included
};

// Where a frame lies in the caller's memory: rows and channels that many bytes apart.
struct FrameView {
    const void* data;
    std::ptrdiff_t row_stride_bytes, channel_stride_bytes;
};
struct ResultView {
    void* data;
    std::ptrdiff_t row_stride_bytes, channel_stride_bytes;
};

// Any thread may call anything at any time; results come out in the order of their frames.
class LiveStream {
public:
    // Throws Error.
    LiveStream(std::shared_ptr<const Model> model, int height, int width, StreamOptions options,
               const LiveOptions& live);
    ~LiveStream();
    LiveStream(const LiveStream&) = delete;
    LiveStream& operator=(const LiveStream&) = delete;

    enum class Pushed { taken, dropped };
    // Copies the frame. Without a queue, denoises it and throws what that throws.
    Pushed push(const FrameView& frame, const Tag& tag);

    enum class Popped { result, none, end };
    struct Result {
        Tag tag;
        std::uint64_t n_dropped = 0;  // frames lost since the result before
        double age_ms = 0;
        std::uint64_t n_replaced = 0;  // models that had taken over before
    };
    // Waits for a result, a negative time for ever; without a queue it never waits. What went wrong with a frame in the
    // queue is thrown here, `result` saying which frame it was. `end` comes once after a flush.
    Popped pop(const ResultView& to, double timeout_ms, Result& result);

    // No frame follows in this sequence: the results still due come, then `end`, then the next sequence may begin.
    void flush();
    // Forgets all frames and results, and the automatic choices; statistics go on.
    void reset();

    // Denoises a whole sequence in the calling thread, between other sequences; only without a queue. frame(i) and
    // result(i) say where they lie; result(i) may be frame(i).
    void denoise(size_t n_frames, const std::function<FrameView(size_t)>& frame,
                 const std::function<ResultView(size_t)>& result);

    // As Stream::replace; frames, results and statistics go on.
    void replace(std::shared_ptr<const Model> model, std::optional<int> weight_set, std::optional<float> cutoff) {
        stream_.replace(std::move(model), weight_set, cutoff);
    }

    LiveStatistics statistics() const;

    // What of the stream changes with its frames and models.
    struct Settled {
        std::optional<Choice> choice;
        size_t n_tiles;
    };
    Settled settings() const;
    const Stream& stream() const { return stream_; }  // for what does not change: sizes, types, latency
    const LiveOptions& options() const { return live_; }

private:
    using Clock = std::chrono::steady_clock;
    using Buffer = std::vector<unsigned char>;
    struct Waiting {
        Tag tag;
        Clock::time_point since;
        Buffer pixels;
    };
    struct Ready {
        Tag tag;
        double age_ms;
        std::uint64_t n_replaced;
        Buffer pixels;
        std::exception_ptr problem;
    };
    struct Taken {
        Tag tag;
        Clock::time_point since;
    };
    using Lock = std::unique_lock<std::mutex>;

    void work();
    bool has_work() const;
    void work_once(Lock& lock);
    Pushed push_to_queue(const FrameView& frame, const Tag& tag);
    void denoise_one(const FrameView& frame, const Taken& taken);
    void flush_one();
    Settled settled() const { return {stream_.choice(), stream_.tiles().tiles.size()}; }
    void keep_statistics();
    void publish(Ready ready);
    void throw_away(Ready& ready);
    Buffer spare(std::vector<Buffer>& buffers, size_t n_bytes);
    void copy_in(const FrameView& frame, unsigned char* to) const;
    void copy_out(const unsigned char* from, const ResultView& to) const;
    bool queued() const { return live_.queue_frames > 0; }

    LiveOptions live_;
    Stream stream_;
    size_t frame_bytes_, result_bytes_;

    // Locked in this order: one push at a time, use of stream_ (the thread's, where there is one), everything below.
    std::mutex producer_, core_;
    mutable std::mutex state_;
    std::condition_variable room_, work_, ready_, idle_;
    std::deque<Waiting> waiting_;
    std::deque<Taken> taken_;  // by the network, results not yet given
    std::deque<Ready> results_;
    std::vector<Buffer> spare_frames_, spare_results_;
    LiveStatistics statistics_;
    Settled settled_;
    std::uint64_t dropped_before_ = 0;       // when the last result was popped
    std::uint64_t in_work_ = 0;              // frames that are being denoised: 1 or 0
    std::exception_ptr broken_;              // the thread ran out of memory in its book-keeping
    bool flushing_ = false, ended_ = false;  // no frame follows; all results of the sequence are there
    bool working_ = false, resetting_ = false, closing_ = false;
    std::thread thread_;  // last: everything else is there when it starts
};

}  // namespace lowdose
