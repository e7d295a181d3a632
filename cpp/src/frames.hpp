// The last frames of a sequence or scan, and which of them stand in for those that are not there.
#pragma once

#include <vector>

#include "backend.hpp"
#include "contract.hpp"

namespace lowdose {

// Positions of a scan; frames come row by row. For frames along time, one row without an end.
struct ScanShape {
    int n_y, n_x;
};

class FrameRing {
public:
    // frame_values: channels x pixels of a frame. batch: frames whose windows are wanted at once. Throws Error for a
    // scan too small for the taps.
    FrameRing(const Contract& contract, const ScanShape& scan, size_t frame_values, int batch);

    // Takes the memory, before the first frame.
    void allocate(Backend& backend);

    // Where the next frame belongs; take() says that it is there. Throws Error when the scan is complete.
    float* next();
    void take();
    // Where the sums over the next frame belong (Backend::sums), for networks that take an offset.
    std::vector<double>& next_sums() { return sums_[slot(count_)]; }
    void clear() { count_ = 0; }

    long long count() const { return count_; }
    int n_slots() const { return n_slots_; }
    // How many frames after frame i the last of its window comes.
    int latency() const { return latency_; }
    // The fewest frames of a sequence whose ends can be filled.
    int shortest() const { return shortest_; }

    // Sets `frames` to those that the network takes for frame `index`, in the order of the taps.
    void window(long long index, std::vector<const float*>& frames) const;

    // Per channel the mean over all pixels of that window, and the standard deviation (0 for a constant).
    void moments(long long index, std::vector<float>& mean, std::vector<float>& deviation) const;

    // A frame among the last n_slots().
    float* frame(long long index) { return slots_[slot(index)].get(); }

private:
    size_t slot(long long index) const { return static_cast<size_t>(index) % static_cast<size_t>(n_slots_); }
    long long neighbour(long long index, const Tap& tap) const;

    Contract contract_;
    ScanShape scan_;
    size_t frame_values_;
    int latency_, shortest_, n_slots_;
    long long count_ = 0;
    std::vector<Plane> slots_;               // frame i is in slot i modulo their number
    std::vector<std::vector<double>> sums_;  // per slot and channel: sum, then sum of squares
};

}  // namespace lowdose
