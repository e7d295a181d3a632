// Our kernels as ONNX Runtime sees them: custom operators of the domain `lowdose`. Where one is registered, it runs in
// place of the body of the function of the same name (export/lowdose_export/functions.py).
#pragma once

#include <memory>

#include "custom_op.hpp"
#include "instruction_set.hpp"

namespace lowdose::ops {

// The operator BlindSpot; must outlive the sessions that it is registered with. table: of kernel_api_version.
std::shared_ptr<const CustomOp> blind_spot_op(Table table, InstructionSet set);

}  // namespace lowdose::ops
