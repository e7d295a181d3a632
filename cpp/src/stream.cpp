#include "stream.hpp"

#include <cmath>
#include <string>

#include "error.hpp"
#include "lowpass.hpp"

namespace lowdose {

Stream::Stream(std::shared_ptr<const Model> model, int height, int width, const StreamOptions& options)
    : model_(std::move(model)), contract_(model_->contract()), height_(height), width_(width), options_(options) {
    if (height < 1 || width < 1)
        throw Error("frames of " + std::to_string(height) + "x" + std::to_string(width) +
                    " pixels hold nothing to denoise");
    const Wanted& wanted = options.wanted;
    if (wanted.weight_set && (*wanted.weight_set < 0 || *wanted.weight_set >= contract_.n_weight_sets))
        throw Error("weight set " + std::to_string(*wanted.weight_set) + " does not exist: the model has 0 to " +
                    std::to_string(contract_.n_weight_sets - 1));
    if (wanted.cutoff && !(*wanted.cutoff > 0)) throw Error("the low-pass cutoff must be above 0 (cycles/pixel)");
    if (wanted.cutoff && *wanted.cutoff < cutoff_all && !contract_.has_low_pass)
        throw Error("this " + contract_.method + " model has no low-pass: give no cutoff");

    // Ring, result and the spectrum of the low-pass after tiling are held whole; tiles get the rest.
    const auto n_pixels = static_cast<size_t>(height) * static_cast<size_t>(width);
    const auto n_slots = static_cast<size_t>(2 * contract_.reach() + 1);
    const double held = static_cast<double>((n_slots + 2) * sizeof(float) * n_pixels);
    int tile = options.tile;
    if (tile < 0) throw Error("the tile side must be 0 or more pixels, not " + std::to_string(tile));
    if (tile == 0 && options.max_bytes > 0)
        tile = tile_for_memory(height, width, contract_.margin_px, contract_.bytes_per_px, options.max_bytes - held);
    plan_ = plan_tiles(height, width, contract_.margin_px, tile);

    network_.emplace(model_->open(plan_.input_height(), plan_.input_width(), options.threads));
    ring_.assign(n_slots, std::vector<float>(n_pixels));
    denoised_.resize(n_pixels);
    if (!plan_.whole_frame()) {
        const size_t tile_pixels = static_cast<size_t>(plan_.input_height()) * static_cast<size_t>(plan_.input_width());
        tile_inputs_.assign(static_cast<size_t>(contract_.n_taps()), std::vector<float>(tile_pixels));
        tile_output_.resize(tile_pixels);
    }
    reset();
}

void Stream::reset() {
    n_in_ = n_out_ = 0;
    statistics_ = Statistics{};
    choice_.reset();
    const Wanted& wanted = options_.wanted;
    if (wanted.offset && (wanted.weight_set || contract_.n_weight_sets == 1) &&
        (wanted.cutoff || !contract_.has_low_pass))
        choice_ = Choice{wanted.weight_set.value_or(0), wanted.cutoff.value_or(cutoff_none), *wanted.offset};
}

// The frames that come before the choice wait in the ring as they are; choose_settings subtracts their offset.
bool Stream::push(const void* frame, std::ptrdiff_t row_stride_bytes, void* out) {
    const auto slot = static_cast<size_t>(n_in_) % ring_.size();
    const Stopwatch watch;
    to_float(frame, options_.in, row_stride_bytes, height_, width_, choice_ ? choice_->offset : 0.0f,
             ring_[slot].data());
    statistics_.convert.add(watch.milliseconds());
    statistics_.frames_in += 1;
    n_in_ += 1;
    if (n_in_ <= contract_.reach()) return false;
    emit(n_in_ - 1 - contract_.reach(), watch, out);
    return true;
}

bool Stream::flush(void* out) {
    if (n_out_ == n_in_) {
        n_in_ = n_out_ = 0;
        return false;
    }
    if (n_in_ <= contract_.reach()) {
        const std::string given = std::to_string(n_in_);
        n_in_ = n_out_ = 0;  // the next sequence must not begin with this one's frames
        throw Error(contract_.method + " needs at least " + std::to_string(contract_.reach() + 1) +
                    " frames and was given " + given + "; use a single-frame model such as wcid");
    }
    emit(n_out_, Stopwatch(), out);
    return true;
}

const float* Stream::frame_at(long long index) const {
    const long long last = n_in_ - 1;
    const long long mirrored = index < 0 ? -index : index > last ? 2 * last - index : index;
    return ring_[static_cast<size_t>(mirrored) % ring_.size()].data();
}

Window Stream::window_at(long long index) const {
    Window window;
    for (const int tap : contract_.taps) window.push_back(frame_at(index + tap));
    return window;
}

void Stream::choose_settings() {
    const Stopwatch watch;
    std::vector<Window> windows;
    for (long long i = 0; i < n_in_; ++i) windows.push_back(window_at(i));
    choice_ = choose(*model_, windows, height_, width_, options_.threads, options_.wanted);
    for (long long i = 0; i < n_in_; ++i)
        for (float& pixel : ring_[static_cast<size_t>(i)]) pixel -= choice_->offset;
    statistics_.choose.add(watch.milliseconds());
}

void Stream::denoise(const Window& window) {
    const Stopwatch watch;
    if (plan_.whole_frame()) {
        network_->run(window, choice_->weight_set, choice_->cutoff, denoised_.data());
        statistics_.network.add(watch.milliseconds());
        return;
    }
    std::vector<const float*> inputs;
    for (const auto& input : tile_inputs_) inputs.push_back(input.data());
    for (const Tile& tile : plan_.tiles) {
        for (size_t tap = 0; tap < window.size(); ++tap)
            gather_tile(window[tap], height_, width_, plan_, tile, tile_inputs_[tap].data());
        network_->run(inputs, choice_->weight_set, cutoff_none, tile_output_.data());
        scatter_tile(tile_output_.data(), plan_, tile, width_, denoised_.data());
    }
    statistics_.network.add(watch.milliseconds());
    const Stopwatch low_pass_watch;  // a tile has not the frame's spectrum: the disc is kept on the whole frame
    low_pass(denoised_.data(), height_, width_, choice_->cutoff, model_->transforms(), denoised_.data());
    statistics_.low_pass.add(low_pass_watch.milliseconds());
}

void Stream::emit(long long index, const Stopwatch& since, void* out) {
    if (!choice_) choose_settings();
    denoise(window_at(index));
    const Stopwatch watch;
    from_float(denoised_.data(), denoised_.size(), choice_->offset, options_.out, out);
    statistics_.output.add(watch.milliseconds());
    statistics_.total.add(since.milliseconds());
    statistics_.frames_out += 1;
    n_out_ = index + 1;
}

}  // namespace lowdose
