/* Open, denoise, close, a thousand times: memory does not grow. Arguments: folder of models, number of cycles. */
#include "check.h"

enum { height = 24, width = 32 };

static double used_mb(void) {
#ifdef __linux__
    long pages = 0, resident = 0;
    FILE* file = fopen("/proc/self/statm", "r");
    CHECK(file && fscanf(file, "%ld %ld", &pages, &resident) == 2);
    fclose(file);
    return (double)resident * 4096 / 1e6;
#else
    return 0;
#endif
}

static void cycle(const char* runtime, const char* path, int queue_frames) {
    lowdose_engine* engine = open_engine(runtime);
    lowdose_model* model = NULL;
    lowdose_stream* stream = NULL;
    lowdose_stream_options options;
    lowdose_frame frame;
    lowdose_result result;
    uint16_t pixels[height * width];
    float out[height * width];
    memset(&options, 0, sizeof options);
    memset(&frame, 0, sizeof frame);
    memset(&result, 0, sizeof result);
    fill_frame(pixels, height, width, 1);
    options.struct_bytes = sizeof options;
    options.height = frame.height = result.height = height;
    options.width = frame.width = result.width = width;
    options.dtype_in = frame.dtype = LOWDOSE_UINT16;
    options.dtype_out = result.dtype = LOWDOSE_FLOAT32;
    options.queue_frames = queue_frames;
    options.threads = 1;
    frame.struct_bytes = sizeof frame;
    frame.data = pixels;
    result.struct_bytes = sizeof result;
    result.data = out;
    CHECK_STATUS(lowdose_model_open(engine, "no such model", NULL, &model), LOWDOSE_ERROR_MODEL);
    CHECK_STATUS(lowdose_model_open(engine, path, NULL, &model), LOWDOSE_OK);
    CHECK_STATUS(lowdose_stream_open(model, &options, &stream), LOWDOSE_OK);
    CHECK_STATUS(lowdose_stream_push(stream, &frame), LOWDOSE_OK);
    CHECK_STATUS(lowdose_stream_pop(stream, &result, -1), LOWDOSE_OK);
    CHECK_STATUS(lowdose_stream_push(stream, &frame), LOWDOSE_OK); /* closed with a frame inside */
    lowdose_stream_close(stream);
    lowdose_model_close(model);
    lowdose_engine_destroy(engine);
}

int main(int argc, char** argv) {
    const char* runtime = runtime_path();
    int i, n_cycles;
    double after_warm_up;
    CHECK(argc > 2);
    n_cycles = atoi(argv[2]);
    for (i = 0; i < n_cycles / 5; ++i) cycle(runtime, model_path(argv[1], "wcid"), i % 2);
    after_warm_up = used_mb();
    for (; i < n_cycles; ++i) cycle(runtime, model_path(argv[1], "wcid"), i % 2);
    printf("%d cycles, %.1f MB, %.1f MB after a fifth of them\n", n_cycles, used_mb(), after_warm_up);
    /* A leak of the model file alone would be 40 MB. (Sanitizers keep freed memory, and count leaks themselves.) */
    CHECK(n_cycles < 1000 || used_mb() - after_warm_up < 8);
    return 0;
}
