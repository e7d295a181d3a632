#include <cmath>
#include <cstdlib>

#include "c_api.hpp"

using namespace lowdose;
using namespace lowdose::c_api;

namespace {

constexpr lowdose_dtype dtypes[] = {LOWDOSE_UINT8,  LOWDOSE_UINT16,  LOWDOSE_INT16,
                                    LOWDOSE_UINT32, LOWDOSE_FLOAT32, LOWDOSE_FLOAT64};  // in the order of DType

DType dtype_of(std::int32_t given) {
    for (size_t i = 0; i < std::size(dtypes); ++i)
        if (given == dtypes[i]) return static_cast<DType>(i);
    throw Error(std::to_string(given) + " is no lowdose_dtype", Error::Kind::dtype);
}

void refuse(const std::string& what) { throw Error(what, Error::Kind::argument); }

// known: the bits of LOWDOSE_GIVE_... that the call takes.
Wanted wanted_of(std::uint32_t given, std::uint32_t known, std::int32_t weight_set, float cutoff, float offset) {
    if (given & ~known) refuse("`given` holds a bit that is none of the LOWDOSE_GIVE_... of this call");
    Wanted wanted;
    if (given & LOWDOSE_GIVE_WEIGHT_SET) wanted.weight_set = weight_set;
    if (given & LOWDOSE_GIVE_CUTOFF) wanted.cutoff = cutoff;
    if (given & LOWDOSE_GIVE_OFFSET) wanted.offset = offset;
    if (wanted.offset && !std::isfinite(*wanted.offset)) refuse("the offset must be finite");
    return wanted;
}

StreamOptions stream_options(const lowdose_stream_options& given) {
    if (given.threads < 0) refuse("threads must be 0 or more");
    if ((given.scan_y == 0) != (given.scan_x == 0)) refuse("a scan has both scan_y and scan_x");
    if (given.height < 1 || given.width < 1)
        throw Error("frames of " + std::to_string(given.height) + "x" + std::to_string(given.width) + " pixels",
                    Error::Kind::size);
    StreamOptions options;
    options.in = dtype_of(given.dtype_in);
    options.out = dtype_of(given.dtype_out);
    options.threads = given.threads;
    options.tile = given.tile_px;
    options.max_bytes = static_cast<double>(given.max_bytes);
    options.wanted = wanted_of(given.given, LOWDOSE_GIVE_WEIGHT_SET | LOWDOSE_GIVE_CUTOFF | LOWDOSE_GIVE_OFFSET,
                               given.weight_set, given.cutoff, given.offset);
    if (given.scan_y != 0) options.scan = ScanShape{given.scan_y, given.scan_x};
    options.references = {given.dark, given.gain, given.bad_pixels};
    options.warm_up = true;
    if (given.progress)
        options.progress = [callback = given.progress, user = given.progress_user](const char* step, double share) {
            return callback(user, step, share) == 0;
        };
    return options;
}

LiveOptions live_options(const lowdose_stream_options& given) {
    LiveOptions live;
    switch (given.policy) {
        case LOWDOSE_BLOCK:
            live.policy = Policy::block;
            break;
        case LOWDOSE_DROP_OLDEST:
            live.policy = Policy::drop_oldest;
            break;
        case LOWDOSE_NEWEST_WINS:
            live.policy = Policy::newest_wins;
            break;
        default:
            refuse(std::to_string(given.policy) + " is no lowdose_policy");
    }
    live.queue_frames = given.queue_frames;
    live.deadline_ms = given.deadline_ms;
    return live;
}

struct Strides {
    std::ptrdiff_t row_bytes, channel_bytes;
};

// Checks a frame or result against the stream. Throws Error.
template <class Buffer>
Strides checked(const Buffer& buffer, const Stream& stream, DType dtype) {
    if (buffer.reserved != 0) refuse("`reserved` must be 0");
    if (buffer.height != stream.height() || buffer.width != stream.width())
        throw Error("the stream has frames of " + std::to_string(stream.height()) + "x" +
                        std::to_string(stream.width()) + " pixels, given " + std::to_string(buffer.height) + "x" +
                        std::to_string(buffer.width),
                    Error::Kind::size);
    if (dtype_of(buffer.dtype) != dtype)
        throw Error(std::string("the stream has pixels of ") + name_of(dtype) + " here, given " +
                        name_of(dtype_of(buffer.dtype)),
                    Error::Kind::dtype);
    const auto dense = static_cast<std::ptrdiff_t>(size_of(dtype)) * stream.width();
    const std::ptrdiff_t row = buffer.row_stride_bytes ? buffer.row_stride_bytes : dense;
    const std::ptrdiff_t channel =
        buffer.channel_stride_bytes ? buffer.channel_stride_bytes : std::abs(row) * stream.height();
    if (std::abs(row) < dense || std::abs(channel) < dense)
        throw Error("strides of " + std::to_string(row) + " and " + std::to_string(channel) +
                        " bytes are less than a row's " + std::to_string(dense),
                    Error::Kind::size);
    return {row, channel};
}

lowdose_frame read_frame(const lowdose_frame* frame) {
    return read_struct(frame, LOWDOSE_BYTES_UP_TO(lowdose_frame, timestamp));
}

FrameView view_of(const lowdose_frame& frame, const Stream& stream) {
    const Strides strides = checked(frame, stream, stream.options().in);
    return {frame.data, strides.row_bytes, strides.channel_bytes};
}

ResultView view_of(const lowdose_result& result, const Stream& stream) {
    const Strides strides = checked(result, stream, stream.options().out);
    return {result.data, strides.row_bytes, strides.channel_bytes};
}

lowdose_result read_result(const lowdose_result* result) {
    return read_struct(result, LOWDOSE_BYTES_UP_TO(lowdose_result, age_ms));
}

void write_result(lowdose_result* to, const LiveStream::Result& from) {
    lowdose_result values{};
    values.sequence = from.tag.sequence;
    values.timestamp = from.tag.timestamp;
    values.n_dropped = from.n_dropped;
    values.age_ms = from.age_ms;
    values.n_replaced = from.n_replaced;
    write_struct(to, values, offsetof(lowdose_result, sequence));
}

// Element i of an array of structs that may be longer or shorter than ours.
template <class Struct>
Struct* element(Struct* first, size_t i) {
    using Byte = std::conditional_t<std::is_const_v<Struct>, const unsigned char, unsigned char>;
    return reinterpret_cast<Struct*>(reinterpret_cast<Byte*>(first) + i * first->struct_bytes);
}

lowdose_latency latency(const Latency& stage) {
    return {
        stage.count(), stage.mean_ms(), stage.percentile_ms(0.50), stage.percentile_ms(0.95), stage.percentile_ms(0.99),
        stage.max_ms()};
}

template <class Work>
lowdose_status guarded_stream(const lowdose_stream* stream, lowdose_status otherwise, Work work) {
    return guarded(stream->message, stream->engine->log, otherwise, work);
}

}  // namespace

