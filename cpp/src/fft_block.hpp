// Sixteen sequences of one length that are Fourier-transformed together.
#pragma once

#include <cstddef>
#include <vector>

#include "ops/fft_passes.hpp"
#include "ops/instruction_set.hpp"
#include "spares.hpp"

namespace lowdose {

class FftBlock {
public:
    static constexpr size_t width = ops::fft_block;

    FftBlock(int length, ops::InstructionSet set);

    bool is_for(int length, ops::InstructionSet set) const { return length_ == length && set_ == set; }
    void clear(size_t first, size_t last);  // elements first ... last - 1 of all sequences

    // Transforms re + i im in place: sign -1 forward, +1 backward, not normalised. Lengths with a large prime factor
    // take about five times as long as others (Bluestein, IEEE Trans. Audio and Electroacoustics 18, 451, 1970).
    void run(int sign);

    std::vector<float> re, im;  // element i of sequence j at [i * width + j]

private:
    void run_passes(int sign);
    void turn(size_t i, float c, float s);
    void prepare_chirp();

    int length_, padded_;  // what the passes transform; longer than length_ for Bluestein
    std::vector<int> factors_;
    std::vector<float> cosine_, sine_, scratch_re_, scratch_im_;
    std::vector<float> chirp_c_, chirp_s_;        // exp(i pi n^2 / length)
    std::vector<float> response_c_, response_s_;  // the forward transform of the chirp, over padded_
    ops::InstructionSet set_;
    const ops::FftPasses& passes_;
};

// A block of this length, for the calling thread as long as the lease lives.
Spares<FftBlock>::Lease fft_block_of(int length, ops::InstructionSet set);

}  // namespace lowdose
