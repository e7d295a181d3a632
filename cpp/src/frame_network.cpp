#include "frame_network.hpp"

#include <string>

#include "error.hpp"

namespace lowdose {

FrameNetwork::FrameNetwork(const Model& model, const Opening& opening)
    : contract_(model.contract()),
      size_{opening.frames.height, opening.frames.width},
      aligned_{round_up(size_.height, contract_.align_px), round_up(size_.width, contract_.align_px)},
      batch_(opening.frames.batch) {
    const TileRules rules{contract_.margin_px, contract_.align_px, contract_.periodic};
    int tile = opening.tile;
    if (tile < 0) throw Error("the tile side must be 0 or more pixels, not " + std::to_string(tile));
    model.check_size(size_.height, size_.width);
    if (tile == 0 && opening.max_bytes > 0)
        tile = tile_for_memory(size_.height, size_.width, rules, batch_ * contract_.bytes_per_px,
                               opening.max_bytes - opening.held_bytes);
    plan_ = plan_tiles(size_.height, size_.width, rules, tile);
    network_.emplace(model, RunShape{plan_.input_height, plan_.input_width, batch_}, opening.threads, model.device(),
                     opening.queue);
    if (plan_.whole_frame) return;
    const size_t plane = static_cast<size_t>(plan_.input_height) * static_cast<size_t>(plan_.input_width);
    const auto planes = [&](int n) { return plane * static_cast<size_t>(n); };
    frames_.assign(contract_.taps.size() * static_cast<size_t>(batch_),
                   std::vector<float>(planes(contract_.n_channels)));
    states_.assign(static_cast<size_t>(contract_.n_states), std::vector<float>(planes(contract_.state_channels)));
    denoised_.resize(planes(batch_ * contract_.n_outputs()));
    state_.resize(planes(contract_.state_channels));
    for (const auto& frame : frames_) part_.frames.push_back(frame.data());
    for (const auto& state : states_) part_.states.push_back(state.data());
    part_.denoised = denoised_.data();
    part_.state = state_.data();
}

void FrameNetwork::run(const Run& run) {
    if (plan_.whole_frame) {
        network_->run(run);
        return;
    }
    part_.offset = run.offset;
    part_.scale = run.scale;
    part_.weight_set = run.weight_set;
    part_.cutoff = run.cutoff;
    for (const Tile& tile : plan_.tiles) {
        gather(tile, run.frames, size_, contract_.n_channels, frames_);
        gather(tile, run.states, aligned_, contract_.state_channels, states_);
        network_->run(part_);
        scatter(tile, denoised_.data(), size_, batch_ * contract_.n_outputs(), run.denoised);
        if (contract_.n_states > 0)
            scatter(to_the_border(tile), state_.data(), aligned_, contract_.state_channels, run.state);
    }
}

size_t FrameNetwork::aligned_px() const {
    return static_cast<size_t>(aligned_.height) * static_cast<size_t>(aligned_.width);
}

// The tile with what it yields beyond the frame, up to the border of the aligned one.
Tile FrameNetwork::to_the_border(Tile tile) const {
    if (tile.y + tile.n_y == size_.height) tile.n_y = aligned_.height - tile.y;
    if (tile.x + tile.n_x == size_.width) tile.n_x = aligned_.width - tile.x;
    return tile;
}

void FrameNetwork::gather(const Tile& tile, const std::vector<const float*>& planes, Size size, int n_channels,
                          std::vector<std::vector<float>>& inputs) const {
    const auto plane = static_cast<std::ptrdiff_t>(size.height) * size.width;
    const auto input = static_cast<std::ptrdiff_t>(plan_.input_height) * plan_.input_width;
    for (size_t i = 0; i < planes.size(); ++i)
        for (int channel = 0; channel < n_channels; ++channel)
            gather_tile(planes[i] + channel * plane, size.height, size.width, plan_, tile,
                        inputs[i].data() + channel * input);
}

void FrameNetwork::scatter(const Tile& tile, const float* output, Size size, int n_channels, float* planes) const {
    const auto plane = static_cast<std::ptrdiff_t>(size.height) * size.width;
    const auto input = static_cast<std::ptrdiff_t>(plan_.input_height) * plan_.input_width;
    for (int channel = 0; channel < n_channels; ++channel)
        scatter_tile(output + channel * input, plan_, tile, size.width, planes + channel * plane);
}

}  // namespace lowdose
