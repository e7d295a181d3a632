// Frames in one by one, denoised frames out, as many as went in.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "choice.hpp"
#include "convert.hpp"
#include "model.hpp"
#include "statistics.hpp"
#include "tiles.hpp"

namespace lowdose {

struct StreamOptions {
    DType in = DType::f32;
    DType out = DType::f32;
    int threads = 0;       // 0: one per core
    int tile = 0;          // largest tile side in pixels; 0: as large as max_bytes allows
    double max_bytes = 0;  // memory for the stream's buffers and one run of the network; 0: no cap
    Wanted wanted;         // what is not given is chosen from the first frames when the first result is due
};

// Not thread-safe: one stream, one thread. A model may serve several streams.
class Stream {
public:
    // Everything slow happens here: memory planning, opening the network. Throws Error.
    Stream(std::shared_ptr<const Model> model, int height, int width, const StreamOptions& options);

    // Takes one frame of (height, width) pixels with rows `row_stride_bytes` apart. Returns true when a
    // result was written to `out` (height * width pixels of the output type, contiguous). Results come in
    // order, latency_frames() later than their frame. Throws Error on NaN or infinity; the frame is then not taken.
    bool push(const void* frame, std::ptrdiff_t row_stride_bytes, void* out);

    // After the last frame: writes one waiting result, false when none is left; then the next sequence may
    // begin. Before the first and after the last frame the sequence is mirrored (frame 1 stands for frame -1):
    // repeating the end frame would show a blind network its own pixel. Throws Error when the sequence is too
    // short for that.
    bool flush(void* out);

    // Forgets the frames and, where they were automatic, the choices and statistics.
    void reset();

    int latency_frames() const { return contract_.reach(); }
    const std::optional<Choice>& choice() const { return choice_; }  // empty until made
    const Statistics& statistics() const { return statistics_; }
    const TilePlan& tiles() const { return plan_; }
    int height() const { return height_; }
    int width() const { return width_; }
    const StreamOptions& options() const { return options_; }

private:
    const float* frame_at(long long index) const;
    Window window_at(long long index) const;
    void emit(long long index, const Stopwatch& since, void* out);
    void choose_settings();
    void denoise(const Window& window);

    std::shared_ptr<const Model> model_;
    Contract contract_;
    int height_, width_;
    StreamOptions options_;
    TilePlan plan_;
    std::optional<Network> network_;
    std::optional<Choice> choice_;
    Statistics statistics_;
    std::vector<std::vector<float>> ring_;  // the last frames; frame i is in slot i modulo its size
    std::vector<std::vector<float>> tile_inputs_;
    std::vector<float> tile_output_, denoised_;
    long long n_in_ = 0, n_out_ = 0;
};

}  // namespace lowdose
