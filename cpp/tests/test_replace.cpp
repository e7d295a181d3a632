// Other weights for a running stream: bits before are the old model's, bits after the new one's, no frame is lost, and
// who does not fit is refused. The pushing thread never waits for a replacement.
#include <atomic>
#include <fstream>
#include <iterator>
#include <thread>
#include <vector>

#include "check.h"
#include "lowdose.hpp"

namespace {

constexpr int height = 36, width = 52;
using Image = std::vector<float>;

// A model and how it is applied.
struct Weights {
    const lowdose::Model& model;
    uint32_t given;
    int32_t weight_set;
    float cutoff;
};

constexpr uint32_t bank = LOWDOSE_GIVE_WEIGHT_SET | LOWDOSE_GIVE_CUTOFF;

void replace(lowdose::Stream& stream, const Weights& next) {
    stream.replace(next.model, next.given, next.weight_set, next.cutoff);
}

struct Case {
    Weights before, after;
    int n_frames, scan_y = 0, scan_x = 0, tile_px = 0;
};

lowdose::Stream open_stream(const Case& run, const Weights& weights, int queue_frames) {
    auto options = lowdose::stream_options<uint16_t>(height, width);
    options.queue_frames = queue_frames;
    options.threads = 1;
    options.scan_y = run.scan_y;
    options.scan_x = run.scan_x;
    options.tile_px = run.tile_px;
    options.given = weights.given | LOWDOSE_GIVE_OFFSET;
    options.weight_set = weights.weight_set;
    options.cutoff = weights.cutoff;
    options.offset = 1;
    return weights.model.open_stream(options);
}

struct Results {
    std::vector<Image> images;
    std::vector<uint64_t> n_replaced;

