/* A process with an engine and open streams forks. The child makes an engine of its own and gets the same bits, may end
 * by exit(), and the parent's streams stay as they were. Argument: the folder of models. */
#define _POSIX_C_SOURCE 200112L
#include <sys/wait.h>
#include <unistd.h>

#include "api.h"

/* Denoises a frame on a model of its own. */
static void denoise(lowdose_engine* engine, const char* folder, float* out) {
    lowdose_model* model = open_model(engine, folder, "wcid");
    lowdose_stream_options options = options_of(LOWDOSE_UINT16, LOWDOSE_FLOAT32);
    uint16_t* raw = make_frames(1);
    const lowdose_frame frame = frame_of(raw, LOWDOSE_UINT16, 0);
    lowdose_result result = result_of(out, LOWDOSE_FLOAT32);
    lowdose_stream* stream;
    options.queue_frames = 2;
    options.threads = 2;
    stream = open_stream(model, options);
    CHECK_STATUS(lowdose_stream_push(stream, &frame), LOWDOSE_OK);
    CHECK_STATUS(lowdose_stream_pop(stream, &result, -1), LOWDOSE_OK);
    lowdose_stream_close(stream);
    lowdose_model_close(model);
    free(raw);
}

int main(int argc, char** argv) {
    lowdose_engine* engine;
    lowdose_model* model;
    lowdose_stream_options options = options_of(LOWDOSE_UINT16, LOWDOSE_FLOAT32);
    lowdose_stream* streams[2];
    uint16_t* raw = make_frames(2);
    float* images = malloc(sizeof(float) * n_pixels * 3);
    int i, k;
    CHECK(argc > 1 && images);
    unsetenv("ORT_DISABLE_TELEMETRY"); /* a thread of its own would not live in the child */
    unsetenv("CI");
    engine = open_engine(runtime_path());
    CHECK(strcmp(getenv("ORT_DISABLE_TELEMETRY"), "1") == 0);
    model = open_model(engine, argv[1], "wcvd");
    for (i = 0; i < 2; ++i) { /* one without a queue, one whose thread waits */
        const lowdose_frame frame = frame_of(raw, LOWDOSE_UINT16, 0);
        lowdose_result none = result_of(images, LOWDOSE_FLOAT32);
        options.queue_frames = 4 * i;
        streams[i] = open_stream(model, options);
        CHECK_STATUS(lowdose_stream_push(streams[i], &frame), LOWDOSE_OK);
        while (statistics_of(streams[i]).convert.count == 0) continue; /* its thread is inside lowdose no more */
        CHECK_STATUS(lowdose_stream_pop(streams[i], &none, i ? 50 : 0), LOWDOSE_NONE);
    }
    denoise(engine, argv[1], images);

    for (i = 0; i < 2; ++i) {
        const pid_t child = fork();
        int status = 0;
        CHECK(child >= 0);
        if (child == 0) {
            lowdose_engine* own;
            alarm(300); /* instead of hanging for ever */
            own = open_engine(runtime_path());
            denoise(own, argv[1], images + n_pixels);
            CHECK(memcmp(images, images + n_pixels, sizeof(float) * n_pixels) == 0);
            lowdose_engine_destroy(own);
            if (i) exit(0);
            _exit(0);
        }
        CHECK(waitpid(child, &status, 0) == child);
        if (status != 0) fprintf(stderr, "the child ended with %d\n", status);
        CHECK(status == 0);
    }

    for (i = 0; i < 2; ++i) { /* the parent goes on */
        const lowdose_frame frame = frame_of(raw + n_pixels, LOWDOSE_UINT16, 1);
        lowdose_result result = result_of(images + n_pixels * i, LOWDOSE_FLOAT32);
        CHECK_STATUS(lowdose_stream_push(streams[i], &frame), LOWDOSE_OK);
        CHECK_STATUS(lowdose_stream_pop(streams[i], &result, -1), LOWDOSE_OK);
        lowdose_stream_close(streams[i]);
    }
    for (k = 0; k < n_pixels; ++k) CHECK(images[k] == images[n_pixels + k]);
    lowdose_model_close(model);
    lowdose_engine_destroy(engine);
    free(images);
    free(raw);
    return 0;
}
