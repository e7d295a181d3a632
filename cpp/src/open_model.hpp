// A model opened for the frames of one stream, with what it remembers from frame to frame: what is exchanged when a
// running stream gets other weights.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "backend.hpp"
#include "blocks.hpp"
#include "choice.hpp"
#include "frame_network.hpp"
#include "frames.hpp"
#include "model.hpp"

namespace lowdose {

class OpenModel {
public:
    // Throws Error.
    OpenModel(std::shared_ptr<const Model> model, const Opening& opening);
    // Takes the memory, before the first run. The backend, where the frames of the ring are, must outlive this.
    void allocate(Backend& backend);

    const Model& model() const { return *model_; }
    const Contract& contract() const { return model_->contract(); }
    const TilePlan& tiles() const { return network_.tiles(); }

    // Makes ready for these settings.
    void prepare(const Choice& choice) { network_.prepare(choice.weight_set, cutoff_in_network(choice)); }
    // The first run allocates what later ones use again. `frame` is any frame, `denoised` room for one.
    void warm_up(const float* frame, float* denoised, const std::optional<Choice>& choice);

    // Denoises a batch of those in the ring, frame `index` and the next ones up to `last`, which stands for what would
    // come behind it; with tiles, without the low-pass.
    void run(const FrameRing& ring, long long index, long long last, const Choice& choice, float* denoised);

    // The next frame is not the one after the last.
    void clear();

private:
    void run_network(const FrameRing& ring, long long index, long long last, const Choice& choice, float* out);
    void gather(const FrameRing& ring, long long index, long long last);
    float* state(long long step);
    float cutoff_in_network(const Choice& choice) const;

    std::shared_ptr<const Model> model_;
    int batch_;
    Blocks blocks_;
    FrameNetwork network_;
    Backend* backend_ = nullptr;
    size_t state_values_ = 0;
    // Of step i in slot i modulo their number, one more than the network takes.
    std::vector<Plane> states_;
    bool has_states_ = false;  // those that the next frame takes
    Run run_;
    std::vector<const float*> window_;     // of one frame of the batch
    std::vector<float> offsets_, scales_;  // of its channels
};

// Throws Error unless a stream of `now` can go on with `next`: its frames wait in a ring that both must read alike.
void check_fits(const Contract& now, const Contract& next);

}  // namespace lowdose
