// What a queue does when frames come faster than they are denoised, and whether its counts add up. The stall is
// made: a stream that cannot give its results away, or a burst that comes at once.
#include <chrono>
#include <thread>
#include <vector>

#include "check.h"

namespace {

constexpr int height = 256, width = 256;

class Run {
public:
    Run(lowdose_model* model, lowdose_policy policy, int queue_frames, double deadline_ms) : pixels_(height * width) {
        fill_frame(pixels_.data(), height, width, 1);
        lowdose_stream_options options{};
        options.struct_bytes = sizeof options;
        options.height = height;
        options.width = width;
        options.dtype_in = options.dtype_out = LOWDOSE_UINT16;
        options.threads = 1;
        options.given = LOWDOSE_GIVE_WEIGHT_SET | LOWDOSE_GIVE_CUTOFF | LOWDOSE_GIVE_OFFSET;
        options.cutoff = 1;
        options.policy = policy;
        options.queue_frames = queue_frames;
        options.deadline_ms = deadline_ms;
        CHECK_STATUS(lowdose_stream_open(model, &options, &stream_), LOWDOSE_OK);
    }
    ~Run() { lowdose_stream_close(stream_); }
    Run(const Run&) = delete;
    Run& operator=(const Run&) = delete;

    lowdose_status push() {
        lowdose_frame frame{};
        frame.struct_bytes = sizeof frame;
        frame.data = pixels_.data();
        frame.height = height;
        frame.width = width;
        frame.dtype = LOWDOSE_UINT16;
        frame.sequence = n_pushed++;
        return lowdose_stream_push(stream_, &frame);
    }

    lowdose_status pop(double timeout_ms = -1) {
        result.struct_bytes = sizeof result;
        std::vector<uint16_t> out(pixels_.size());
        result.data = out.data();
        result.height = height;
        result.width = width;
        result.dtype = LOWDOSE_UINT16;
        const lowdose_status status = lowdose_stream_pop(stream_, &result, timeout_ms);
        if (status == LOWDOSE_OK) n_reported += result.n_dropped;
        return status;
    }

    std::vector<uint64_t> pop_all() {  // flushes
        std::vector<uint64_t> order;
        CHECK_STATUS(lowdose_stream_flush(stream_), LOWDOSE_OK);
        lowdose_status status = pop();
        for (; status == LOWDOSE_OK; status = pop()) order.push_back(result.sequence);
        CHECK(status == LOWDOSE_END);
        return order;
    }

    lowdose_statistics statistics() const {
        lowdose_statistics s{};
        s.struct_bytes = sizeof s;
        CHECK_STATUS(lowdose_stream_statistics(stream_, &s), LOWDOSE_OK);
        CHECK(s.pushed ==
              s.popped + s.dropped_full + s.dropped_late + s.dropped_results + s.refused + s.discarded + s.in_flight);
        return s;
    }