    // Takes what is there; the frames come in order, none is missing.
    lowdose_status take(lowdose::Stream& stream, double timeout_ms) {
        Image image(height * width);
        lowdose_result result = lowdose::result(image.data(), height, width);
        lowdose_status status = stream.pop(result, timeout_ms);
        for (; status == LOWDOSE_OK; status = stream.pop(result, timeout_ms)) {
            CHECK(result.sequence == images.size() && result.n_dropped == 0);
            images.push_back(image);
            n_replaced.push_back(result.n_replaced);
        }
        return status;
    }
};

void push(lowdose::Stream& stream, int i) {
    std::vector<uint16_t> pixels(height * width);
    fill_frame(pixels.data(), height, width, static_cast<uint32_t>(i));
    CHECK(stream.push(lowdose::frame(pixels.data(), height, width, static_cast<uint64_t>(i))));
}

void push_all(lowdose::Stream& stream, int from, int to, Results& results) {
    for (int i = from; i < to; ++i) {
        push(stream, i);
        results.take(stream, 0);
    }
}

void finish(lowdose::Stream& stream, Results& results) {
    stream.flush();
    CHECK(results.take(stream, -1) == LOWDOSE_END);
}

std::vector<Image> alone(const Case& run, const Weights& weights) {
    lowdose::Stream stream = open_stream(run, weights, 0);
    Results results;
    push_all(stream, 0, run.n_frames, results);
    finish(stream, results);
    CHECK(results.images.size() == static_cast<size_t>(run.n_frames));
    return results.images;
}

// At every frame of a sequence, also between the results of the flush; without a queue it is known which is the first.
void test_bits(const Case& run) {
    const std::vector<Image> old_bits = alone(run, run.before), new_bits = alone(run, run.after);
    for (int i = 0; i < run.n_frames; ++i) CHECK(old_bits[static_cast<size_t>(i)] != new_bits[static_cast<size_t>(i)]);
    const int latency = open_stream(run, run.before, 0).info().latency_frames;
    for (int at = 0; at <= run.n_frames; at += 1 + run.n_frames / 7) {
        lowdose::Stream stream = open_stream(run, run.before, 0);
        Results results;
        push_all(stream, 0, at, results);
        replace(stream, run.after);
        CHECK(stream.statistics().replaced == 0);
        push_all(stream, at, run.n_frames, results);
        finish(stream, results);
        const auto first = static_cast<size_t>(std::max(0, at - latency));
        CHECK(results.images.size() == old_bits.size());
        for (size_t i = 0; i < results.images.size(); ++i) {
            CHECK(results.n_replaced[i] == (i < first ? 0u : 1u));
            CHECK(results.images[i] == (i < first ? old_bits : new_bits)[i]);
        }
        CHECK(stream.statistics().replaced == 1 && stream.statistics().popped == old_bits.size());
    }
}

// Back and forth in one thread while another pushes and a third pops: whatever a result was computed with, its bits are
// that model's.
void test_threads(const Case& run, int n_replacements) {
    const std::vector<Image> old_bits = alone(run, run.before), new_bits = alone(run, run.after);
    lowdose::Stream stream = open_stream(run, run.before, 3);
    Results results;
    std::atomic<bool> stop{false};
    std::atomic<int> n_given{0};
    std::thread consumer([&] { CHECK(results.take(stream, -1) == LOWDOSE_END); });
    std::thread questions([&] {
        while (!stop) CHECK(stream.info().n_tiles >= 1 && stream.statistics().replaced <= 1000);
    });
    std::thread exchange([&] {
        for (int i = 0; i < n_replacements; ++i) {
            replace(stream, i % 2 ? run.before : run.after);
            ++n_given;
            const auto n_taken = static_cast<uint64_t>(i + 1);  // else the next one takes its place
            while (stream.statistics().replaced < n_taken) std::this_thread::yield();
        }
    });
    // So that all are taken: at each mark the next one has been given.
    const int n_frames = static_cast<int>(old_bits.size()), step = n_frames / (n_replacements + 2);
    for (int i = 0; i < n_frames; ++i) {
        while (n_given < std::min(n_replacements, i / step)) std::this_thread::yield();
        push(stream, i);
    }
    stream.flush();
    consumer.join();
    stop = true;
    exchange.join();
    questions.join();
    CHECK(results.images.size() == old_bits.size());
    for (size_t i = 0; i < results.images.size(); ++i)
        CHECK(results.images[i] == (results.n_replaced[i] % 2 ? new_bits : old_bits)[i]);
    const lowdose_statistics s = stream.statistics();
    CHECK(s.pushed == old_bits.size() && s.popped == s.pushed);
    CHECK(s.replaced == static_cast<uint64_t>(n_replacements) && s.replaced == results.n_replaced.back());
}

void refuse(lowdose::Stream& stream, const Weights& next, lowdose_status status, const char* word) {
    try {
        replace(stream, next);
    } catch (const lowdose::Error& error) {
        if (error.status() != status || !strstr(error.what(), word)) fprintf(stderr, "%s\n", error.what());
        CHECK(error.status() == status && strstr(error.what(), word));
        return;
    }
    CHECK(!"it was refused");
}

// Who does not fit is refused, and the stream does not notice.
void test_refusals(const lowdose::Engine& engine, const char* folder, const Case& run) {
    const auto open = [&](const char* name) { return engine.open_model(model_path(folder, name)); };
    const lowdose::Model image = open("wcid"), scan = open("udvd-4d-lite"), states = open("udvd-lite");
    const lowdose::Model two_channels = open("n2v-lite-dual"), normalised = open("n2v-lite");
    const std::vector<Image> expected = alone(run, run.before);
    lowdose::Stream stream = open_stream(run, run.before, 0);
    Results results;
    push_all(stream, 0, 3, results);
    const lowdose::Model& bank_model = run.before.model;
    refuse(stream, {image, bank, 0, 1}, LOWDOSE_ERROR_ARGUMENT, "taps 0");
    refuse(stream, {scan, 0, 0, 0}, LOWDOSE_ERROR_ARGUMENT, "over the scan");
    refuse(stream, {states, 0, 0, 0}, LOWDOSE_ERROR_ARGUMENT, "taps 0, 1, 2");
    refuse(stream, {bank_model, 0, 0, 0}, LOWDOSE_ERROR_ARGUMENT, "weight sets");
    refuse(stream, {bank_model, LOWDOSE_GIVE_WEIGHT_SET, 0, 0}, LOWDOSE_ERROR_ARGUMENT, "cutoff");
    refuse(stream, {bank_model, bank, 99, 1}, LOWDOSE_ERROR_ARGUMENT, "weight set 99");
    refuse(stream, {bank_model, bank, 0, -1}, LOWDOSE_ERROR_ARGUMENT, "cutoff");
    refuse(stream, {bank_model, bank | LOWDOSE_GIVE_OFFSET, 0, 1}, LOWDOSE_ERROR_ARGUMENT, "given");
    push_all(stream, 3, run.n_frames, results);
    finish(stream, results);
    CHECK(results.images == expected && stream.statistics().replaced == 0);

    const auto refuse_for = [&](const Weights& now, const lowdose::Model& next, const char* word) {
        lowdose::Stream other = open_stream({now, now, 1}, now, 0);
        refuse(other, {next, next.info().has_low_pass ? bank : 0, 0, 1}, LOWDOSE_ERROR_ARGUMENT, word);
    };
    refuse_for({image, bank, 0, 1}, two_channels, "2 channels");
    refuse_for({image, bank, 0, 1}, normalised, "rule");
    refuse_for({normalised, 0, 0, 0}, image, "rule");
}

// A reset begins another scene with the weights that took over; of two that came between two frames the second counts.
void test_reset(const Case& run) {
    const std::vector<Image> expected = alone(run, run.after);
    lowdose::Stream stream = open_stream(run, run.before, 0);
    Results forgotten, results;
    push_all(stream, 0, 3, forgotten);
    replace(stream, run.before);
    replace(stream, run.after);
    push_all(stream, 3, 4, forgotten);
    CHECK(forgotten.n_replaced.back() == 1);
    stream.reset();
    push_all(stream, 0, run.n_frames, results);
    finish(stream, results);
    CHECK(results.images == expected);
    if (run.after.given) CHECK(stream.info().cutoff == run.after.cutoff);
    CHECK(stream.statistics().replaced == 1);
}

// The settings of the stream were left open, and no result was due yet: the offset is chosen, the rest was given.
void test_before_the_choice(const Case& run) {
    auto options = lowdose::stream_options<uint16_t>(height, width);
    options.threads = 1;
    options.given = run.after.given;
    options.weight_set = run.after.weight_set;
    options.cutoff = run.after.cutoff;
    lowdose::Stream expected = run.after.model.open_stream(options);
    options.given = 0;
    lowdose::Stream stream = run.before.model.open_stream(options);
    Results wanted, results;
    push_all(expected, 0, run.n_frames, wanted);
    finish(expected, wanted);
    push_all(stream, 0, 1, results);
    replace(stream, run.after);
    push_all(stream, 1, run.n_frames, results);
    finish(stream, results);
    CHECK(results.images == wanted.images && stream.info().offset == expected.info().offset);
}

// The same network with a bit of one weight changed.
lowdose::Model changed(const lowdose::Engine& engine, const char* path) {
    std::ifstream file(path, std::ios::binary);
    std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    CHECK(!bytes.empty());
    bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 0x10);
    return engine.open_model(bytes.data(), bytes.size());
}

}  // namespace

