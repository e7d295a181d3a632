#include "fft.hpp"

#include <algorithm>

#include "fft_block.hpp"
#include "transpose.hpp"

namespace lowdose {

namespace {

constexpr size_t block = FftBlock::width;

// A spectrum in memory that others keep.
struct SpectrumView {
    int height, width, n_columns;
    size_t step;  // from column to column
    ops::InstructionSet set;
    float *re, *im;
};

constexpr auto one_by_one = [](size_t n, FunctionRef<void(size_t)> task) {
    for (size_t i = 0; i < n; ++i) task(i);
};

// lines[x * block + y] = from[y * from_step + x] - level for y < n_lines <= block.
void gather(const float* from, size_t from_step, size_t n_lines, size_t length, float level, float* lines) {
    transpose(from, from_step, n_lines, length, 1.0f, -level, lines, block);
}

// The way back, scale * lines + level.
void scatter(const float* lines, size_t n_lines, size_t length, float scale, float level, float* to, size_t to_step) {
    transpose(lines, block, length, n_lines, scale, level, to, to_step);
}

// Two real rows share one complex transform: z = a + i b, A[k] = (Z[k] + conj Z[-k]) / 2, B[k] = (Z[k] - conj Z[-k]) /
// 2i. A group holds sixteen rows as a and the next sixteen as b.
size_t n_groups(int height) { return (static_cast<size_t>(height) + 2 * block - 1) / (2 * block); }

void forward_group(const float* frame, float level, size_t group, const SpectrumView& spectrum) {
    const auto h = static_cast<size_t>(spectrum.height), w = static_cast<size_t>(spectrum.width);
    const size_t y = group * 2 * block, n_a = std::min(block, h - y), n_b = std::min(block, h - y - n_a);
    const auto lease = fft_block_of(spectrum.width, spectrum.set);
    FftBlock& rows = *lease;
    if (n_b < block) rows.clear(0, w);
    gather(frame + y * w, w, n_a, w, level, rows.re.data());
    gather(frame + (y + n_a) * w, w, n_b, w, level, rows.im.data());
    rows.run(-1);
    for (size_t k = 0; k < static_cast<size_t>(spectrum.n_columns); ++k) {
        const float *re = &rows.re[k * block], *im = &rows.im[k * block];
        const float *mirrored_re = &rows.re[(w - k) % w * block], *mirrored_im = &rows.im[(w - k) % w * block];
        float *a_re = spectrum.re + k * spectrum.step + y, *a_im = spectrum.im + k * spectrum.step + y;
        for (size_t j = 0; j < n_a; ++j) {
            a_re[j] = 0.5f * (re[j] + mirrored_re[j]);
            a_im[j] = 0.5f * (im[j] - mirrored_im[j]);
        }
        for (size_t j = 0; j < n_b; ++j) {
            a_re[n_a + j] = 0.5f * (im[j] + mirrored_im[j]);
            a_im[n_a + j] = 0.5f * (mirrored_re[j] - re[j]);
        }
    }
}

// The inverse of forward_group where the columns that are not in the spectrum are zero.
void backward_group(const SpectrumView& spectrum, size_t group, float scale, float level, float* out) {
    const auto h = static_cast<size_t>(spectrum.height), w = static_cast<size_t>(spectrum.width);
    const size_t y = group * 2 * block, n_a = std::min(block, h - y), n_b = std::min(block, h - y - n_a);
    const auto lease = fft_block_of(spectrum.width, spectrum.set);
    FftBlock& rows = *lease;
    const auto n_kept = static_cast<size_t>(spectrum.n_columns);
    rows.clear(n_kept, w > n_kept ? w - n_kept + 1 : w);  // the columns that are not in the spectrum
    for (size_t k = 0; k < n_kept; ++k) {
        float *re = &rows.re[k * block], *im = &rows.im[k * block];
        float *mirrored_re = &rows.re[(w - k) % w * block], *mirrored_im = &rows.im[(w - k) % w * block];
        const bool alone = mirrored_re == re;  // its own mirror image
        const float *a_re = spectrum.re + k * spectrum.step + y, *a_im = spectrum.im + k * spectrum.step + y;
        for (size_t j = 0; j < n_a; ++j) {
            const float b_re = j < n_b ? a_re[n_a + j] : 0.0f, b_im = j < n_b ? a_im[n_a + j] : 0.0f;
            re[j] = a_re[j] - b_im;
            im[j] = a_im[j] + b_re;
            if (alone) continue;
            mirrored_re[j] = a_re[j] + b_im;
            mirrored_im[j] = b_re - a_im[j];
        }
    }
    rows.run(+1);
    scatter(rows.re.data(), n_a, w, scale, level, out + y * w, w);
    scatter(rows.im.data(), n_b, w, scale, level, out + (y + n_a) * w, w);
}

size_t columns_in_block(const SpectrumView& spectrum, size_t first) {
    return std::min(block, static_cast<size_t>(spectrum.n_columns) - first);
}

// Calls work(columns, used) with the sixteen columns from `first` on and puts what it leaves back.
template <class Work>
void with_columns(const SpectrumView& spectrum, size_t first, Work work) {
    const auto h = static_cast<size_t>(spectrum.height);
    const size_t used = columns_in_block(spectrum, first);
    float *re = spectrum.re + first * spectrum.step, *im = spectrum.im + first * spectrum.step;
    const auto lease = fft_block_of(spectrum.height, spectrum.set);
    FftBlock& columns = *lease;
    gather(re, spectrum.step, used, h, 0.0f, columns.re.data());
    gather(im, spectrum.step, used, h, 0.0f, columns.im.data());
    work(columns, used);
    scatter(columns.re.data(), used, h, 1.0f, 0.0f, re, spectrum.step);
    scatter(columns.im.data(), used, h, 1.0f, 0.0f, im, spectrum.step);
}

size_t n_column_blocks(int n_columns) { return (static_cast<size_t>(n_columns) + block - 1) / block; }

// Scratch memory of a spectrum; it only grows.
struct SpectrumMemory {
    std::vector<float> re, im;

