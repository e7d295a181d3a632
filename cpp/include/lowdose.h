/* lowdose.h - denoise low-dose electron microscopy frame by frame, inside acquisition software.
 *
 * An engine holds one ONNX Runtime library, a model one opened model file, a stream one sequence of frames:
 *
 *     lowdose_engine_create -> lowdose_model_open -> lowdose_stream_open -> push, pop, ... -> close, close, destroy
 *
 * Status.    Every call that can fail returns a status: LOWDOSE_OK and what is above it are no errors, what is below is
 *            one. lowdose_..._message gives the words. Nothing is printed, no exception leaves the library, the process
 *            is never ended, and no signal handler, locale or floating-point mode of the host is changed.
 * Memory.    Buffers belong to the caller and are read or written during the call only. A handle belongs to the caller
 *            and is given back with its destroy or close. A stream keeps what it needs of its model, and a model of its
 *            engine, so handles may be given back in any order. Strings that come out of a call belong to the handle.
 * Aliasing.  A result may be written over the frame that was pushed: frames are copied or converted before push returns.
 * Threads.   Any thread may call anything on any handle at any time, except that nothing may use a handle while or after
 *            it is given back. Different streams never wait for each other, except for processor cores.
 * fork.      A child process must not touch handles that were made before the fork, not even to close them: their threads
 *            are the parent's. It may create its own engine and go on from there, if no other thread was inside lowdose
 *            when it forked. The parent's handles do not notice.
 * Structs.   The first member is the size of the struct as the caller was compiled with it; set it with sizeof. All
 *            others may be 0, which means the default. A newer library takes the structs of an older header, and an
 *            older library those of a newer header as long as what it does not know is 0.
 * Units.     Lengths in pixels, times in milliseconds, memory and strides in bytes. y comes before x. Paths are UTF-8.
 * Environment. LOWDOSE_CPU=avx2, sse4.2 or portable keeps the compiled kernels from using newer instructions.
 *            ORT_DISABLE_TELEMETRY is set to 1 before ONNX Runtime is loaded, unless the host has set it: since 1.29 it
 *            sends what it runs to its maker otherwise. Nothing else of the host's environment is changed.
 */
#ifndef LOWDOSE_H
#define LOWDOSE_H

#include <stddef.h>
#include <stdint.h>

#if defined(LOWDOSE_BUILD) && defined(_WIN32)
#define LOWDOSE_API __declspec(dllexport)
#elif defined(_WIN32)
#define LOWDOSE_API __declspec(dllimport)
#else
#define LOWDOSE_API __attribute__((visibility("default")))
#endif

#ifdef _WIN32
#define LOWDOSE_CALL __cdecl
#else
#define LOWDOSE_CALL
#endif

#define LOWDOSE_VERSION_MAJOR 0
#define LOWDOSE_VERSION_MINOR 1
#define LOWDOSE_VERSION_PATCH 0
#define LOWDOSE_VERSION (LOWDOSE_VERSION_MAJOR * 1000000 + LOWDOSE_VERSION_MINOR * 1000 + LOWDOSE_VERSION_PATCH)