int main(int argc, char** argv) {
    CHECK(argc > 1);
    const lowdose::Engine engine(runtime_path());
    const char* folder = argv[1];
    const lowdose::Model wcvd = engine.open_model(model_path(folder, "wcvd"));
    const lowdose::Model wcvd_again = engine.open_model(model_path(folder, "wcvd"));
    Case movie{{wcvd, bank, 0, 0.2f}, {wcvd_again, bank, 5, 0.3f}, 12};
    test_bits(movie);
    movie.tile_px = 24;
    test_bits(movie);
    movie.tile_px = 0;
    test_refusals(engine, folder, movie);
    test_reset(movie);
    test_before_the_choice(movie);
    movie.n_frames = 150;
    test_threads(movie, 8);

    const lowdose::Model udvd = engine.open_model(model_path(folder, "udvd-lite"));
    const lowdose::Model udvd_changed = changed(engine, model_path(folder, "udvd-lite"));
    const Case with_states{{udvd, 0, 0, 0}, {udvd_changed, 0, 0, 0}, 7};
    test_bits(with_states);
    test_reset(with_states);

    const lowdose::Model scan = engine.open_model(model_path(folder, "udvd-4d-lite"));
    const lowdose::Model scan_changed = changed(engine, model_path(folder, "udvd-4d-lite"));
    test_bits({{scan, 0, 0, 0}, {scan_changed, 0, 0, 0}, 12, 4, 3});
}
