// A network on whole frames, cut into tiles where memory or alignment ask for it.
#pragma once

#include <optional>
#include <vector>

#include "model.hpp"
#include "tiles.hpp"

namespace lowdose {

class FrameNetwork {
public:
    // tile, max_bytes: as in StreamOptions; `held_bytes` of max_bytes are in use by others. Throws Error.
    FrameNetwork(const Model& model, int height, int width, int threads, int tile, double max_bytes, double held_bytes);

    // As Network::run, with planes of whole frames.
    void run(const Run& run);

    const TilePlan& tiles() const { return plan_; }

private:
    void gather(const Tile& tile, const std::vector<const float*>& planes, int n_channels,
                std::vector<std::vector<float>>& inputs, std::vector<const float*>& pointers) const;
    void scatter(const Tile& tile, const std::vector<float>& output, int n_channels, float* planes) const;

    Contract contract_;
    int height_, width_;
    TilePlan plan_;
    std::optional<Network> network_;
    std::vector<std::vector<float>> frames_, states_;  // inputs of one tile
    std::vector<float> denoised_, state_;              // outputs of one tile
};

}  // namespace lowdose
