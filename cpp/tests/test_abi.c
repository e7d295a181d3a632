/* The layout that applications were compiled with. A later patch version may append members, and must change nothing
 * else: these numbers stay. (Sizes of structs that callers fill in; 64-bit systems.) Argument: the patch version of the
 * library that runs, if it is not this header's. */
#include "check.h"

#define SIZE(type, bytes) CHECK(sizeof(type) == (bytes))
#define AT(type, member, byte) CHECK(offsetof(type, member) == (byte))

static void LOWDOSE_CALL count_errors(void* user, lowdose_log_level level, const char* message) {
    (void)message;
    *(int*)user += level == LOWDOSE_LOG_ERROR;
}

int main(int argc, char** argv) {
    int n_errors = 0;
    lowdose_engine* engine = NULL;
    /* As an application of the first release calls: only the members that it knew. */
    lowdose_engine_options first_release = {32, "no such library", count_errors, NULL};
    const uint32_t patch = argc > 1 ? (uint32_t)atoi(argv[1]) : LOWDOSE_VERSION_PATCH;
    CHECK(lowdose_version() == LOWDOSE_VERSION - LOWDOSE_VERSION_PATCH + patch);
    if (sizeof(void*) != 8) return SKIPPED;
    SIZE(lowdose_status, 4);
    SIZE(lowdose_engine_options, 32);
    AT(lowdose_engine_options, log_user, 24);
    SIZE(lowdose_model_options, 24);
    AT(lowdose_model_options, without_kernels, 16);
    SIZE(lowdose_model_info, 88);
    AT(lowdose_model_info, n_taps, 40);
    AT(lowdose_model_info, has_low_pass, 84);
    SIZE(lowdose_stream_options, 120);
    AT(lowdose_stream_options, max_bytes, 40);
    AT(lowdose_stream_options, dark, 64);
    AT(lowdose_stream_options, policy, 88);
    AT(lowdose_stream_options, deadline_ms, 96);
    AT(lowdose_stream_options, progress_user, 112);
    SIZE(lowdose_stream_info, 40);
    AT(lowdose_stream_info, offset, 32);
    SIZE(lowdose_frame, 64);
    AT(lowdose_frame, row_stride_bytes, 32);
    AT(lowdose_frame, timestamp, 56);
    SIZE(lowdose_result, 88);
    AT(lowdose_result, sequence, 48);
    AT(lowdose_result, age_ms, 72);
    AT(lowdose_result, n_replaced, 80);
    SIZE(lowdose_latency, 48);
    SIZE(lowdose_statistics, 464);
    AT(lowdose_statistics, wait, 72);
    AT(lowdose_statistics, age, 408);
    AT(lowdose_statistics, replaced, 456);
    SIZE(lowdose_replace_options, 24);
    AT(lowdose_replace_options, cutoff, 16);
    CHECK(LOWDOSE_ERROR_INTERNAL == -12 && LOWDOSE_DROPPED == 3 && LOWDOSE_FLOAT64 == 6 && LOWDOSE_NEWEST_WINS == 2);

    first_release.log_user = &n_errors;
    CHECK_STATUS(lowdose_engine_create(&first_release, &engine, NULL, 0), LOWDOSE_ERROR_RUNTIME);
    CHECK(n_errors == 1);
    return 0;
}
