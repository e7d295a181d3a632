#include "cuda/ops.hpp"

#include <algorithm>
#include <optional>

#include "cuda/fourier.hpp"
#include "cuda/sources.hpp"
#include "error.hpp"
#include "lowpass.hpp"
#include "ops/kernel_op.hpp"

namespace lowdose::cuda {

namespace {

using ops::Api;
using ops::Context;
using ops::Input;

constexpr char provider_name[] = "CUDAExecutionProvider";

void expect(bool fits, const char* what, const Input& given) {
    if (!fits) throw Error(std::string(what) + ", given " + ops::shape_text(given));
}

unsigned blocks(std::int64_t n, unsigned block) { return static_cast<unsigned>((n + block - 1) / block); }

class BlindSpot {
public:
    static constexpr const char *name = "BlindSpot", *provider = provider_name;

    BlindSpot(Api api, Queue* queue) : api_(api), queue_(*queue) {}

    // Inputs in order: the frames, the index of the weight set, (kernel, mixing, head) per branch, the shares.
    void compute(Context* context) {
        std::vector<Input> inputs;
        for (size_t i = 0, n = api_.n_inputs(context); i < n; ++i) inputs.push_back(api_.input(context, i));
        if (!module_) build(inputs);
        const Input& frame = inputs[0];
        const auto n_taps = static_cast<size_t>(n_taps_);
        for (size_t tap = 0; tap < n_taps; ++tap)
            expect(inputs[tap].rank == 4 && std::equal(frame.shape, frame.shape + 4, inputs[tap].shape),
                   "BlindSpot: frames must have one shape (batch, 1, height, width)", inputs[tap]);
        std::vector<const void*> pointers;  // the struct Arguments of blind_spot.cu
        for (size_t tap = 0; tap <= n_taps; ++tap) pointers.push_back(inputs[tap].data);
        pointers.push_back(inputs.back().data);
        for (size_t i = n_taps + 1; i + 1 < inputs.size(); ++i) pointers.push_back(inputs[i].data);
        float* out = api_.output(context, frame.shape, 4);
        constexpr unsigned tile = 32, rows_per_thread = 4;
        auto n_sets = static_cast<int>(inputs.back().shape[0]);
        auto height = static_cast<int>(frame.shape[2]), width = static_cast<int>(frame.shape[3]);
        unsigned n_tiles_y = blocks(height, tile);
        void* arguments[] = {pointers.data(), &n_sets, &height, &width, &n_tiles_y, &out};
        queue_.start(kernel_, {blocks(width, tile), n_tiles_y * static_cast<unsigned>(frame.shape[0])},
                     {tile, tile / rows_per_thread}, arguments);
    }

private:
    // Compiles the kernel for the architecture that the weights have.
    void build(const std::vector<Input>& inputs) {
        size_t n_taps = 0;
        while (n_taps < inputs.size() && inputs[n_taps].type == ops::ElementType::float32) ++n_taps;
        const size_t n_weights = inputs.size() - std::min(inputs.size(), n_taps + 1);
        if (n_taps < 1 || n_weights < 4 || n_weights % 3 != 1)
            throw Error("BlindSpot takes frames, a weight set, three weights per branch and the shares");
        const Input* branch = inputs.data() + n_taps + 1;
        const size_t n_branches = n_weights / 3;
        const std::int64_t n_sets = branch->shape[0], n_features = branch->shape[1], n_mixing = branch[1].shape[1];
        std::int64_t largest = 1;
        std::string list;
        for (size_t i = 0; i < n_branches; ++i, branch += 3) {
            const std::int64_t side = branch[0].shape[4];
            expect(branch[0].rank == 5 && branch[0].shape[0] == n_sets && branch[0].shape[1] == n_features &&
                       branch[0].shape[2] == static_cast<std::int64_t>(n_taps) && branch[0].shape[3] == side &&
                       side % 2 == 1,
                   "BlindSpot: a kernel is (sets, features, taps, side, side), its side odd", branch[0]);
            expect(branch[1].rank == 4 && branch[1].shape[0] == n_sets && branch[1].shape[1] == n_mixing &&
                       branch[1].shape[2] == n_features && branch[1].shape[3] == n_features,
                   "BlindSpot: mixing matrices are (sets, layers, features, features)", branch[1]);
            expect(branch[2].rank == 2 && branch[2].shape[0] == n_sets && branch[2].shape[1] == n_features,
                   "BlindSpot: a head is (sets, features)", branch[2]);
            largest = std::max(largest, side);
            list += "BRANCH(" + std::to_string(i) + "," + std::to_string(side) + ")";
        }
        const auto define = [](const char* what, auto value) {
            return std::string("-D") + what + "=" + std::to_string(value);
        };
        n_taps_ = static_cast<int>(n_taps);
        module_.emplace(queue_.device().compile(
            blind_spot_source,
            {define("N_TAPS", n_taps), define("N_FEATURES", n_features), define("N_MIXING", n_mixing),
             define("LARGEST", largest), define("N_BRANCHES", n_branches), "-DBRANCHES=" + list}));
        kernel_ = module_->function("blind_spot");
    }