extern "C" {

lowdose_status lowdose_stream_open(lowdose_model* model, const lowdose_stream_options* given, lowdose_stream** stream) {
    if (stream) *stream = nullptr;
    if (!model || !given || !stream) return LOWDOSE_ERROR_NULL;
    return guarded(model->message, model->engine->log, LOWDOSE_ERROR_ARGUMENT, [&] {
        const auto options = read_struct(given, LOWDOSE_BYTES_UP_TO(lowdose_stream_options, progress_user));
        auto handle = std::make_unique<lowdose_stream>();
        handle->engine = model->engine;
        handle->live = std::make_unique<LiveStream>(model->model, options.height, options.width,
                                                    stream_options(options), live_options(options));
        *stream = handle.release();
        return LOWDOSE_OK;
    });
}

lowdose_status lowdose_stream_close(lowdose_stream* stream) {
    delete stream;
    return LOWDOSE_OK;
}

lowdose_status lowdose_stream_message(const lowdose_stream* stream, char* buffer, size_t buffer_bytes) {
    return stream ? stream->message.copy(buffer, buffer_bytes) : LOWDOSE_ERROR_NULL;
}

lowdose_status lowdose_stream_query(const lowdose_stream* stream, lowdose_stream_info* info) {
    if (!stream || !info) return LOWDOSE_ERROR_NULL;
    return guarded_stream(stream, LOWDOSE_ERROR_INTERNAL, [&] {
        if (info->struct_bytes < LOWDOSE_BYTES_UP_TO(lowdose_stream_info, offset))
            throw_struct_size(info->struct_bytes, sizeof *info);
        const Stream& core = stream->live->stream();
        lowdose_stream_info values{};
        values.latency_frames = core.latency_frames();
        values.n_channels = core.n_channels();
        const LiveStream::Settled settled = stream->live->settings();
        values.n_tiles = static_cast<std::int32_t>(settled.n_tiles);
        if (settled.choice) {
            values.is_settled = 1;
            values.weight_set = settled.choice->weight_set;
            values.cutoff = settled.choice->cutoff;
            values.offset = settled.choice->offset;
        }
        write_struct(info, values);
        return LOWDOSE_OK;
    });
}

lowdose_status lowdose_stream_push(lowdose_stream* stream, const lowdose_frame* given) {
    if (!stream || !given) return LOWDOSE_ERROR_NULL;
    return guarded_stream(stream, LOWDOSE_ERROR_FRAME, [&] {
        const lowdose_frame frame = read_frame(given);
        const FrameView view = view_of(frame, stream->live->stream());
        if (!frame.data) return LOWDOSE_ERROR_NULL;
        return stream->live->push(view, {frame.sequence, frame.timestamp}) == LiveStream::Pushed::taken
                   ? LOWDOSE_OK
                   : LOWDOSE_DROPPED;
    });
}

lowdose_status lowdose_stream_pop(lowdose_stream* stream, lowdose_result* given, double timeout_ms) {
    if (!stream || !given) return LOWDOSE_ERROR_NULL;
    return guarded_stream(stream, LOWDOSE_ERROR_FRAME, [&] {
        const lowdose_result buffer = read_result(given);
        const ResultView view = view_of(buffer, stream->live->stream());
        if (!buffer.data) return LOWDOSE_ERROR_NULL;
        if (std::isnan(timeout_ms)) refuse("timeout_ms is NaN");
        LiveStream::Result result;
        LiveStream::Popped popped;
        try {
            popped = stream->live->pop(view, timeout_ms, result);
        } catch (...) {
            write_result(given, result);
            throw;
        }
        switch (popped) {
            case LiveStream::Popped::none:
                return LOWDOSE_NONE;
            case LiveStream::Popped::end:
                return LOWDOSE_END;
            case LiveStream::Popped::result:
                break;
        }
        write_result(given, result);
        return LOWDOSE_OK;
    });
}

lowdose_status lowdose_stream_flush(lowdose_stream* stream) {
    if (!stream) return LOWDOSE_ERROR_NULL;
    return guarded_stream(stream, LOWDOSE_ERROR_ORDER, [&] {
        stream->live->flush();
        return LOWDOSE_OK;
    });
}

lowdose_status lowdose_stream_reset(lowdose_stream* stream) {
    if (!stream) return LOWDOSE_ERROR_NULL;
    return guarded_stream(stream, LOWDOSE_ERROR_RUNTIME, [&] {
        stream->live->reset();
        return LOWDOSE_OK;
    });
}

lowdose_status lowdose_stream_replace(lowdose_stream* stream, const lowdose_model* model,
                                      const lowdose_replace_options* given) {
    if (!stream || !model) return LOWDOSE_ERROR_NULL;
    return guarded_stream(stream, LOWDOSE_ERROR_ARGUMENT, [&] {
        lowdose_replace_options options{};
        if (given) options = read_struct(given, LOWDOSE_BYTES_UP_TO(lowdose_replace_options, cutoff));
        const Wanted wanted = wanted_of(options.given, LOWDOSE_GIVE_WEIGHT_SET | LOWDOSE_GIVE_CUTOFF,
                                        options.weight_set, options.cutoff, 0);
        stream->live->replace(model->model, wanted.weight_set, wanted.cutoff);
        return LOWDOSE_OK;
    });
}

lowdose_status lowdose_stream_denoise(lowdose_stream* stream, size_t n_frames, const lowdose_frame* frames,
                                      lowdose_result* results) {
    if (!stream || (n_frames > 0 && (!frames || !results))) return LOWDOSE_ERROR_NULL;
    return guarded_stream(stream, LOWDOSE_ERROR_FRAME, [&] {
        const Stream& core = stream->live->stream();
        for (size_t i = 0; i < n_frames; ++i) {
            const lowdose_frame frame = read_frame(element(frames, i));
            const lowdose_result result = read_result(element(results, i));
            view_of(frame, core);
            view_of(result, core);
            if (frame.struct_bytes != frames->struct_bytes || result.struct_bytes != results->struct_bytes)
                refuse("all frames and all results need the same struct_bytes");
            if (!frame.data || !result.data) return LOWDOSE_ERROR_NULL;
        }
        stream->live->denoise(
            n_frames, [&](size_t i) { return view_of(read_frame(element(frames, i)), core); },
            [&](size_t i) {
                const lowdose_frame frame = read_frame(element(frames, i));
                lowdose_result* to = element(results, i);
                LiveStream::Result result;
                result.tag = {frame.sequence, frame.timestamp};
                result.n_replaced = core.statistics().replaced;
                write_result(to, result);
                return view_of(read_result(to), core);
            });
        return LOWDOSE_OK;
    });
}

lowdose_status lowdose_stream_statistics(const lowdose_stream* stream, lowdose_statistics* statistics) {
    if (!stream || !statistics) return LOWDOSE_ERROR_NULL;
    return guarded_stream(stream, LOWDOSE_ERROR_INTERNAL, [&] {
        if (statistics->struct_bytes < LOWDOSE_BYTES_UP_TO(lowdose_statistics, age))
            throw_struct_size(statistics->struct_bytes, sizeof *statistics);
        const auto all = std::make_unique<const LiveStatistics>(stream->live->statistics());  // large for a stack
        const LiveCounts& counts = all->counts;
        lowdose_statistics values{};
        values.pushed = counts.pushed;
        values.popped = counts.popped;
        values.dropped_full = counts.dropped_full;
        values.dropped_late = counts.dropped_late;
        values.dropped_results = counts.dropped_results;
        values.refused = counts.refused;
        values.discarded = counts.discarded;
        values.in_flight = counts.in_flight;
        values.wait = latency(all->wait);
        values.convert = latency(all->stages.convert);
        values.choose = latency(all->stages.choose);
        values.network = latency(all->stages.network);
        values.low_pass = latency(all->stages.low_pass);
        values.output = latency(all->stages.output);
        values.total = latency(all->stages.total);
        values.age = latency(all->age);
        values.replaced = all->stages.replaced;
        write_struct(statistics, values);
        return LOWDOSE_OK;
    });
}

}  // extern "C"
