#include "choice.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "fft.hpp"
#include "lowpass.hpp"
#include "network.hpp"

namespace lowdose {

namespace {

constexpr int largest_crop = 512;
constexpr float probe_size = 0.1f;  // of the residual: small, so that the network stays linear
const std::vector<float> all_cutoffs = {0.04f, 0.05f, 0.06f, 1.0f / 14, 0.085f,   0.1f, 0.12f,      1.0f / 7,
                                        0.17f, 0.2f,  0.24f, 0.28f,     1.0f / 3, 0.4f, cutoff_none};

float percentile(const std::vector<Window>& windows, size_t centre, size_t n_pixels) {
    constexpr size_t most = 1 << 20;  // pixels looked at
    const size_t step = std::max<size_t>(1, windows.size() * n_pixels / most);
    std::vector<float> values;
    for (const Window& window : windows)
        for (size_t i = 0; i < n_pixels; i += step) values.push_back(window[centre][i]);
    const auto rank = static_cast<std::ptrdiff_t>(offset_share * static_cast<double>(values.size()));
    std::nth_element(values.begin(), values.begin() + rank, values.end());
    return values[static_cast<size_t>(rank)];
}

// The largest length up to `length` and largest_crop that has no prime factor above 7; `length` itself where that
// would be less than `smallest`.
int crop_length(int length, int smallest) {
    for (int n = std::min(length, largest_crop); n >= smallest; --n) {
        int rest = n;
        for (const int p : {2, 3, 5, 7})
            while (rest % p == 0) rest /= p;
        if (rest == 1) return n;
    }
    return length;
}

std::vector<float> crop(const float* frame, int height, int width, int crop_height, int crop_width, float offset) {
    std::vector<float> out;
    const int y0 = (height - crop_height) / 2, x0 = (width - crop_width) / 2;
    for (int y = y0; y < y0 + crop_height; ++y)
        for (int x = x0; x < x0 + crop_width; ++x)
            out.push_back(frame[static_cast<std::ptrdiff_t>(y) * width + x] - offset);
    return out;
}

// risk[c] += mean squared error with cutoffs[c] (ascending), up to a constant that all weight sets share.
// y: noisy, f: denoised, b: probe, d: what it changes; `weight` brings their product to the noise's size.
void add_risk(const Spectrum& y, const Spectrum& f, const Spectrum& b, const Spectrum& d, double weight,
              const std::vector<float>& cutoffs, std::vector<double>& risk) {
    std::vector<double> ring(cutoffs.size());  // what each cutoff adds to the one before
    const double n_pixels = static_cast<double>(y.height) * y.width;
    size_t at = 0;
    for (int k_x = 0; k_x < y.n_columns; ++k_x)
        for (int k_y = 0; k_y < y.height; ++k_y, ++at) {
            const double twins = k_x == 0 || 2 * k_x == y.width ? 1.0 : 2.0;  // the half that is not stored
            const double f_re = f.re[at], f_im = f.im[at];
            const double gain =
                f_re * f_re + f_im * f_im - 2 * (f_re * y.re[at] + f_im * y.im[at]) +
                2 * weight * (static_cast<double>(b.re[at]) * d.re[at] + static_cast<double>(b.im[at]) * d.im[at]);
            size_t c = 0;
            while (c < cutoffs.size() && cutoffs[c] < cutoff_all &&
                   !inside_disc(k_y, y.height, k_x, y.width, cutoffs[c]))
                ++c;
            if (c < cutoffs.size()) ring[c] += twins * gain / (n_pixels * n_pixels);
        }
    double sum = 0;
    for (size_t c = 0; c < cutoffs.size(); ++c) risk[c] += sum += ring[c];
}

double mean_square(const std::vector<float>& values) {
    double sum = 0;
    for (const float value : values) sum += static_cast<double>(value) * value;
    return sum / static_cast<double>(values.size());
}

// Variance of independent noise, from above: half the mean square difference of neighbours along x, y and time
// holds the noise and what the signal changes; the least of the three is taken.
double noise_variance(const std::vector<std::vector<float>>& frames, size_t centre, size_t height, size_t width) {
    const std::vector<float>& frame = frames[centre];
    std::vector<float> along_x, along_y;
    for (size_t y = 0; y < height; ++y)
        for (size_t x = 0; x < width; ++x) {
            const float here = frame[y * width + x];
            if (x + 1 < width) along_x.push_back(frame[y * width + x + 1] - here);
            if (y + 1 < height) along_y.push_back(frame[(y + 1) * width + x] - here);
        }
    double least = std::min(mean_square(along_x), mean_square(along_y));
    if (centre + 1 < frames.size()) {
        std::vector<float> along_time(frame.size());
        for (size_t i = 0; i < frame.size(); ++i) along_time[i] = frames[centre + 1][i] - frame[i];
        least = std::min(least, mean_square(along_time));
    }
    return least / 2;
}

// A window cropped to its middle, with the spectrum and the noise variance of its centre frame.
struct Sample {
    std::vector<std::vector<float>> frames;
    size_t centre;
    Spectrum spectrum;
    double noise;