    Api api_;
    Queue& queue_;
    std::optional<Module> module_;
    void* kernel_ = nullptr;
    int n_taps_ = 0;
};

class LowPass {
public:
    static constexpr const char *name = "LowPass", *provider = provider_name;

    LowPass(Api api, Queue* queue) : api_(api), queue_(*queue) {}

    void compute(Context* context) {
        const Input frame = api_.input(context, 0), limit = api_.input(context, 1);
        expect(frame.rank == 4, "LowPass: a frame is (batch, channel, height, width)", frame);
        const std::int64_t n_planes = frame.shape[0] * frame.shape[1], n_pixels = frame.shape[2] * frame.shape[3];
        if (!plan_) build(n_planes, frame.shape[2], frame.shape[3]);
        const float *frames = frame.floats(), *cutoff = limit.floats();
        float *out = api_.output(context, frame.shape, 4), *level = static_cast<float*>(levels_.get());
        auto* spectrum = spectrum_.get();
        const auto planes = static_cast<unsigned>(n_planes), plane = static_cast<unsigned>(n_pixels);
        const auto height = static_cast<unsigned>(frame.shape[2]), width = static_cast<unsigned>(frame.shape[3]);
        constexpr unsigned block = 256, largest_block = 1024;
        const Queue::Size grid{blocks(n_pixels, block), planes};
        queue_.launch(sample_, {planes}, {largest_block}, frames, plane, level);
        queue_.launch(subtract_, grid, {block}, frames, static_cast<const float*>(level), plane, out);
        plan_->forward(out, spectrum);
        queue_.launch(disc_, {blocks(frame.shape[2] * (frame.shape[3] / 2 + 1), block), planes}, {block}, spectrum,
                      cutoff, height, width);
        plan_->backward(spectrum, out);
        queue_.launch(add_, grid, {block}, frames, static_cast<const float*>(level), cutoff, cutoff_all, plane, out);
    }

private:
    void build(std::int64_t n_planes, std::int64_t height, std::int64_t width) {
        module_.emplace(queue_.device().compile(low_pass_source, {}));
        sample_ = module_->function("sample_levels");
        subtract_ = module_->function("subtract_levels");
        disc_ = module_->function("keep_disc");
        add_ = module_->function("add_levels");
        constexpr size_t complex_bytes = 2 * sizeof(float);
        spectrum_ = queue_.allocate(static_cast<size_t>(n_planes * height * (width / 2 + 1)) * complex_bytes);
        levels_ = queue_.allocate(static_cast<size_t>(n_planes) * sizeof(float));
        plan_.emplace(queue_, static_cast<int>(n_planes), static_cast<int>(height), static_cast<int>(width));
    }

    Api api_;
    Queue& queue_;
    std::optional<Module> module_;
    void *sample_ = nullptr, *subtract_ = nullptr, *disc_ = nullptr, *add_ = nullptr;
    std::shared_ptr<void> spectrum_, levels_;
    std::optional<Fourier> plan_;
};

}  // namespace

std::vector<std::shared_ptr<const ops::CustomOp>> kernel_ops(ops::Table table, Queue& queue) {
    return {std::make_shared<const ops::KernelOp<BlindSpot, Queue*>>(Api(table), &queue),
            std::make_shared<const ops::KernelOp<LowPass, Queue*>>(Api(table), &queue)};
}

}  // namespace lowdose::cuda
