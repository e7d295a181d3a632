// lowdose.hpp: what comes out is what the C functions give; errors are exceptions; handles and callbacks live as long
// as they are needed.
#include <utility>

#include "check.h"
#include "lowdose.hpp"

namespace {

constexpr int height = 32, width = 40, n_frames = 4;

template <class Call>
lowdose::Error error_of(Call call) {
    try {
        call();
    } catch (const lowdose::Error& error) {
        return error;
    }
    fprintf(stderr, "no error was thrown\n");
    exit(1);
}

void test_errors(const lowdose::Engine& engine, const lowdose::Model& model) {
    CHECK(error_of([] { lowdose::Engine("no such library"); }).status() == LOWDOSE_ERROR_RUNTIME);
    const lowdose::Error missing = error_of([&] { engine.open_model("no such file"); });
    CHECK(missing.status() == LOWDOSE_ERROR_MODEL && strstr(missing.what(), "no such file"));
    CHECK(error_of([&] { engine.open_model("x", 1); }).status() == LOWDOSE_ERROR_MODEL);
    CHECK(error_of([&] { model.open_stream(lowdose::stream_options<float>(1, 1)); }).status() == LOWDOSE_ERROR_SIZE);
    const auto options = lowdose::stream_options<float>(height, width);
    const auto cancelled = [&](auto progress) {
        return error_of([&] { model.open_stream(options, progress); }).status() == LOWDOSE_ERROR_CANCELLED;
    };
    CHECK(cancelled([](const char*, double) { return false; }));
    CHECK(cancelled([](const char*, double) -> bool { throw 1; }));
    lowdose::Stream stream = model.open_stream(options);
    const std::vector<float> wrong(4);
    CHECK(error_of([&] { stream.push(lowdose::frame(wrong.data(), 2, 2)); }).status() == LOWDOSE_ERROR_SIZE);
    std::vector<lowdose_result> none;
    CHECK(error_of([&] { stream.denoise({lowdose::frame(wrong.data(), 2, 2)}, none); }).status() == LOWDOSE_ERROR_SIZE);
}

void test_frames(lowdose::Stream stream, lowdose::Stream queued) {  // both moved in
    std::vector<std::vector<uint16_t>> raw(n_frames, std::vector<uint16_t>(height * width));
    std::vector<std::vector<float>> expected(n_frames, std::vector<float>(height * width));
    std::vector<lowdose_frame> frames;
    std::vector<lowdose_result> results;
    for (size_t i = 0; i < n_frames; ++i) {
        fill_frame(raw[i].data(), height, width, static_cast<uint32_t>(i));
        frames.push_back(lowdose::frame(raw[i].data(), height, width, i, -5));
        results.push_back(lowdose::result(expected[i].data(), height, width));
    }
    stream.denoise(frames, results);
    CHECK(stream.statistics().popped == n_frames);

    for (const lowdose_frame& frame : frames) CHECK(queued.push(frame));
    queued.flush();
    std::vector<float> out(height * width);
    lowdose_result result = lowdose::result(out.data(), height, width);
    for (size_t i = 0; i < n_frames; ++i) {
        CHECK(queued.pop(result, -1) == LOWDOSE_OK);
        CHECK(result.sequence == i && result.timestamp == -5 && out == expected[i]);
    }
    CHECK(queued.pop(result, -1) == LOWDOSE_END);
    queued.reset();
    CHECK(queued.info().latency_frames == 1 && queued.pop(result) == LOWDOSE_NONE);
}

}  // namespace

int main(int argc, char** argv) {
    CHECK(argc > 1);
    const char* runtime = runtime_path();
    const std::string path = model_path(argv[1], "wcvd");
    int n_logged = 0;
    auto engine = std::make_unique<lowdose::Engine>(runtime, [&](lowdose_log_level, const char*) {
        ++n_logged;
        throw 1;
    });
    CHECK(n_logged > 0 && engine->devices().back() == "cpu" && engine->runtime_version().rfind("1.", 0) == 0);
    lowdose::Model model = engine->open_model(path);
    CHECK(model.taps().size() == 3 && model.taps()[2].dx == 1 && std::string(model.info().method) == "wcvd");
    test_errors(*engine, model);
    engine.reset();  // the model keeps what it needs, the callback too
    auto options = lowdose::stream_options<uint16_t>(height, width);
    options.given = LOWDOSE_GIVE_CUTOFF | LOWDOSE_GIVE_WEIGHT_SET | LOWDOSE_GIVE_OFFSET;
    options.cutoff = 0.2f;
    lowdose::Stream stream = model.open_stream(options);
    options.queue_frames = n_frames;
    lowdose::Stream queued = model.open_stream(options);
    { const lowdose::Model gone = std::move(model); }
    test_frames(std::move(stream), std::move(queued));
}