    // Until no frame waits and none is in work: what was taken from the queue has been through the network's input.
    void settle() const {
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(2);
        while (true) {
            const lowdose_statistics s = statistics();
            if (s.pushed == s.dropped_full + s.dropped_late + s.wait.count && s.wait.count == s.convert.count) return;
            CHECK(std::chrono::steady_clock::now() < deadline);
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
    }

    lowdose_stream* stream() const { return stream_; }
    lowdose_result result{};
    uint64_t n_pushed = 0, n_reported = 0;

private:
    std::vector<uint16_t> pixels_;
    lowdose_stream* stream_ = nullptr;
};

void check_ascending(const std::vector<uint64_t>& order) {
    for (size_t i = 1; i < order.size(); ++i) CHECK(order[i] > order[i - 1]);
}

// Nothing is lost, however slow the consumer.
void test_block(lowdose_model* model) {
    Run run(model, LOWDOSE_BLOCK, 3, 0);
    std::vector<uint64_t> order;
    std::thread producer([&] {
        for (int i = 0; i < 30; ++i) CHECK_STATUS(run.push(), LOWDOSE_OK);
    });
    for (int i = 0; i < 20; ++i) {
        CHECK_STATUS(run.pop(), LOWDOSE_OK);
        order.push_back(run.result.sequence);
        if (i < 5) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    // Behind a slow consumer wait at most: 3 results, 1 in work, 1 in the window, 3 frames, 1 that is being pushed.
    CHECK(run.statistics().in_flight <= 9);
    while (order.size() < 29) {  // wcvd holds one back until the flush
        CHECK_STATUS(run.pop(), LOWDOSE_OK);
        order.push_back(run.result.sequence);
    }
    producer.join();
    for (const uint64_t last : run.pop_all()) order.push_back(last);
    CHECK(order.size() == 30 && run.n_reported == 0);
    for (size_t i = 0; i < order.size(); ++i) CHECK(order[i] == i);
}

// A push that finds no room gives up at the deadline, and says so.
void test_block_with_deadline(lowdose_model* model) {
    Run run(model, LOWDOSE_BLOCK, 2, 30);
    uint64_t n_dropped = 0;
    for (int i = 0; i < 12; ++i) {
        const lowdose_status status = run.push();
        CHECK(status == LOWDOSE_OK || status == LOWDOSE_DROPPED);
        n_dropped += status == LOWDOSE_DROPPED;
    }
    CHECK(n_dropped > 0 && run.statistics().dropped_late >= n_dropped);
    std::this_thread::sleep_for(std::chrono::milliseconds(60));
    const std::vector<uint64_t> order = run.pop_all();
    check_ascending(order);
    const lowdose_statistics s = run.statistics();
    CHECK(order.size() + s.dropped_late == 12 && s.in_flight == 0 && s.dropped_full == 0);
}

// Nobody takes results: the last ones stay, and as many as the queue holds.
void test_drop_oldest(lowdose_model* model) {
    Run run(model, LOWDOSE_DROP_OLDEST, 4, 0);
    for (int i = 0; i < 40; ++i) CHECK_STATUS(run.push(), LOWDOSE_OK);
    run.settle();
    // At most 4 results wait, and one frame is in the window of wcvd.
    const lowdose_statistics s = run.statistics();
    CHECK(s.in_flight >= 4 && s.in_flight <= 5);
    CHECK(s.dropped_full + s.dropped_results == 40 - s.in_flight && s.dropped_late == 0);
    const std::vector<uint64_t> order = run.pop_all();
    check_ascending(order);
    CHECK(order.size() == s.in_flight && order.back() == 39);
    CHECK(run.n_reported == 40 - order.size() && run.statistics().popped == order.size());
}

void test_newest_wins(lowdose_model* model) {
    Run run(model, LOWDOSE_NEWEST_WINS, 4, 0);
    for (int i = 0; i < 40; ++i) CHECK_STATUS(run.push(), LOWDOSE_OK);
    run.settle();
    // At most one result waits, and one frame is in the window of wcvd, which needs two for a result.
    const uint64_t n_left = run.statistics().in_flight;
    CHECK(n_left >= 1 && n_left <= 2 && run.statistics().dropped_full > 0);
    CHECK_STATUS(run.push(), LOWDOSE_OK);
    run.settle();
    const std::vector<uint64_t> order = run.pop_all();
    check_ascending(order);
    CHECK(order.size() == 2 && order.back() == 40);
    CHECK(run.n_reported == 39);
}

// What waits too long is dropped instead of denoised.
void test_deadline(lowdose_model* model) {
    Run run(model, LOWDOSE_DROP_OLDEST, 20, 0.001);
    for (int i = 0; i < 20; ++i) CHECK_STATUS(run.push(), LOWDOSE_OK);
    run.settle();
    const lowdose_statistics s = run.statistics();
    CHECK(s.dropped_late > 0 && s.dropped_full == 0 && s.dropped_late + s.in_flight == 20);
}

// A reset while frames wait, and one while a push is blocked.
void test_reset(lowdose_model* model) {
    Run run(model, LOWDOSE_BLOCK, 3, 0);
    std::thread producer([&] {
        for (int i = 0; i < 20; ++i) CHECK_STATUS(run.push(), LOWDOSE_OK);
    });
    while (run.statistics().pushed < 20) {
        CHECK_STATUS(lowdose_stream_reset(run.stream()), LOWDOSE_OK);
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    producer.join();
    CHECK_STATUS(lowdose_stream_reset(run.stream()), LOWDOSE_OK);
    CHECK(run.statistics().discarded == 20 && run.statistics().in_flight == 0);
    CHECK_STATUS(run.pop(0), LOWDOSE_NONE);
    CHECK_STATUS(run.push(), LOWDOSE_OK);
    CHECK_STATUS(run.push(), LOWDOSE_OK);
    CHECK_STATUS(run.pop(10000), LOWDOSE_OK);
    CHECK(run.result.sequence == 20);
}

// A consumer that waits is woken by the end of the sequence.
void test_waiting_consumer(lowdose_model* model) {
    Run run(model, LOWDOSE_BLOCK, 3, 0);
    std::thread consumer([&] { CHECK_STATUS(run.pop(-1), LOWDOSE_END); });
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    CHECK_STATUS(lowdose_stream_flush(run.stream()), LOWDOSE_OK);
    consumer.join();
    CHECK_STATUS(run.pop(15), LOWDOSE_NONE);
}

}  // namespace

int main(int argc, char** argv) {
    CHECK(argc > 1);
    lowdose_engine* engine = open_engine(runtime_path());
    lowdose_model* model = nullptr;
    CHECK_STATUS(lowdose_model_open(engine, model_path(argv[1], "wcvd"), nullptr, &model), LOWDOSE_OK);
    test_block(model);
    test_block_with_deadline(model);
    test_drop_oldest(model);
    test_newest_wins(model);
    test_deadline(model);
    test_reset(model);
    test_waiting_consumer(model);
    lowdose_model_close(model);
    lowdose_engine_destroy(engine);
}
