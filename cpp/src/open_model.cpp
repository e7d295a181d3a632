#include "open_model.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "error.hpp"
#include "lowpass.hpp"

namespace lowdose {

OpenModel::OpenModel(std::shared_ptr<const Model> model, const Opening& opening)
    : model_(std::move(model)),
      batch_(opening.frames.batch),
      blocks_(contract(), static_cast<size_t>(opening.frames.height) * static_cast<size_t>(opening.frames.width)),
      network_(*model_, opening) {}

void OpenModel::allocate(Backend& backend) {
    backend_ = &backend;
    blocks_.allocate(backend);
    if (contract().n_states == 0) return;
    state_values_ = network_.aligned_px() * static_cast<size_t>(contract().state_channels);
    for (int i = 0; i <= contract().n_states; ++i) states_.push_back(backend.zeros(state_values_));
}

void OpenModel::clear() {
    blocks_.clear();
    has_states_ = false;
}

// A tile has not the frame's spectrum.
float OpenModel::cutoff_in_network(const Choice& choice) const {
    return tiles().whole_frame ? choice.cutoff : cutoff_none;
}

void OpenModel::warm_up(const float* frame, float* denoised, const std::optional<Choice>& choice) {
    const auto batch = static_cast<size_t>(batch_), n_channels = batch * static_cast<size_t>(contract().n_channels);
    Run run;
    run.frames.assign(contract().taps.size() * batch, frame);
    for (int i = 0; i < contract().n_states; ++i) run.states.push_back(state(i));
    if (contract().n_states > 0) run.state = state(contract().n_states);
    run.offset.assign(n_channels, 0.0f);
    run.scale.assign(n_channels, 1.0f);
    run.weight_set = choice ? choice->weight_set : 0;
    run.cutoff = choice ? cutoff_in_network(*choice) : 0.1f;  // so that a low-pass is computed
    run.on_gpu = backend_->on_gpu();
    run.denoised = contract().block_frames > 0 ? blocks_.begin(0) : denoised;
    network_.run(run);
    clear();
}

// The first step of a sequence is -n_states, and it takes those of n_states steps before.
float* OpenModel::state(long long step) {
    const auto n_slots = static_cast<long long>(states_.size());
    return states_[static_cast<size_t>((step + 2 * n_slots) % n_slots)].get();
}

void OpenModel::run(const FrameRing& ring, long long index, long long last, const Choice& choice, float* denoised) {
    if (contract().block_frames > 0) {
        if (const auto start = blocks_.wanted(index, ring.count()))
            run_network(ring, *start, *start, choice, blocks_.begin(*start));
        blocks_.frame(*backend_, index, denoised);
        return;
    }
    if (!has_states_) {
        for (const Plane& state : states_) backend_->clear(state.get(), state_values_);
        for (long long step = index - contract().n_states; step < index; ++step)
            run_network(ring, step, step, choice, denoised);
        has_states_ = true;
    }
    run_network(ring, index, last, choice, denoised);
}

// The windows around the frames of a batch, and what their pixels are normalised with.
void OpenModel::gather(const FrameRing& ring, long long index, long long last) {
    const auto batch = static_cast<size_t>(batch_);
    run_.frames.resize(contract().taps.size() * batch);
    run_.offset.clear();
    run_.scale.clear();
    for (size_t item = 0; item < batch; ++item) {
        const long long at = std::min(index + static_cast<long long>(item), last);
        ring.window(at, window_);
        for (size_t tap = 0; tap < window_.size(); ++tap) run_.frames[tap * batch + item] = window_[tap];
        if (!contract().takes_offset) continue;
        ring.moments(at, offsets_, scales_);
        for (float& scale : scales_)
            scale = scale > 0 ? scale * static_cast<float>(contract().scale_stds) : 1.0f;  // a constant frame
        run_.offset.insert(run_.offset.end(), offsets_.begin(), offsets_.end());
        run_.scale.insert(run_.scale.end(), scales_.begin(), scales_.end());
    }
}

// Before the first frame too, to fill the states.
void OpenModel::run_network(const FrameRing& ring, long long index, long long last, const Choice& choice, float* out) {
    gather(ring, index, last);
    run_.states.clear();
    for (int i = contract().n_states; i > 0; --i) run_.states.push_back(state(index - i));
    if (contract().n_states > 0) run_.state = state(index);
    run_.weight_set = choice.weight_set;
    run_.cutoff = cutoff_in_network(choice);
    run_.on_gpu = backend_->on_gpu();
    run_.denoised = out;
    network_.run(run_);
}

namespace {

std::string text_of(const Contract& contract) {
    std::string text;
    for (const Tap& tap : contract.taps) {
        text += text.empty() ? "" : ", ";
        text +=
            contract.scan ? "(" + std::to_string(tap.dy) + ", " + std::to_string(tap.dx) + ")" : std::to_string(tap.dx);
    }
    return "the taps " + text + (contract.scan ? " over the scan" : " in time");
}

}  // namespace

void check_fits(const Contract& now, const Contract& next) {
    const auto refuse = [&](const std::string& has, const std::string& wanted) {
        throw Error(
            "this " + next.method + " model cannot take over the stream: it has " + has + ", the stream has " + wanted,
            Error::Kind::argument);
    };
    const auto compare = [&](int has, int wanted, const char* what) {
        if (has != wanted) refuse(std::to_string(has) + what, std::to_string(wanted));
    };
    bool same_taps = now.scan == next.scan && now.taps.size() == next.taps.size();
    for (size_t i = 0; same_taps && i < now.taps.size(); ++i)
        same_taps = now.taps[i].dy == next.taps[i].dy && now.taps[i].dx == next.taps[i].dx;
    if (!same_taps) refuse(text_of(next), text_of(now));
    compare(next.n_channels, now.n_channels, " channels");
    compare(next.n_states, now.n_states, " states");
    compare(next.block_frames, now.block_frames, " frames in a block");
    if (next.ends != now.ends) refuse("another rule for the ends", "its own");
    if (next.takes_offset != now.takes_offset) refuse("another rule of normalisation", "its own");
    if (next.percentile_offset != now.percentile_offset) refuse("another rule for the offset", "its own");
}

}  // namespace lowdose