#ifdef __cplusplus
extern "C" {
#endif

/* The version of the library that runs, counted as LOWDOSE_VERSION. Versions that share major and minor share the ABI. */
LOWDOSE_API uint32_t LOWDOSE_CALL lowdose_version(void);

/* ---- status ---------------------------------------------------------------------------------------------------- */

typedef enum lowdose_status {
    LOWDOSE_DROPPED = 3, /* push: the frame was dropped and counted */
    LOWDOSE_END = 2,     /* pop: all results of the flushed sequence are out; list calls: there is no such entry */
    LOWDOSE_NONE = 1,    /* pop: no result yet */
    LOWDOSE_OK = 0,
    LOWDOSE_ERROR_NULL = -1,      /* a handle or pointer that must be there is NULL */
    LOWDOSE_ERROR_ARGUMENT = -2,  /* a value, option or struct size that does not exist or does not fit the others */
    LOWDOSE_ERROR_SIZE = -3,      /* height, width or stride is not the stream's, or impossible for the model */
    LOWDOSE_ERROR_DTYPE = -4,     /* the pixel type is not the stream's, or no pixel type */
    LOWDOSE_ERROR_ORDER = -5,     /* the call does not fit here, such as a push after a flush, or too few frames came */
    LOWDOSE_ERROR_MODEL = -6,     /* the model file cannot be read, is damaged, or is no lowdose model */
    LOWDOSE_ERROR_RUNTIME = -7,   /* ONNX Runtime cannot be loaded, is too old, or failed */
    LOWDOSE_ERROR_DEVICE = -8,    /* the device is not there; the message names those that are */
    LOWDOSE_ERROR_MEMORY = -9,    /* out of memory, or max_bytes is too small */
    LOWDOSE_ERROR_CANCELLED = -10, /* the progress callback said so */
    LOWDOSE_ERROR_FRAME = -11,    /* a pixel is NaN, infinite or beyond float32; the frame was not taken */
    LOWDOSE_ERROR_INTERNAL = -12  /* a bug of lowdose, or the system refused a thread; please report it */
} lowdose_status;

/* Such as "LOWDOSE_ERROR_NULL"; "unknown status" for other numbers. Static storage. */
LOWDOSE_API const char* LOWDOSE_CALL lowdose_status_name(lowdose_status status);

/* ---- engine: one ONNX Runtime library -------------------------------------------------------------------------- */

typedef struct lowdose_engine lowdose_engine;

typedef enum lowdose_log_level { LOWDOSE_LOG_INFO = 0, LOWDOSE_LOG_ERROR = 1 } lowdose_log_level;

/* Called by whatever thread is at work, also at the same time by several, until the engine and all that was opened from
 * it are given back. It must not call lowdose. `message` (UTF-8) is valid during the call. */
typedef void(LOWDOSE_CALL* lowdose_log_callback)(void* user, lowdose_log_level level, const char* message);

typedef struct lowdose_engine_options {
    size_t struct_bytes;
    const char* runtime_path; /* the ONNX Runtime library (1.11 or later): onnxruntime.dll, libonnxruntime.so.
                                 It is loaded by this path alone, never searched for, and made absolute first; a host
                                 that uses another version of it is not disturbed. It stays loaded. */
    lowdose_log_callback log; /* NULL: none */
    void* log_user;
} lowdose_engine_options;

/* Loads ONNX Runtime. When it fails, *engine is NULL and up to message_bytes of the reason (with a final 0) are written
 * to `message`, which may be NULL.
 * NULL, ARGUMENT, RUNTIME, MEMORY. */
LOWDOSE_API lowdose_status LOWDOSE_CALL lowdose_engine_create(const lowdose_engine_options* options,
                                                              lowdose_engine** engine, char* message,
                                                              size_t message_bytes);

/* NULL is allowed. */
LOWDOSE_API lowdose_status LOWDOSE_CALL lowdose_engine_destroy(lowdose_engine* engine);

/* Copies the message of the last error on this handle ("" if there was none), cut to buffer_bytes with its final 0.
 * Calls that open a model report here. 1024 bytes are enough for most.
 * NULL, ARGUMENT (no room at all). */
LOWDOSE_API lowdose_status LOWDOSE_CALL lowdose_engine_message(const lowdose_engine* engine, char* buffer,
                                                               size_t buffer_bytes);

/* Name of device `index`, fastest first, such as "cuda" or "cpu": what this ONNX Runtime was built for. The name belongs
 * to the engine. LOWDOSE_END when there are not so many.
 * NULL. */
LOWDOSE_API lowdose_status LOWDOSE_CALL lowdose_engine_device(const lowdose_engine* engine, size_t index,
                                                              const char** name);

/* The version of ONNX Runtime, such as "1.31.1". It belongs to the engine.
 * NULL. */
LOWDOSE_API lowdose_status LOWDOSE_CALL lowdose_engine_runtime(const lowdose_engine* engine, const char** version);

/* ---- model: one opened model file ------------------------------------------------------------------------------ */

typedef struct lowdose_model lowdose_model;

typedef struct lowdose_model_options {
    size_t struct_bytes;
    const char* device;      /* "cpu", or "cuda", "tensorrt", "directml" with or without ":N"; NULL or "auto": the first
                                that takes all of the model */
    int32_t without_kernels; /* not 0: ONNX Runtime runs the whole graph, to compare or in doubt */
} lowdose_model_options;

/* Opens a model file. options: NULL for the defaults. On error *model is NULL and the engine has the message.
 * NULL, ARGUMENT, MODEL, DEVICE, MEMORY. */
LOWDOSE_API lowdose_status LOWDOSE_CALL lowdose_model_open(lowdose_engine* engine, const char* path,
                                                           const lowdose_model_options* options,
                                                           lowdose_model** model);

/* The same from the n_bytes of a model file in memory; they are copied.
 * NULL, ARGUMENT, MODEL, DEVICE, MEMORY. */
LOWDOSE_API lowdose_status LOWDOSE_CALL lowdose_model_open_memory(lowdose_engine* engine, const void* bytes,
                                                                  size_t n_bytes, const lowdose_model_options* options,
                                                                  lowdose_model** model);

/* NULL is allowed. */
LOWDOSE_API lowdose_status LOWDOSE_CALL lowdose_model_close(lowdose_model* model);

/* As lowdose_engine_message. Calls that open a stream report here.
 * NULL, ARGUMENT. */
LOWDOSE_API lowdose_status LOWDOSE_CALL lowdose_model_message(const lowdose_model* model, char* buffer,
                                                              size_t buffer_bytes);

typedef struct lowdose_model_info {
    size_t struct_bytes;
    const char* method;   /* such as "wcvd" */
    const char* device;   /* the device in use */
    const char* kernels;  /* instruction set of the compiled kernels; NULL: ONNX Runtime runs the whole graph */
    const char* metadata; /* JSON: all that the file says of itself */
    int32_t n_taps;       /* frames that the network sees at once */
    int32_t is_scan;      /* 1: it takes the patterns of a scan; 0: frames in the order of time */
    int32_t n_channels;
    int32_t margin_px; /* how far an output pixel sees */
    int32_t align_px;  /* frames of other sizes are mirrored up to a multiple of it */
    int32_t min_height, min_width;
    int32_t fixed_height, fixed_width; /* the only size the model takes; 0: any */
    int32_t latency_frames;            /* a result comes so many frames after its own; -1: it depends on the scan */
    int32_t n_weight_sets;
    int32_t has_low_pass;
} lowdose_model_info;

/* Describes the model. The strings belong to it.
 * NULL, ARGUMENT (struct_bytes). */
LOWDOSE_API lowdose_status LOWDOSE_CALL lowdose_model_query(const lowdose_model* model, lowdose_model_info* info);

/* Where tap `index` lies from the frame that is denoised: dy and dx in positions of the scan, or dy = 0 and dx in frames.
 * LOWDOSE_END when there are not so many.
 * NULL. */
LOWDOSE_API lowdose_status LOWDOSE_CALL lowdose_model_tap(const lowdose_model* model, size_t index, int32_t* dy,
                                                          int32_t* dx);

/* ---- stream: frames in, denoised frames out, as many as went in ------------------------------------------------- */

typedef struct lowdose_stream lowdose_stream;

typedef enum lowdose_dtype {
    LOWDOSE_UINT8 = 1,
    LOWDOSE_UINT16 = 2,
    LOWDOSE_INT16 = 3,
    LOWDOSE_UINT32 = 4,
    LOWDOSE_FLOAT32 = 5,
    LOWDOSE_FLOAT64 = 6
} lowdose_dtype;

/* What happens when frames come faster than they are denoised. */
typedef enum lowdose_policy {
    LOWDOSE_BLOCK = 0,      /* push waits for room: nothing is lost */
    LOWDOSE_DROP_OLDEST = 1, /* the frame (or result) that waits longest is dropped */
    LOWDOSE_NEWEST_WINS = 2  /* whatever waits is dropped when a newer frame (or result) is there */
} lowdose_policy;

/* What of the settings is given, added up; the rest is chosen from the noisy frames when the first result is due, which
 * takes longer than a frame. */
#define LOWDOSE_GIVE_WEIGHT_SET 1
#define LOWDOSE_GIVE_CUTOFF 2
#define LOWDOSE_GIVE_OFFSET 4

/* Told before each step of lowdose_stream_open what comes and what share (0 to 1) is done; anything but 0 cancels it. A
 * step itself is not interrupted. Runs in the thread that opens the stream. It must not call lowdose. */
typedef int32_t(LOWDOSE_CALL* lowdose_progress_callback)(void* user, const char* step, double share);

typedef struct lowdose_stream_options {
    size_t struct_bytes;
    int32_t height, width; /* of every frame */
    int32_t dtype_in;      /* lowdose_dtype */
    int32_t dtype_out;     /* lowdose_dtype; integers are rounded half to even and clipped */
    int32_t scan_y, scan_x; /* positions of a scan, for models that take one; its patterns come row by row */
    int32_t threads;        /* of the network; 0: one per core */
    int32_t tile_px;        /* largest tile side; 0: as large as max_bytes allows */
    uint64_t max_bytes;     /* memory of the stream's buffers, its queue and one run of the network; 0: no cap */

    uint32_t given;     /* LOWDOSE_GIVE_..., which of the next three count */
    int32_t weight_set; /* 0 to n_weight_sets - 1 */
    float cutoff;       /* low-pass limit, cycles/pixel; 1: none */
    float offset;       /* detector pedestal: subtracted before the network, added after it */

    /* Planes (channels, height, width) without gaps, copied; NULL: none. A pixel becomes (raw - dark) * gain, and one
     * whose bad_pixels value is not 0 the mean of the nearest good ones. */
    const float* dark;
    const float* gain;
    const uint8_t* bad_pixels;

    int32_t policy;       /* lowdose_policy; only BLOCK for scans, which cannot lose positions */
    int32_t queue_frames; /* frames that may wait. 0: no queue; push denoises in the caller's thread, pop never waits.
                             More: a thread of the stream denoises, push copies the frame and returns. */
    double deadline_ms;   /* with a queue: a frame that waits longer is dropped, and push waits no longer; 0: none */

    lowdose_progress_callback progress; /* NULL: none */
    void* progress_user;
} lowdose_stream_options;

/* Prepares a stream: plans memory, opens the network for this size, runs it once. Everything slow happens here, except
 * for settings that are not given. On error *stream is NULL and the model has the message.
 * NULL, ARGUMENT, SIZE, DTYPE, RUNTIME, MEMORY, CANCELLED. */
LOWDOSE_API lowdose_status LOWDOSE_CALL lowdose_stream_open(lowdose_model* model,
                                                            const lowdose_stream_options* options,
                                                            lowdose_stream** stream);

/* Ends the stream's thread and frees it; frames that wait are lost. NULL is allowed. */
LOWDOSE_API lowdose_status LOWDOSE_CALL lowdose_stream_close(lowdose_stream* stream);

/* As lowdose_engine_message.
 * NULL, ARGUMENT. */
LOWDOSE_API lowdose_status LOWDOSE_CALL lowdose_stream_message(const lowdose_stream* stream, char* buffer,
                                                               size_t buffer_bytes);

typedef struct lowdose_stream_info {
    size_t struct_bytes;
    int32_t latency_frames; /* a result comes so many frames after its own */
    int32_t n_channels, n_tiles;
    int32_t is_settled; /* 1: the three settings below are given or chosen */
    int32_t weight_set;
    float cutoff, offset;
} lowdose_stream_info;

/* NULL, ARGUMENT (struct_bytes). */
LOWDOSE_API lowdose_status LOWDOSE_CALL lowdose_stream_query(const lowdose_stream* stream, lowdose_stream_info* info);

/* A frame to push: (channels, height, width) pixels. */
typedef struct lowdose_frame {
    size_t struct_bytes;
    const void* data;
    int32_t height, width, dtype; /* must be the stream's */
    int32_t reserved;             /* 0 */
    ptrdiff_t row_stride_bytes;     /* from row to row; negative for frames that are stored upside down, data being the
                                       upper left pixel; 0: no gaps */
    ptrdiff_t channel_stride_bytes; /* from channel to channel; 0: no gaps */
    uint64_t sequence;              /* the caller's; comes back with the result */
    int64_t timestamp;              /* the caller's, in any unit; comes back with the result */
} lowdose_frame;

/* Where a result goes; the members after channel_stride_bytes are filled in. */
typedef struct lowdose_result {
    size_t struct_bytes;
    void* data;
    int32_t height, width, dtype; /* must be the stream's; dtype is its dtype_out */
    int32_t reserved;             /* 0 */
    ptrdiff_t row_stride_bytes, channel_stride_bytes; /* as in lowdose_frame */
    uint64_t sequence; /* of the frame that this is the result of */
    int64_t timestamp;
    uint64_t n_dropped; /* frames lost since the result before */
    double age_ms;      /* from push until the result was there, waiting for later frames included */
    uint64_t n_replaced; /* how often lowdose_stream_replace had changed the weights before it was computed */
} lowdose_result;

/* Gives a frame. LOWDOSE_OK: it was taken. LOWDOSE_DROPPED: the queue had no room until the deadline.
 * Without a queue the frame is denoised now, and its result must be popped before the next push. With one, what goes
 * wrong with the frame later is returned by the pop at its place.
 * With LOWDOSE_BLOCK and no deadline, pop from another thread or before the queue is full.
 * NULL, ARGUMENT, SIZE, DTYPE, ORDER, FRAME, RUNTIME, MEMORY. */
LOWDOSE_API lowdose_status LOWDOSE_CALL lowdose_stream_push(lowdose_stream* stream, const lowdose_frame* frame);

/* Takes the next result, in the order of the frames. Waits up to timeout_ms (negative: for ever), without a queue not at
 * all. LOWDOSE_OK: it was written. LOWDOSE_NONE: there is none yet. LOWDOSE_END: all results of the flushed sequence are
 * out, and the next sequence may begin. Of an error, result->sequence and timestamp say which frame it cost.
 * NULL, ARGUMENT, SIZE, DTYPE, ORDER (too few frames were pushed before the flush), FRAME, RUNTIME, MEMORY. */
LOWDOSE_API lowdose_status LOWDOSE_CALL lowdose_stream_pop(lowdose_stream* stream, lowdose_result* result,
                                                           double timeout_ms);

/* Ends the sequence: pop gives the results still due, then LOWDOSE_END. Returns at once. What the network sees beyond
 * the end is the model's rule, such as mirrored frames. A scan may be flushed before it is complete.
 * NULL, ORDER (flushed already). */
LOWDOSE_API lowdose_status LOWDOSE_CALL lowdose_stream_flush(lowdose_stream* stream);

/* After a stage move or whatever else begins a new scene: forgets all frames and results that wait, which are counted as
 * discarded, and the settings that were chosen. Waits for the frame that is being denoised.
 * NULL. */
LOWDOSE_API lowdose_status LOWDOSE_CALL lowdose_stream_reset(lowdose_stream* stream);

typedef struct lowdose_replace_options {
    size_t struct_bytes;
    uint32_t given;     /* LOWDOSE_GIVE_WEIGHT_SET, LOWDOSE_GIVE_CUTOFF: needed where the model has several weight sets or a
                           low-pass, for nothing is chosen in a running stream */
    int32_t weight_set; /* 0 to n_weight_sets - 1 */
    float cutoff;       /* low-pass limit, cycles/pixel; 1: none */
} lowdose_replace_options;

/* Exchanges the weights of a running stream: another opened model takes over between two frames. Everything slow happens
 * here, in the calling thread, while other threads push and pop; the next result that is computed comes from the new
 * model. No frame is lost: those that wait, sequence numbers, statistics and the offset stay. The model must have the
 * taps, channels, latency and rules (for the ends of a sequence, normalisation and offset) of the one before. Until the
 * old one is given back, both are in memory, beyond max_bytes. Of two replacements before a frame the second counts.
 * options: NULL for a model that has nothing to give. On error the stream goes on as it was.
 * NULL, ARGUMENT, SIZE, RUNTIME, MEMORY. */
LOWDOSE_API lowdose_status LOWDOSE_CALL lowdose_stream_replace(lowdose_stream* stream, const lowdose_model* model,
                                                               const lowdose_replace_options* options);

/* Denoises a whole sequence in the calling thread: n_frames frames to as many results, of which results[i] belongs to
 * frames[i] and may be written over its data. For streams without a queue, between other sequences. When it fails, the
 * results written so far are right and the others untouched.
 * NULL, ARGUMENT, SIZE, DTYPE, ORDER, FRAME, RUNTIME, MEMORY. */
LOWDOSE_API lowdose_status LOWDOSE_CALL lowdose_stream_denoise(lowdose_stream* stream, size_t n_frames,
                                                               const lowdose_frame* frames, lowdose_result* results);

typedef struct lowdose_latency {
    uint64_t count;
    double mean_ms, p50_ms, p95_ms, p99_ms, max_ms; /* percentiles to 2 %; the maximum is exact */
} lowdose_latency;

/* Since the stream was opened:
 * pushed = popped + dropped_full + dropped_late + dropped_results + refused + discarded + in_flight. */
typedef struct lowdose_statistics {
    size_t struct_bytes;
    uint64_t pushed;
    uint64_t popped;
    uint64_t dropped_full;    /* frames that made room for a newer one */
    uint64_t dropped_late;    /* frames that waited longer than the deadline */
    uint64_t dropped_results; /* results that were not popped before newer ones came */
    uint64_t refused;         /* frames whose push or pop returned an error */
    uint64_t discarded;       /* frames that were waiting when the stream was reset */
    uint64_t in_flight;       /* frames waiting, in the network's window, or with a result that can be popped */
    lowdose_latency wait;     /* in the queue */
    lowdose_latency convert;  /* pixel type, dark, gain, bad pixels */
    lowdose_latency choose;   /* the settings that were not given */
    lowdose_latency network;
    lowdose_latency low_pass; /* where it is not part of the network */
    lowdose_latency output;   /* to dtype_out */
    lowdose_latency total;    /* of one frame's work: the five above */
    lowdose_latency age;      /* from push until the result is there, waiting for later frames included */
    uint64_t replaced;        /* models that took over, see lowdose_stream_replace */
} lowdose_statistics;

/* NULL, ARGUMENT (struct_bytes), MEMORY. */
LOWDOSE_API lowdose_status LOWDOSE_CALL lowdose_stream_statistics(const lowdose_stream* stream,
                                                                  lowdose_statistics* statistics);

#ifdef __cplusplus
}
#endif

#endif