    // A spectrum of any content.
    SpectrumView view(int height, int width, int n_columns, ops::InstructionSet set) {
        const size_t step = static_cast<size_t>(height) + block;
        const size_t size = step * static_cast<size_t>(n_columns);
        if (re.size() < size) re.resize(size);
        if (im.size() < size) im.resize(size);
        return {height, width, n_columns, step, set, re.data(), im.data()};
    }
};

Spares<SpectrumMemory>& spectrum_memory() {
    static Spares<SpectrumMemory> spares;
    return spares;
}

}  // namespace

Spectrum forward_transform(const float* frame, int height, int width, int n_columns, ops::InstructionSet set) {
    const size_t size = static_cast<size_t>(height) * static_cast<size_t>(n_columns);
    Spectrum spectrum{height, width, n_columns, set, std::vector<float>(size), std::vector<float>(size)};
    const SpectrumView view{
        height, width, n_columns, static_cast<size_t>(height), set, spectrum.re.data(), spectrum.im.data()};
    for (size_t group = 0; group < n_groups(height); ++group) forward_group(frame, 0.0f, group, view);
    for (size_t i = 0; i < n_column_blocks(n_columns); ++i)
        with_columns(view, i * block, [](FftBlock& columns, size_t) { columns.run(-1); });
    return spectrum;
}

size_t n_blocked_coefficients(int height, int width) {
    return n_column_blocks(width / 2 + 1) * block * static_cast<size_t>(height);
}

void forward_transform_blocked(const float* frame, int height, int width, ops::InstructionSet set, float* re,
                               float* im) {
    const auto memory = spectrum_memory().take();
    const SpectrumView rows = memory->view(height, width, width / 2 + 1, set);
    const size_t h = static_cast<size_t>(height), n = h * block;
    for (size_t group = 0; group < n_groups(height); ++group) forward_group(frame, 0.0f, group, rows);
    const auto lease = fft_block_of(height, set);
    FftBlock& columns = *lease;
    for (size_t i = 0; i < n_column_blocks(rows.n_columns); ++i) {
        const size_t used = columns_in_block(rows, i * block), from = i * block * rows.step;
        if (used < block) columns.clear(0, h);
        gather(rows.re + from, rows.step, used, h, 0.0f, columns.re.data());
        gather(rows.im + from, rows.step, used, h, 0.0f, columns.im.data());
        columns.run(-1);
        std::copy_n(columns.re.data(), n, re + i * n);
        std::copy_n(columns.im.data(), n, im + i * n);
    }
}

void backward_transform_blocked(FunctionRef<void(size_t first, size_t n, float* re, float* im)> fill, int height,
                                int width, ops::InstructionSet set, float* out) {
    const auto memory = spectrum_memory().take();
    const SpectrumView rows = memory->view(height, width, width / 2 + 1, set);
    const size_t h = static_cast<size_t>(height), n = h * block;
    const auto lease = fft_block_of(height, set);
    FftBlock& columns = *lease;
    for (size_t i = 0; i < n_column_blocks(rows.n_columns); ++i) {
        const size_t used = columns_in_block(rows, i * block), to = i * block * rows.step;
        fill(i * n, n, columns.re.data(), columns.im.data());
        columns.run(+1);
        scatter(columns.re.data(), used, h, 1.0f, 0.0f, rows.re + to, rows.step);
        scatter(columns.im.data(), used, h, 1.0f, 0.0f, rows.im + to, rows.step);
    }
    const float scale = 1.0f / (static_cast<float>(height) * static_cast<float>(width));
    for (size_t group = 0; group < n_groups(height); ++group) backward_group(rows, group, scale, 0.0f, out);
}

void keep_frequencies(const float* frame, int height, int width, int n_columns, float level,
                      FunctionRef<int(int)> reach, ops::InstructionSet set, Parallel parallel, float* out) {
    const Parallel share = parallel ? parallel : Parallel(one_by_one);
    const auto memory = spectrum_memory().take();
    const SpectrumView spectrum = memory->view(height, width, n_columns, set);
    const auto h = static_cast<size_t>(height);
    share(n_groups(height), [&](size_t group) { forward_group(frame, level, group, spectrum); });
    share(n_column_blocks(n_columns), [&](size_t i) {
        with_columns(spectrum, i * block, [&](FftBlock& columns, size_t used) {
            columns.run(-1);
            for (size_t j = 0; j < used; ++j) {
                const int kept = reach(static_cast<int>(i * block + j)) + 1;  // from zero upwards; downwards one less
                const size_t up = std::min(h, static_cast<size_t>(std::max(kept, 0)));
                const size_t down = std::min(h - up, static_cast<size_t>(std::max(kept - 1, 0)));
                for (size_t k = up; k < h - down; ++k) columns.re[k * block + j] = columns.im[k * block + j] = 0.0f;
            }
            columns.run(+1);
        });
    });
    const float scale = 1.0f / (static_cast<float>(height) * static_cast<float>(width));
    share(n_groups(height), [&](size_t group) { backward_group(spectrum, group, scale, level, out); });
}

}  // namespace lowdose
