// Out of memory at the allocations that the library makes, one after the other: a status, and everything works again.
// Arguments: folder of models, "all" for each allocation, else ever fewer of them.
#include <dlfcn.h>

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <new>
#include <vector>

#include "check.h"
#include "lowdose.hpp"
#include "seen.h"

namespace {

std::atomic<long> countdown{-1};  // allocations of lowdose until one fails; below 0: none does
std::atomic<bool> has_failed{false};
const void* library_base = nullptr;

bool must_fail(const void* caller) {
    Dl_info info;
    if (countdown.load() < 0 || !dladdr(caller, &info) || info.dli_fbase != library_base) return false;
    if (countdown.fetch_sub(1) != 0) return false;
    has_failed = true;
    return true;
}

}  // namespace

void* operator new(std::size_t n_bytes) {
    void* memory = must_fail(__builtin_return_address(0)) ? nullptr : std::malloc(n_bytes ? n_bytes : 1);
    if (!memory) throw std::bad_alloc();
    return memory;
}
void* operator new[](std::size_t n_bytes) {
    void* memory = must_fail(__builtin_return_address(0)) ? nullptr : std::malloc(n_bytes ? n_bytes : 1);
    if (!memory) throw std::bad_alloc();
    return memory;
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }

namespace {

constexpr int height = 20, width = 24;

struct Handles {
    lowdose_engine* engine = nullptr;
    lowdose_model* model = nullptr;
    lowdose_stream* stream = nullptr;
    ~Handles() {
        lowdose_stream_close(stream);
        lowdose_model_close(model);
        lowdose_engine_destroy(engine);
    }
};

// All steps up to the first that fails; its status.
lowdose_status all_steps(const char* runtime, const char* path, const std::vector<char>& bytes, int queue_frames) {
    Handles all;
    lowdose_engine_options engine_options = {sizeof engine_options, runtime, nullptr, nullptr};
    lowdose_status status = lowdose_engine_create(&engine_options, &all.engine, nullptr, 0);
    if (status < LOWDOSE_OK) return status;
    status = lowdose_model_open_memory(all.engine, bytes.data(), bytes.size(), nullptr, &all.model);
    if (status < LOWDOSE_OK) return status;
    lowdose_model_close(all.model);
    status = lowdose_model_open(all.engine, path, nullptr, &all.model);
    if (status < LOWDOSE_OK) return status;
    auto options = lowdose::stream_options<uint16_t>(height, width);
    options.queue_frames = queue_frames;
    options.threads = 1;
    status = lowdose_stream_open(all.model, &options, &all.stream);
    if (status < LOWDOSE_OK) return status;
    static uint16_t pixels[height * width];
    static float out[height * width];
    fill_frame(pixels, height, width, 1);
    const lowdose_frame frame = lowdose::frame(pixels, height, width);
    lowdose_result result = lowdose::result(out, height, width);
    for (int i = 0; i < 3; ++i) {
        status = lowdose_stream_push(all.stream, &frame);
        if (status < LOWDOSE_OK) return status;
        status = lowdose_stream_pop(all.stream, &result, queue_frames && i ? -1 : 0);
        if (status < LOWDOSE_OK) return status;
    }
    status = lowdose_stream_flush(all.stream);
    while (status == LOWDOSE_OK) status = lowdose_stream_pop(all.stream, &result, -1);
    return status;
}

// Each allocation of a single call fails once; then the call works. Returns how many there are.
template <class Call>
long fail_each(Call call) {
    for (long n = 0;; ++n) {
        has_failed = false;
        countdown = n;
        const lowdose_status status = call();
        countdown = -1;
        if (!has_failed) {
            CHECK_STATUS(status, LOWDOSE_OK);
            return n;
        }
        CHECK_STATUS(status, LOWDOSE_ERROR_MEMORY);
    }
}

// The calls on a stream that is open already.
void test_open_stream(const char* runtime, const char* path) {
    Handles all;
    all.engine = open_engine(runtime);
    CHECK_STATUS(lowdose_model_open(all.engine, path, nullptr, &all.model), LOWDOSE_OK);
    auto options = lowdose::stream_options<uint16_t>(height, width);
    options.threads = 1;
    CHECK_STATUS(lowdose_stream_open(all.model, &options, &all.stream), LOWDOSE_OK);
    lowdose_replace_options same = {sizeof same, LOWDOSE_GIVE_WEIGHT_SET | LOWDOSE_GIVE_CUTOFF, 0, 0.2f};
    lowdose_statistics statistics{};
    statistics.struct_bytes = sizeof statistics;
    static uint16_t pixels[height * width];
    static float out[2][height * width];
    fill_frame(pixels, height, width, 1);
    const lowdose_frame frame = lowdose::frame(pixels, height, width);
    const lowdose_frame frames[] = {frame, frame};
    lowdose_result results[] = {lowdose::result(out[0], height, width), lowdose::result(out[1], height, width)};
    CHECK(fail_each([&] { return lowdose_stream_replace(all.stream, all.model, &same); }) > 10);
    CHECK(fail_each([&] { return lowdose_stream_statistics(all.stream, &statistics); }) > 0);
    CHECK(fail_each([&] { return lowdose_stream_denoise(all.stream, 2, frames, results); }) > 0);
    CHECK(fail_each([&] { return lowdose_stream_reset(all.stream); }) == 0);
    CHECK(statistics.replaced == 0 && statistics.pushed == 0);
}

}  // namespace

int main(int argc, char** argv) {
    CHECK(argc > 1);
    const bool all = argc > 2 && strcmp(argv[2], "all") == 0;
    const char* runtime = runtime_path();
    const char* path = model_path(argv[1], "wcvd");
    std::ifstream file(path, std::ios::binary);
    const std::vector<char> bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    Dl_info info;
    CHECK(dladdr(reinterpret_cast<const void*>(&lowdose_version), &info));
    library_base = info.dli_fbase;
    test_open_stream(runtime, path);
    for (const int queue_frames : {0, 4}) {
        long n = 0, n_tried = 0;
        for (;; n += all ? 1 : 1 + n / 30, ++n_tried) {
            has_failed = false;
            countdown = n;
            const lowdose_status status = all_steps(runtime, path, bytes, queue_frames);
            const bool reached = has_failed;
            countdown = -1;
            if (!reached) {  // more than there are
                CHECK_STATUS(status, LOWDOSE_END);
                break;
            }
            if (status != LOWDOSE_ERROR_MEMORY && status != LOWDOSE_END)
                fprintf(stderr, "allocation %ld of the library: %s\n", n, lowdose_status_name(status));
            // What can be done without, such as another device's name, may also be gone without.
            CHECK(status == LOWDOSE_ERROR_MEMORY || status == LOWDOSE_END);
        }
        printf("queue of %d: %ld of up to %ld allocations failed once\n", queue_frames, n_tried, n);
        CHECK(n_tried > 50);
    }
}
