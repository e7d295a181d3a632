// Frames in one by one, denoised frames out, as many as went in.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "backend.hpp"
#include "choice.hpp"
#include "convert.hpp"
#include "correction.hpp"
#include "frames.hpp"
#include "model.hpp"
#include "open_model.hpp"
#include "statistics.hpp"

namespace lowdose {

struct StreamOptions {
    DType in = DType::f32;
    DType out = DType::f32;
    int threads = 0;                // 0: one per core
    int tile = 0;                   // largest tile side in pixels; 0: as large as max_bytes allows
    double max_bytes = 0;           // memory for the stream's buffers and one run of the network; 0: no cap
    int batch = 1;                  // frames that one run of the network denoises; results come when it is full
    Wanted wanted;                  // what is not given is chosen from the first frames when the first result is due
    std::optional<ScanShape> scan;  // for models with taps over a scan
    References references;          // of the detector; copied
    bool warm_up = false;           // run the network once before the first frame
    // Told before each step of the preparation what comes and what share is done; false cancels it.
    std::function<bool(const char* step, double share)> progress;
};

// Not thread-safe, except for `replace`: one stream, one thread. A model may serve several streams.
class Stream {
public:
    // Everything slow happens here: memory planning, opening the network. Throws Error.
    Stream(std::shared_ptr<const Model> model, int height, int width, const StreamOptions& options);

    // Takes one frame of (channels, height, width) pixels with rows and channels that many bytes apart. Returns true
    // when a result was written to `out` (channels * height * width pixels of the output type, contiguous). Results
    // come in order, latency_frames() later than their frame. Throws Error on NaN or infinity, and for a frame behind
    // the last position of the scan; it is then not taken.
    bool push(const void* frame, std::ptrdiff_t row_stride_bytes, std::ptrdiff_t channel_stride_bytes, void* out) {
        return push({frame, row_stride_bytes, channel_stride_bytes}, out);
    }
    // The same; on_gpu: frame and `out` lie on the GPU of the model, and work on the frame is done or in queue().
    bool push(const RawFrame& frame, void* out);

    // After the last frame: writes one waiting result, false when none is left; then the next sequence may begin. A
    // scan may be flushed before it is complete. Frames that are not there are replaced as the model's rule for the
    // ends says. Throws Error when the sequence is too short for that.
    // `out` lies where the last frame did.
    bool flush(void* out);
    bool last_on_gpu() const { return on_gpu_; }

    // Where this stream's work goes; null where frames on a GPU are not taken.
    std::shared_ptr<cuda::Queue> queue() const { return backend_->on_gpu() ? queue_ : nullptr; }
    // Memory for a result or frame of that many bytes, which crosses to a GPU without a copy; null where any does.
    std::shared_ptr<void> fast_memory(size_t n_bytes) { return backend_->fast_memory(n_bytes); }

    // Puts another model in the place of this one, while another thread may push: everything slow happens in the
    // calling thread, and the next result comes from the new model, for the frames of its window are kept. So is the
    // offset. A bank or a low-pass needs its weight set and cutoff. Both models are in memory until then. Throws Error
    // when the model does not fit the stream, which then goes on as it was.
    void replace(std::shared_ptr<const Model> model, std::optional<int> weight_set, std::optional<float> cutoff);

    // Forgets the frames.
    void begin_sequence();
    // Forgets the frames and, where they were automatic, the choices.
    void begin_scene();
    // The statistics too.
    void reset();

    int latency_frames() const { return ring_.latency() + options_.batch - 1; }
    const std::optional<Choice>& choice() const { return choice_; }  // empty until made
    const Statistics& statistics() const { return statistics_; }
    const TilePlan& tiles() const { return open_->tiles(); }
    int n_channels() const { return n_channels_; }
    int height() const { return height_; }
    int width() const { return width_; }
    size_t n_values() const { return shape_.n_values(); }
    const StreamOptions& options() const { return options_; }

private:
    // A model that is ready, and how it is applied.
    struct Replacement {
        std::unique_ptr<OpenModel> open;
        int weight_set;
        float cutoff;
    };

    const Contract& contract() const { return open_->contract(); }
    std::unique_ptr<OpenModel> open(std::shared_ptr<const Model> model) const;
    std::optional<Choice> given_settings() const;
    void take_replacement();
    void run_batch();
    void give(const Stopwatch& since, void* out);
    void choose_settings();
    void filter(float* frame);

    int height_, width_, n_channels_;
    std::string device_;
    StreamOptions options_;
    FrameShape shape_;
    int n_reference_planes_;
    Correction correction_;
    FrameRing ring_;
    std::shared_ptr<cuda::Queue> queue_;  // of CUDA; else null
    std::unique_ptr<OpenModel> open_;
    std::unique_ptr<Backend> backend_;
    Wanted wanted_;
    std::optional<Choice> choice_;
    Statistics statistics_;
    Plane denoised_;              // of the last batch
    long long n_out_ = 0;         // results that were given, or lost by an error
    long long n_denoised_ = 0;    // frames that were in a batch
    long long batch_begins_ = 0;  // the first frame of the last one
    bool on_gpu_ = false;         // the last frame
    std::mutex exchange_;         // of open_ for next_
    std::optional<Replacement> next_;
};

}  // namespace lowdose