    std::vector<const float*> taps() const {
        std::vector<const float*> pointers;
        for (const auto& frame : frames) pointers.push_back(frame.data());
        return pointers;
    }
};

// Adds the risk of one weight set on one sample, for every cutoff.
void score(Network& network, int weight_set, Sample& sample, const std::vector<float>& cutoffs,
           std::vector<double>& risk) {
    const Spectrum& y_spectrum = sample.spectrum;
    const auto spectrum = [&](const std::vector<float>& frame) {
        return forward_transform(frame.data(), y_spectrum.height, y_spectrum.width, y_spectrum.n_columns,
                                 y_spectrum.set);
    };
    std::vector<float>& y = sample.frames[sample.centre];
    const std::vector<float> original = y;
    std::vector<float> denoised(y.size()), change(y.size()), probe(y.size());
    Run run;
    run.frames = sample.taps();
    run.weight_set = weight_set;
    run.cutoff = cutoff_none;
    run.denoised = denoised.data();
    network.run(run);
    std::minstd_rand random(1);  // the same signs for every set: their risks differ by less noise
    for (size_t i = 0; i < y.size(); ++i) {
        probe[i] = (y[i] - denoised[i]) * (random() & 0x10000u ? probe_size : -probe_size);
        y[i] += probe[i];
    }
    // The residual holds the network's error beside the noise.
    const double residual = mean_square(probe) / (probe_size * probe_size);
    const double noise_share = residual > sample.noise ? sample.noise / residual : 1.0;
    run.denoised = change.data();
    network.run(run);
    y = original;
    for (size_t i = 0; i < y.size(); ++i) change[i] -= denoised[i];
    const double weight = noise_share / (probe_size * probe_size);
    add_risk(y_spectrum, spectrum(denoised), spectrum(probe), spectrum(change), weight, cutoffs, risk);
}

}  // namespace

Choice choose(const Model& model, const std::vector<Window>& windows, int height, int width, int threads,
              const Wanted& wanted) {
    model.check_size(height, width);
    const Contract& contract = model.contract();
    const auto centre = static_cast<size_t>(contract.centre());
    const auto n_pixels = static_cast<size_t>(height) * static_cast<size_t>(width);
    Choice choice;
    if (wanted.offset)
        choice.offset = *wanted.offset;
    else if (contract.percentile_offset)
        choice.offset = percentile(windows, centre, n_pixels);
    choice.cutoff = wanted.cutoff.value_or(cutoff_none);
    choice.weight_set = wanted.weight_set.value_or(0);
    const bool choose_cutoff = !wanted.cutoff && contract.has_low_pass;
    const bool choose_set = !wanted.weight_set && contract.n_weight_sets > 1;
    if (!choose_cutoff && !choose_set) return choice;

    const int h = crop_length(height, contract.min_size_px), w = crop_length(width, contract.min_size_px);
    std::vector<Sample> samples;
    for (const Window& window : windows) {
        std::vector<std::vector<float>> frames;
        for (const float* frame : window) frames.push_back(crop(frame, height, width, h, w, choice.offset));
        Spectrum spectrum = forward_transform(frames[centre].data(), h, w, w / 2 + 1, model.transforms());
        const double noise = noise_variance(frames, centre, static_cast<size_t>(h), static_cast<size_t>(w));
        samples.push_back({std::move(frames), centre, std::move(spectrum), noise});
    }

    Network network(model, {h, w}, threads, "cpu", nullptr);  // every device denoises with the same settings
    const std::vector<float> cutoffs = choose_cutoff ? all_cutoffs : std::vector<float>{choice.cutoff};
    const int first = choose_set ? 0 : choice.weight_set, last = choose_set ? contract.n_weight_sets - 1 : first;
    double least = std::numeric_limits<double>::infinity();
    for (int set = first; set <= last; ++set) {
        std::vector<double> risk(cutoffs.size());
        for (Sample& sample : samples) score(network, set, sample, cutoffs, risk);
        for (size_t c = 0; c < cutoffs.size(); ++c)
            if (risk[c] < least) {
                least = risk[c];
                choice.weight_set = set;
                choice.cutoff = cutoffs[c];
            }
    }
    return choice;
}

}  // namespace lowdose
