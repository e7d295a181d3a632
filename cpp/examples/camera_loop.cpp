// A camera at a fixed rate, a thread that shows what comes out: the loop of acquisition software.
//
//     camera_loop RUNTIME MODEL [SECONDS [FRAMES_PER_SECOND [SIZE [POLICY [STALL_MS]]]]]
//
// POLICY is block, drop-oldest or newest-wins. STALL_MS stops the consumer once, in the middle. Prints latencies and
// counts, and fails when the counts do not add up.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "lowdose.hpp"

using Clock = std::chrono::steady_clock;

namespace {

struct Settings {
    double seconds = 5, rate = 100, stall_ms = 0;
    int size = 512;
    std::string policy = "block";
};

// Counts of a few electrons: four frames, shown again and again.
std::vector<std::vector<std::uint16_t>> make_frames(int size) {
    std::vector<std::vector<std::uint16_t>> frames(4);
    std::uint32_t state = 1;
    for (auto& frame : frames)
        for (int i = 0; i < size * size; ++i) {
            state = state * 1664525u + 1013904223u;
            frame.push_back(static_cast<std::uint16_t>((state >> 28) + (state >> 20) % 8));
        }
    return frames;
}

// The camera: a frame every 1/rate seconds, whether anybody takes it or not.
void produce(lowdose::Stream& stream, const Settings& settings, std::int64_t n_frames) {
    const auto frames = make_frames(settings.size);
    const auto begin = Clock::now();
    for (std::int64_t i = 0; i < n_frames; ++i) {
        std::this_thread::sleep_until(begin + std::chrono::duration_cast<Clock::duration>(
                                                  std::chrono::duration<double>(static_cast<double>(i) / settings.rate)));
        const auto timestamp = std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - begin).count();
        const auto& pixels = frames[static_cast<std::size_t>(i) % frames.size()];
        stream.push(lowdose::frame(pixels.data(), settings.size, settings.size, static_cast<std::uint64_t>(i), timestamp));
    }
    stream.flush();
}

// The display.
std::uint64_t consume(lowdose::Stream& stream, const Settings& settings, std::int64_t n_frames) {
    std::vector<float> image(static_cast<std::size_t>(settings.size) * static_cast<std::size_t>(settings.size));
    lowdose_result result = lowdose::result(image.data(), settings.size, settings.size);
    std::uint64_t n_reported = 0;
    bool stalled = settings.stall_ms <= 0;
    while (stream.pop(result, -1) == LOWDOSE_OK) {
        n_reported += result.n_dropped;
        if (!stalled && result.sequence >= static_cast<std::uint64_t>(n_frames / 2)) {
            stalled = true;
            std::this_thread::sleep_for(std::chrono::duration<double, std::milli>(settings.stall_ms));
        }
    }
    return n_reported;
}

void print(const char* name, const lowdose_latency& latency) {
    std::printf("%-8s %7llu  p50 %8.2f  p95 %8.2f  p99 %8.2f  max %8.2f ms\n", name,
                static_cast<unsigned long long>(latency.count), latency.p50_ms, latency.p95_ms, latency.p99_ms,
                latency.max_ms);
}

int run(const std::string& runtime, const std::string& model_path, const Settings& settings) {
    const lowdose::Engine engine(runtime);
    const lowdose::Model model = engine.open_model(model_path);
    auto options = lowdose::stream_options<std::uint16_t>(settings.size, settings.size);
    options.given = LOWDOSE_GIVE_WEIGHT_SET | LOWDOSE_GIVE_CUTOFF | LOWDOSE_GIVE_OFFSET;  // nothing is left to choose
    options.cutoff = 1.0f / 7;
    options.queue_frames = 8;
    options.policy = settings.policy == "drop-oldest"   ? LOWDOSE_DROP_OLDEST
                     : settings.policy == "newest-wins" ? LOWDOSE_NEWEST_WINS
                                                        : LOWDOSE_BLOCK;
    lowdose::Stream stream = model.open_stream(options);
    const auto n_frames = static_cast<std::int64_t>(settings.seconds * settings.rate);

    const auto begin = Clock::now();
    std::uint64_t n_reported = 0;
    std::thread consumer([&] { n_reported = consume(stream, settings, n_frames); });
    produce(stream, settings, n_frames);
    consumer.join();
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();

    const lowdose_statistics s = stream.statistics();
    const std::uint64_t n_dropped = s.dropped_full + s.dropped_late + s.dropped_results;
    std::printf("%s on %s, %dx%d uint16, %s: %llu frames in %.2f s, %llu out, %llu dropped\n", model.info().method,
                model.info().device, settings.size, settings.size, settings.policy.c_str(),
                static_cast<unsigned long long>(s.pushed), seconds, static_cast<unsigned long long>(s.popped),
                static_cast<unsigned long long>(n_dropped));
    print("wait", s.wait);
    print("convert", s.convert);
    print("network", s.network);
    print("output", s.output);
    print("total", s.total);
    print("age", s.age);
    const bool adds_up = s.pushed == static_cast<std::uint64_t>(n_frames) && s.pushed == s.popped + n_dropped &&
                         n_reported == n_dropped && (settings.policy != "block" || n_dropped == 0);
    if (!adds_up) std::printf("the counts do not add up\n");
    return adds_up ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 3) {
        std::fprintf(stderr, "usage: camera_loop RUNTIME MODEL [SECONDS [FRAMES_PER_SECOND [SIZE [POLICY [STALL_MS]]]]]\n");
        return 2;
    }
    Settings settings;
    if (argc > 3) settings.seconds = std::atof(argv[3]);
    if (argc > 4) settings.rate = std::atof(argv[4]);
    if (argc > 5) settings.size = std::atoi(argv[5]);
    if (argc > 6) settings.policy = argv[6];
    if (argc > 7) settings.stall_ms = std::atof(argv[7]);
    try {
        return run(argv[1], argv[2], settings);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
}
