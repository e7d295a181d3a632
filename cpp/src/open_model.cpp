#include "open_model.hpp"

#include <algorithm>
#include <string>

#include "error.hpp"
#include "lowpass.hpp"

namespace lowdose {

OpenModel::OpenModel(std::shared_ptr<const Model> model, int height, int width, int threads, int tile, double max_bytes,
                     double held_bytes)
    : model_(std::move(model)),
      blocks_(contract(), static_cast<size_t>(height) * static_cast<size_t>(width)),
      network_(*model_, height, width, threads, tile, max_bytes, held_bytes) {
    if (contract().n_states > 0)
        states_.assign(static_cast<size_t>(contract().n_states) + 1,
                       std::vector<float>(network_.aligned_px() * static_cast<size_t>(contract().state_channels)));
}

void OpenModel::clear() {
    blocks_.clear();
    has_states_ = false;
}

void OpenModel::warm_up(const float* frame, float* denoised) {
    const auto n_channels = static_cast<size_t>(contract().n_channels);
    Run run;
    run.frames.assign(contract().taps.size(), frame);
    for (int i = 0; i < contract().n_states; ++i) run.states.push_back(state(i));
    if (contract().n_states > 0) run.state = state(contract().n_states);
    run.offset.assign(n_channels, 0.0f);
    run.scale.assign(n_channels, 1.0f);
    run.cutoff = 0.1f;  // so that a low-pass is computed
    run.denoised = contract().block_frames > 0 ? blocks_.begin(0) : denoised;
    network_.run(run);
    clear();
}

// The first step of a sequence is -n_states, and it takes those of n_states steps before.
float* OpenModel::state(long long step) {
    const auto n_slots = static_cast<long long>(states_.size());
    return states_[static_cast<size_t>((step + 2 * n_slots) % n_slots)].data();
}

void OpenModel::run(const FrameRing& ring, long long index, const Choice& choice, float* denoised) {
    if (contract().block_frames > 0) {
        if (const auto start = blocks_.wanted(index, ring.count()))
            run_network(ring, *start, choice, blocks_.begin(*start));
        blocks_.frame(index, denoised);
        return;
    }
    if (!has_states_) {
        for (std::vector<float>& state : states_) std::fill(state.begin(), state.end(), 0.0f);
        for (long long step = index - contract().n_states; step < index; ++step)
            run_network(ring, step, choice, denoised);
        has_states_ = true;
    }
    run_network(ring, index, choice, denoised);
}

// Runs the network on the window around frame `index`; before the first frame too, to fill the states.
void OpenModel::run_network(const FrameRing& ring, long long index, const Choice& choice, float* out) {
    ring.window(index, run_.frames);
    if (contract().takes_offset) {
        ring.moments(index, run_.offset, run_.scale);
        for (float& scale : run_.scale)
            scale = scale > 0 ? scale * static_cast<float>(contract().scale_stds) : 1.0f;  // a constant frame
    }
    run_.states.clear();
    for (int i = contract().n_states; i > 0; --i) run_.states.push_back(state(index - i));
    if (contract().n_states > 0) run_.state = state(index);
    run_.weight_set = choice.weight_set;
    run_.cutoff = tiles().whole_frame ? choice.cutoff : cutoff_none;
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
