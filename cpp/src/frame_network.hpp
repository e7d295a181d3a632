// A network on whole frames, cut into tiles where memory or alignment ask for it.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "network.hpp"
#include "tiles.hpp"

namespace lowdose {

// What a network is opened for. tile, max_bytes: as in StreamOptions; `held_bytes` of max_bytes are in use by others.
// queue: of Model::new_queue.
struct Opening {
    RunShape frames;
    int threads, tile;
    double max_bytes, held_bytes;
    std::shared_ptr<cuda::Queue> queue;
};

class FrameNetwork {
public:
    // The model must outlive the network. Throws Error.
    FrameNetwork(const Model& model, const Opening& opening);

    // As Network::run, with planes of whole frames; those of states are aligned_px large, for what lies beyond a frame
    // in one step is seen in the next.
    void run(const Run& run);

    // Makes ready for the settings of the next runs, which takes long where they are constants of the graph.
    void prepare(int weight_set, float cutoff) { network_->prepare(weight_set, cutoff); }

    size_t aligned_px() const;

    const TilePlan& tiles() const { return plan_; }

private:
    struct Size {
        int height, width;
    };

    void gather(const Tile& tile, const std::vector<const float*>& planes, Size size, int n_channels,
                std::vector<std::vector<float>>& inputs) const;
    void scatter(const Tile& tile, const float* output, Size size, int n_channels, float* planes) const;
    Tile to_the_border(Tile tile) const;

    Contract contract_;
    Size size_, aligned_;
    TilePlan plan_;
    int batch_;
    std::optional<Network> network_;
    std::vector<std::vector<float>> frames_, states_;  // inputs of one tile
    std::vector<float> denoised_, state_;              // outputs of one tile
    Run part_;                                         // of one tile, in this memory
};

}  // namespace lowdose
