// Our kernels as ONNX Runtime sees them: custom operators of the domain `lowdose`. Where one is registered, it runs in
// place of the body of the function of the same name (export/lowdose_export/functions.py).
#pragma once

#include <memory>
#include <vector>

#include "custom_op.hpp"
#include "instruction_set.hpp"

namespace lowdose::ops {

// The operators BlindFeatures, BlindSpot and LowPass; must outlive the sessions that they are registered with. table:
// of kernel_api_version.
std::vector<std::shared_ptr<const CustomOp>> kernel_ops(Table table, InstructionSet set);

}  // namespace lowdose::ops
