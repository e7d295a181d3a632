// A model opened for the frames of one stream, with what it remembers from frame to frame: what is exchanged when a
// running stream gets other weights.
#pragma once

#include <memory>
#include <vector>

#include "blocks.hpp"
#include "choice.hpp"
#include "frame_network.hpp"
#include "frames.hpp"
#include "model.hpp"

namespace lowdose {

class OpenModel {
public:
    // The arguments are those of FrameNetwork. Throws Error.
    OpenModel(std::shared_ptr<const Model> model, int height, int width, int threads, int tile, double max_bytes,
              double held_bytes);

    const Model& model() const { return *model_; }
    const Contract& contract() const { return model_->contract(); }
    const TilePlan& tiles() const { return network_.tiles(); }

    // The first run allocates what later ones use again. `frame` is any frame, `denoised` room for one.
    void warm_up(const float* frame, float* denoised);

    // Denoises frame `index` of those in the ring; with tiles, without the low-pass.
    void run(const FrameRing& ring, long long index, const Choice& choice, float* denoised);

    // The next frame is not the one after the last.
    void clear();

private:
    void run_network(const FrameRing& ring, long long index, const Choice& choice, float* out);
    float* state(long long step);

    std::shared_ptr<const Model> model_;
    Blocks blocks_;
    FrameNetwork network_;
    // Of step i in slot i modulo their number, one more than the network takes.
    std::vector<std::vector<float>> states_;
    bool has_states_ = false;  // those that the next frame takes
    Run run_;
};

// Throws Error unless a stream of `now` can go on with `next`: its frames wait in a ring that both must read alike.
void check_fits(const Contract& now, const Contract& next);

}  // namespace lowdose
