// The frame path: whatever is pushed, popped, flushed and reset in whatever order, with whatever options, the counts add up
// and nothing is touched that must not be. LOWDOSE_ONNXRUNTIME and LOWDOSE_FUZZ_MODEL name what runs.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "lowdose.h"

namespace {

// Takes values from the fuzzed bytes; 0 behind their end.
class Bytes {
public:
    Bytes(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}
    bool empty() const { return size_ == 0; }
    std::uint8_t byte() {
        if (empty()) return 0;
        --size_;
        return *data_++;
    }
    std::int32_t small(std::int32_t limit) { return byte() % limit; }

private:
    const std::uint8_t* data_;
    std::size_t size_;
};

void expect(bool condition) {
    if (!condition) std::abort();
}

lowdose_model* opened_model() {
    lowdose_engine_options options{};
    options.struct_bytes = sizeof options;
    options.runtime_path = std::getenv("LOWDOSE_ONNXRUNTIME");
    lowdose_engine* engine = nullptr;
    lowdose_model* model = nullptr;
    expect(lowdose_engine_create(&options, &engine, nullptr, 0) == LOWDOSE_OK);
    expect(lowdose_model_open(engine, std::getenv("LOWDOSE_FUZZ_MODEL"), nullptr, &model) == LOWDOSE_OK);
    lowdose_engine_destroy(engine);
    return model;
}

constexpr std::size_t sizes[] = {1, 1, 2, 2, 4, 4, 8, 8};  // of lowdose_dtype, and of numbers that are none

struct Buffer {
    std::vector<std::uint8_t> bytes;  // exactly as long as what is touched, so that a sanitizer sees one byte more
    std::ptrdiff_t stride = 0;
};

Buffer make_buffer(Bytes& in, std::int32_t height, std::int32_t width, std::int32_t dtype) {
    Buffer buffer;
    const auto row = static_cast<std::size_t>(width) * sizes[dtype];
    const auto gap = static_cast<std::size_t>(in.small(4));
    buffer.stride = gap == 0 ? 0 : static_cast<std::ptrdiff_t>(row + gap);
    const auto step = gap == 0 ? row : row + gap;
    buffer.bytes.assign(step * static_cast<std::size_t>(height - 1) + row, in.byte());
    for (int i = 0; i < 6 && !in.empty(); ++i) buffer.bytes[(in.byte() * 37u) % buffer.bytes.size()] = in.byte();
    return buffer;
}

void check_counts(const lowdose_stream* stream) {
    lowdose_statistics s{};
    s.struct_bytes = sizeof s;
    expect(lowdose_stream_statistics(stream, &s) == LOWDOSE_OK);
    expect(s.pushed == s.popped + s.dropped_full + s.dropped_late + s.dropped_results + s.refused + s.discarded +
                           s.in_flight);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static lowdose_model* model = opened_model();
    Bytes in(data, size);
    lowdose_stream_options options{};
    options.struct_bytes = sizeof options;
    options.height = in.small(40);
    options.width = in.small(40);
    options.dtype_in = in.small(8);
    options.dtype_out = in.small(8);
    options.threads = 1;
    options.tile_px = in.small(3) == 0 ? in.small(40) : 0;
    options.given = in.small(9);
    options.weight_set = in.small(4);
    options.cutoff = static_cast<float>(in.byte()) / 256;
    options.offset = static_cast<float>(in.byte());
    options.policy = in.small(4);
    options.queue_frames = in.small(3);
    options.deadline_ms = in.small(4) == 0 ? in.byte() : 0;
    const auto n_pixels = static_cast<std::size_t>(options.height) * static_cast<std::size_t>(options.width);
    std::vector<float> dark(n_pixels, static_cast<float>(in.small(3)));
    std::vector<std::uint8_t> bad(n_pixels);
    for (std::size_t i = 0; i < n_pixels; i += 1 + in.byte()) bad[i] = 1;
    const std::int32_t references = in.small(4);
    if (references & 1) options.dark = options.gain = dark.data();
    if (references & 2) options.bad_pixels = bad.data();
    lowdose_stream* stream = nullptr;
    if (lowdose_stream_open(model, &options, &stream) != LOWDOSE_OK) return 0;

    for (int step = 0; step < 24 && !in.empty(); ++step) {
        const std::int32_t action = in.small(9);
        if (action < 4) {
            const Buffer buffer = make_buffer(in, options.height, options.width, options.dtype_in);
            lowdose_frame frame{};
            frame.struct_bytes = sizeof frame;
            frame.data = buffer.bytes.data();
            frame.height = options.height + (in.byte() == 1);
            frame.width = options.width;
            frame.dtype = options.dtype_in;
            frame.row_stride_bytes = buffer.stride;
            // A queue that blocks would wait for ever in one thread: take results first.
            if (options.queue_frames == 0 || options.policy != LOWDOSE_BLOCK || step < options.queue_frames)
                lowdose_stream_push(stream, &frame);
        } else if (action < 6) {
            Buffer buffer = make_buffer(in, options.height, options.width, options.dtype_out);
            lowdose_result result{};
            result.struct_bytes = sizeof result;
            result.data = buffer.bytes.data();
            result.height = options.height;
            result.width = options.width;
            result.dtype = options.dtype_out;
            result.row_stride_bytes = buffer.stride;
            lowdose_stream_pop(stream, &result, in.small(2));
        } else if (action == 6) {
            lowdose_stream_flush(stream);
        } else if (action == 7) {
            lowdose_stream_reset(stream);
        } else {
            lowdose_replace_options next{};
            next.struct_bytes = sizeof next;
            next.given = in.small(4);
            next.weight_set = in.small(12);
            next.cutoff = static_cast<float>(in.byte()) / 256;
            lowdose_stream_replace(stream, model, &next);
        }
        check_counts(stream);
    }
    lowdose_stream_close(stream);
    return 0;
}
