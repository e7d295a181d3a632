// What a model file says of itself: the part of its metadata (key "lowdose") that the core acts on.
// README.md of export/ describes the whole.
#pragma once

#include <string>
#include <vector>

namespace lowdose {

// Where a frame lies from the one that is denoised: over the scan, or along time with dy = 0 and dx in frames.
struct Tap {
    int dy, dx;
};

// What stands in for a frame that is not there: the one as far away on the other side, or the nearest.
enum class Ends { mirror, repeat };

struct Contract {
    std::string method;
    bool scan = false;  // taps lie over a scan, not along time
    std::vector<Tap> taps;
    Ends ends = Ends::mirror;
    int n_channels = 1;
    int margin_px = 0;          // how far an output pixel sees
    int align_px = 1;           // sides of what the network takes are multiples of it
    int min_size_px = 1;        // smallest height and width
    int height = 0, width = 0;  // the one frame size that the graph takes; 0: any
    bool periodic = true;       // the frame's border; if not, the graph pads in every layer
    bool takes_offset = false;  // per channel the mean of the window
    bool takes_scale = false;   // per channel `scale_stds` standard deviations of the window
    double scale_stds = 0;
    bool percentile_offset = true;  // subtracts a percentile of the frames; if not, nothing
    int n_states = 0;               // results of earlier steps that the network takes again
    int state_channels = 0;
    int block_frames = 0;  // frames that one run gives; 0: one
    int block_overlap = 0;
    int n_weight_sets = 1;      // size of the bank; 1 when there is no choice
    bool has_low_pass = false;  // takes the input `cutoff`
    bool half = false;          // the network computes in half precision
    double bytes_per_px = 0;    // memory of one run, measured at export

    int n_taps() const { return static_cast<int>(taps.size()); }
    int centre() const;   // the tap (0, 0)
    int reach_y() const;  // largest |dy|
    int reach_x() const;  // largest |dx|
    int n_outputs() const { return block_frames > 0 ? block_frames : n_channels; }
};

// `path` is for messages. Throws Error for metadata that break the contract or follow a newer spec.
Contract read_contract(const std::string& path, const std::string& metadata);

}  // namespace lowdose
