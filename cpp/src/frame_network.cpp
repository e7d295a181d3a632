#include "frame_network.hpp"

#include <string>

#include "error.hpp"

namespace lowdose {

FrameNetwork::FrameNetwork(const Model& model, int height, int width, int threads, int tile, double max_bytes,
                           double held_bytes)
    : contract_(model.contract()), height_(height), width_(width) {
    const TileRules rules{contract_.margin_px, contract_.align_px, contract_.periodic};
    if (tile < 0) throw Error("the tile side must be 0 or more pixels, not " + std::to_string(tile));
    model.check_size(height, width);
    if (tile == 0 && max_bytes > 0)
        tile = tile_for_memory(height, width, rules, contract_.bytes_per_px, max_bytes - held_bytes);
    plan_ = plan_tiles(height, width, rules, tile);
    network_.emplace(model.open(plan_.input_height, plan_.input_width, threads));
    if (plan_.whole_frame) return;
    const size_t plane = static_cast<size_t>(plan_.input_height) * static_cast<size_t>(plan_.input_width);
    const auto planes = [&](int n) { return plane * static_cast<size_t>(n); };
    frames_.assign(contract_.taps.size(), std::vector<float>(planes(contract_.n_channels)));
    states_.assign(static_cast<size_t>(contract_.n_states), std::vector<float>(planes(contract_.state_channels)));
    denoised_.resize(planes(contract_.n_outputs()));
    state_.resize(planes(contract_.state_channels));
}

void FrameNetwork::run(const Run& run) {
    if (plan_.whole_frame) {
        network_->run(run);
        return;
    }
    Run part = run;
    part.denoised = denoised_.data();
    part.state = state_.data();
    for (const Tile& tile : plan_.tiles) {
        gather(tile, run.frames, contract_.n_channels, frames_, part.frames);
        gather(tile, run.states, contract_.state_channels, states_, part.states);
        network_->run(part);
        scatter(tile, denoised_, contract_.n_outputs(), run.denoised);
        if (contract_.n_states > 0) scatter(tile, state_, contract_.state_channels, run.state);
    }
}

void FrameNetwork::gather(const Tile& tile, const std::vector<const float*>& planes, int n_channels,
                          std::vector<std::vector<float>>& inputs, std::vector<const float*>& pointers) const {
    const auto frame = static_cast<std::ptrdiff_t>(height_) * width_;
    const auto input = static_cast<std::ptrdiff_t>(plan_.input_height) * plan_.input_width;
    for (size_t i = 0; i < planes.size(); ++i) {
        for (int channel = 0; channel < n_channels; ++channel)
            gather_tile(planes[i] + channel * frame, height_, width_, plan_, tile, inputs[i].data() + channel * input);
        pointers[i] = inputs[i].data();
    }
}

void FrameNetwork::scatter(const Tile& tile, const std::vector<float>& output, int n_channels, float* planes) const {
    const auto frame = static_cast<std::ptrdiff_t>(height_) * width_;
    const auto input = static_cast<std::ptrdiff_t>(plan_.input_height) * plan_.input_width;
    for (int channel = 0; channel < n_channels; ++channel)
        scatter_tile(output.data() + channel * input, plan_, tile, width_, planes + channel * frame);
}

}  // namespace lowdose
