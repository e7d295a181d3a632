// Where blocks of frames begin, and how the frames that two of them share are blended.
#pragma once

#include <optional>
#include <vector>

#include "contract.hpp"

namespace lowdose {

class Blocks {
public:
    // plane: pixels of a frame.
    Blocks(const Contract& contract, size_t plane);

    // The first frame of the block to run before frame `index` can be had, of `n_frames` that are there; nothing when
    // it can be had already. Frames are asked for in order.
    std::optional<long long> wanted(long long index, long long n_frames) const;

    // Begins the block at `start`: room for its results, (block_frames, height, width).
    float* begin(long long start);

    // Frame `index`, blended over the overlap: the newer block's share grows linearly.
    void frame(long long index, float* out) const;

    // The next block begins at the frame that is asked for.
    void clear();

private:
    bool covers(long long start, long long index) const { return start >= 0 && index < start + n_frames_; }

    long long n_frames_, overlap_;
    size_t plane_;
    long long start_ = -1, earlier_start_ = -1;  // of the two blocks; -1: none
    std::vector<float> newest_, earlier_;
};

}  // namespace lowdose
