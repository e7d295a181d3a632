/* Denoises a file of raw uint16 frames, one after the other without a header, to a file of raw float32 frames.
 *
 *     denoise_raw RUNTIME MODEL HEIGHT WIDTH IN.raw OUT.raw
 *
 * RUNTIME is the ONNX Runtime library (libonnxruntime.so, onnxruntime.dll), MODEL a model file for frames of one channel
 * in the order of time. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lowdose.h"

struct job {
    lowdose_engine* engine;
    lowdose_model* model;
    lowdose_stream* stream;
    FILE *in, *out;
    uint16_t* frame;
    float* result;
    int32_t height, width;
    char message[1024];
};

/* Takes the results that are there; 0 when something failed. */
static int write_results(struct job* job, lowdose_status last) {
    const size_t n_pixels = (size_t)job->height * (size_t)job->width;
    lowdose_result result;
    lowdose_status status;
    memset(&result, 0, sizeof result);
    result.struct_bytes = sizeof result;
    result.data = job->result;
    result.height = job->height;
    result.width = job->width;
    result.dtype = LOWDOSE_FLOAT32;
    while ((status = lowdose_stream_pop(job->stream, &result, 0)) == LOWDOSE_OK)
        if (fwrite(job->result, sizeof(float), n_pixels, job->out) != n_pixels) {
            strcpy(job->message, "cannot write the result");
            return 0;
        }
    if (status != last) lowdose_stream_message(job->stream, job->message, sizeof job->message);
    return status == last;
}

static int open_stream(struct job* job, const char* runtime, const char* model) {
    lowdose_engine_options engine_options = {sizeof engine_options, NULL, NULL, NULL};
    lowdose_stream_options options;
    engine_options.runtime_path = runtime;
    if (lowdose_engine_create(&engine_options, &job->engine, job->message, sizeof job->message) != LOWDOSE_OK) return 0;
    if (lowdose_model_open(job->engine, model, NULL, &job->model) != LOWDOSE_OK) {
        lowdose_engine_message(job->engine, job->message, sizeof job->message);
        return 0;
    }
    memset(&options, 0, sizeof options);
    options.struct_bytes = sizeof options;
    options.height = job->height;
    options.width = job->width;
    options.dtype_in = LOWDOSE_UINT16;
    options.dtype_out = LOWDOSE_FLOAT32;
    if (lowdose_stream_open(job->model, &options, &job->stream) != LOWDOSE_OK) {
        lowdose_model_message(job->model, job->message, sizeof job->message);
        return 0;
    }
    return 1;
}

static int denoise(struct job* job) {
    const size_t n_pixels = (size_t)job->height * (size_t)job->width;
    lowdose_frame frame;
    memset(&frame, 0, sizeof frame);
    frame.struct_bytes = sizeof frame;
    frame.data = job->frame;
    frame.height = job->height;
    frame.width = job->width;
    frame.dtype = LOWDOSE_UINT16;
    for (; fread(job->frame, sizeof(uint16_t), n_pixels, job->in) == n_pixels; ++frame.sequence) {
        if (lowdose_stream_push(job->stream, &frame) != LOWDOSE_OK) {
            lowdose_stream_message(job->stream, job->message, sizeof job->message);
            return 0;
        }
        if (!write_results(job, LOWDOSE_NONE)) return 0;
    }
    if (lowdose_stream_flush(job->stream) != LOWDOSE_OK || !write_results(job, LOWDOSE_END)) return 0;
    printf("%llu frames denoised\n", (unsigned long long)frame.sequence);
    return 1;
}

int main(int argc, char** argv) {
    struct job job;
    int done;
    size_t n_pixels;
    memset(&job, 0, sizeof job);
    if (argc != 7) {
        fprintf(stderr, "usage: denoise_raw RUNTIME MODEL HEIGHT WIDTH IN.raw OUT.raw\n");
        return 2;
    }
    job.height = atoi(argv[3]);
    job.width = atoi(argv[4]);
    if (job.height < 1 || job.width < 1) {
        fprintf(stderr, "HEIGHT and WIDTH must be above 0\n");
        return 2;
    }
    n_pixels = (size_t)job.height * (size_t)job.width;
    strcpy(job.message, "cannot open the files, or out of memory");
    job.in = fopen(argv[5], "rb");
    job.out = fopen(argv[6], "wb");
    job.frame = malloc(n_pixels * sizeof *job.frame);
    job.result = malloc(n_pixels * sizeof *job.result);
    done = job.in && job.out && job.frame && job.result && open_stream(&job, argv[1], argv[2]) && denoise(&job);
    lowdose_stream_close(job.stream); /* NULL is allowed in all three */
    lowdose_model_close(job.model);
    lowdose_engine_destroy(job.engine);
    if (job.in) fclose(job.in);
    if (job.out && fclose(job.out) != 0) done = 0;
    free(job.frame);
    free(job.result);
    if (!done) fprintf(stderr, "%s\n", job.message);
    return done ? 0 : 1;
}
