// Our kernels for NVIDIA GPUs as ONNX Runtime sees them; as ops/kernels.hpp for the CPU.
#pragma once

#include <memory>
#include <vector>

#include "cuda/device.hpp"
#include "ops/custom_op.hpp"

namespace lowdose::cuda {

// The operators BlindSpot and LowPass, whose work goes into `queue`, which must be the one of the sessions that they
// are registered with. Operators and queue must outlive those sessions.
std::vector<std::shared_ptr<const ops::CustomOp>> kernel_ops(ops::Table table, Queue& queue);

}  // namespace lowdose::cuda
