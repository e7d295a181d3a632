// Streams in several threads give the bits that each gives alone, of one model and of two, while others ask questions.
// A host's floating-point mode stays as it is.
#include <atomic>
#include <cfenv>
#include <thread>
#include <vector>

#include "check.h"
#include "lowdose.hpp"

namespace {

constexpr int height = 48, width = 64, n_frames = 12;

#ifdef __SANITIZE_THREAD__
constexpr int most_threads = 1;  // it cannot see how ONNX Runtime's own threads wait for each other
#else
constexpr int most_threads = 2;
#endif

std::vector<float> denoised(const lowdose::Model& model, uint32_t seed, int queue_frames, int threads) {
    auto options = lowdose::stream_options<uint16_t>(height, width);
    options.queue_frames = queue_frames;
    options.threads = threads;
    lowdose::Stream stream = model.open_stream(options);
    std::vector<float> all;
    std::vector<float> out(height * width);
    lowdose_result result = lowdose::result(out.data(), height, width);
    std::vector<uint16_t> pixels(height * width);
    const auto take = [&](double timeout_ms) {
        while (stream.pop(result, timeout_ms) == LOWDOSE_OK) all.insert(all.end(), out.begin(), out.end());
    };
    for (uint32_t i = 0; i < n_frames; ++i) {
        fill_frame(pixels.data(), height, width, seed + i);
        CHECK(stream.push(lowdose::frame(pixels.data(), height, width, i)));
        take(0);
    }
    stream.flush();
    take(-1);
    CHECK(all.size() == out.size() * n_frames);
    return all;
}

void test_bits(const lowdose::Model& first, const lowdose::Model& second) {
    std::vector<std::vector<float>> alone;
    for (uint32_t i = 0; i < 4; ++i) alone.push_back(denoised(i % 2 ? second : first, i, 0, 1));
    for (const int queue_frames : {0, 3}) {
        std::vector<std::vector<float>> together(4);
        std::vector<std::thread> threads;
        for (uint32_t i = 0; i < 4; ++i)
            threads.emplace_back([&, i] {
                const int n_threads = i < 2 ? 1 : most_threads;  // their number must not show either
                together[i] = denoised(i % 2 ? second : first, i, queue_frames, n_threads);
            });
        for (std::thread& thread : threads) thread.join();
        CHECK(together == alone);
    }
}

// Everything that may be called at the same time is.
void test_questions(const lowdose::Engine& engine, const lowdose::Model& model) {
    auto options = lowdose::stream_options<uint16_t>(height, width);
    options.queue_frames = 2;
    options.threads = 1;
    options.policy = LOWDOSE_DROP_OLDEST;
    lowdose::Stream stream = model.open_stream(options);
    std::atomic<bool> stop{false};
    std::vector<std::thread> threads;
    threads.emplace_back([&] {
        std::vector<uint16_t> pixels(height * width);
        fill_frame(pixels.data(), height, width, 1);
        for (uint32_t i = 0; i < 200; ++i) stream.push(lowdose::frame(pixels.data(), height, width, i));
        stop = true;
    });
    threads.emplace_back([&] {
        std::vector<float> out(height * width);
        lowdose_result result = lowdose::result(out.data(), height, width);
        while (!stop) stream.pop(result, 1);
    });
    threads.emplace_back([&] {
        char message[64];
        while (!stop) {
            const lowdose_statistics s = stream.statistics();
            CHECK(s.pushed == s.popped + s.dropped_full + s.dropped_late + s.dropped_results + s.refused + s.discarded +
                                  s.in_flight);
            CHECK(stream.info().n_channels == 1 && model.info().n_taps == 3 && !engine.devices().empty());
            CHECK(lowdose_model_open(engine.get(), "none", nullptr, nullptr) == LOWDOSE_ERROR_NULL);
            CHECK(lowdose_stream_push(stream.get(), nullptr) == LOWDOSE_ERROR_NULL);
            CHECK(lowdose_stream_message(stream.get(), message, sizeof message) == LOWDOSE_OK);
        }
    });
    threads.emplace_back([&] {
        while (!stop) {
            stream.reset();
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
        }
    });
    for (std::thread& thread : threads) thread.join();
}

}  // namespace

int main(int argc, char** argv) {
    CHECK(argc > 1);
    const lowdose::Engine engine(runtime_path());
    const std::string path = model_path(argv[1], "wcvd");
    const lowdose::Model first = engine.open_model(path), second = engine.open_model(path);
    volatile float least = 1e-38f;
    CHECK(least * 0.01f > 0);  // denormal numbers are still there
    test_bits(first, second);
    test_questions(engine, first);
    CHECK(least * 0.01f > 0);
    CHECK(std::fegetround() == FE_TONEAREST);
}
