#include "contract.hpp"

#include <algorithm>
#include <cstdlib>

#include "error.hpp"
#include "json.hpp"

namespace lowdose {

namespace {

constexpr int newest_spec = 1;

bool is_object(const Json& json, const std::string& key) {
    return json.has(key) && json.at(key).type() == Json::Type::object;
}

void read_taps(const std::string& path, const Json& json, Contract& contract) {
    const std::string& axis = json.at("axis").string();
    if (axis != "time" && axis != "scan") throw Error(path + ": taps must lie along 'time' or over the 'scan'");
    contract.scan = axis == "scan";
    for (const Json& offset : json.at("offsets").array()) {
        if (contract.scan)
            contract.taps.push_back({offset.array().at(0).integer(), offset.array().at(1).integer()});
        else
            contract.taps.push_back({0, offset.integer()});
    }
    const auto earlier = [](const Tap& a, const Tap& b) { return a.dx < b.dx; };
    if (contract.centre() < 0) throw Error(path + ": the tap offsets must hold that of the frame itself");
    if (!contract.scan && !std::is_sorted(contract.taps.begin(), contract.taps.end(), earlier))
        throw Error(path + ": tap offsets along time must ascend");
}

void read_rules(const std::string& path, const Json& json, Contract& contract) {
    const std::string &ends = json.at("ends").string(), &boundary = json.at("boundary").string();
    if (ends != "mirror" && ends != "repeat") throw Error(path + ": the rule for the ends must be mirror or repeat");
    if (boundary != "periodic" && boundary != "internal")
        throw Error(path + ": the boundary rule must be periodic or internal");
    contract.ends = ends == "mirror" ? Ends::mirror : Ends::repeat;
    contract.periodic = boundary == "periodic";
    if (is_object(json, "normalisation")) {
        const Json& normalisation = json.at("normalisation");
        if (normalisation.at("rule").string() != "window")
            throw Error(path + ": the rule of normalisation must be window");
        contract.takes_offset = true;
        contract.takes_scale = normalisation.at("scale_stds").type() == Json::Type::number;
        if (contract.takes_scale) contract.scale_stds = normalisation.at("scale_stds").number();
    }
    contract.percentile_offset = !contract.takes_offset;
    if (json.has("offset_rule")) {
        const std::string& rule = json.at("offset_rule").string();
        if (rule != "percentile" && rule != "none") throw Error(path + ": the offset rule must be percentile or none");
        contract.percentile_offset = rule == "percentile";
    }
    if (is_object(json, "state")) {
        contract.n_states = static_cast<int>(json.at("state").at("inputs").array().size());
        contract.state_channels = json.at("state").at("channels").integer();
    }
    if (is_object(json, "block")) {
        contract.block_frames = json.at("block").at("n_frames").integer();
        contract.block_overlap = json.at("block").at("overlap").integer();
    }
}

// What the stream and the choice of settings rely on.
void check(const std::string& path, const Contract& contract) {
    if (contract.margin_px < 0 || contract.align_px < 1 || contract.min_size_px < 1 || contract.n_channels < 1 ||
        contract.n_weight_sets < 1 || contract.bytes_per_px <= 0 || contract.state_channels < 0)
        throw Error(path + ": a number in its metadata is out of range");
    const bool chooses = contract.has_low_pass || contract.n_weight_sets > 1;
    const bool plain = !contract.takes_offset && contract.n_states == 0 && contract.block_frames == 0;
    if (chooses && !(plain && contract.periodic && contract.align_px == 1 && contract.n_channels == 1))
        throw Error(path + ": a bank or a low-pass needs a periodic model of one channel without normalisation");
    if (contract.percentile_offset && (contract.n_channels > 1 || contract.takes_offset))
        throw Error(path + ": the percentile offset is for one channel without normalisation");
    if (contract.n_states > 0 && (contract.scan || contract.ends != Ends::repeat))
        throw Error(path + ": state needs taps along time and ends of the rule repeat");
    const bool consecutive = contract.centre() == 0 && contract.reach_x() == contract.n_taps() - 1;
    if (contract.block_frames > 0 &&
        (contract.scan || contract.n_channels != 1 || !consecutive || contract.block_frames != contract.n_taps() ||
         contract.block_overlap < 0 || 2 * contract.block_overlap > contract.block_frames))
        throw Error(path + ": a block needs one channel, taps 0 to n_frames - 1 and an overlap of at most half of it");
}

}  // namespace

int Contract::centre() const {
    for (size_t i = 0; i < taps.size(); ++i)
        if (taps[i].dy == 0 && taps[i].dx == 0) return static_cast<int>(i);
    return -1;
}

int Contract::reach_y() const {
    int reach = 0;
    for (const Tap& tap : taps) reach = std::max(reach, std::abs(tap.dy));
    return reach;
}

int Contract::reach_x() const {
    int reach = 0;
    for (const Tap& tap : taps) reach = std::max(reach, std::abs(tap.dx));
    return reach;
}

Contract read_contract(const std::string& path, const std::string& metadata) {
    if (metadata.empty())
        throw Error(path + " is an ONNX file without lowdose metadata: make model files with 'lowdose export'");
    const Json json = Json::parse(metadata);
    if (const int spec = json.at("spec").integer(); spec > newest_spec)
        throw Error(path + " follows spec " + std::to_string(spec) + " of the model file; this lowdose reads up to " +
                    std::to_string(newest_spec) + ": update lowdose");
    Contract contract;
    contract.method = json.at("method").string();
    if (json.has("kind"))
        throw Error(path + " is a " + json.at("kind").string() + " (" + contract.method +
                    "), not a denoiser; use it with --model " + contract.method);
    read_taps(path, json.at("taps"), contract);
    read_rules(path, json, contract);
    contract.n_channels = static_cast<int>(json.at("channels").array().size());
    contract.margin_px = json.at("margin_px").integer();
    contract.align_px = json.at("align_px").integer();
    contract.min_size_px = json.at("min_size_px").integer();
    if (json.has("size_px")) {
        contract.height = json.at("size_px").array().at(0).integer();
        contract.width = json.at("size_px").array().at(1).integer();
        if (contract.height < 1 || contract.width < 1) throw Error(path + ": size_px must be a height and a width");
    }
    contract.n_weight_sets = static_cast<int>(json.at("weight_sets").array().size());
    contract.has_low_pass = is_object(json, "low_pass");
    contract.half = json.has("precision") && json.at("precision").string() == "fp16";
    contract.bytes_per_px = json.at("bytes_per_px").number();
    check(path, contract);
    return contract;
}

}  // namespace lowdose
