#include "kernels.hpp"

#include "blind_features_op.hpp"
#include "blind_spot_op.hpp"
#include "kernel_op.hpp"
#include "low_pass_op.hpp"

namespace lowdose::ops {

std::vector<std::shared_ptr<const CustomOp>> kernel_ops(Table table, InstructionSet set) {
    return {std::make_shared<const KernelOp<BlindFeaturesKernel, InstructionSet>>(Api(table), set),
            std::make_shared<const KernelOp<BlindSpotKernel, InstructionSet>>(Api(table), set),
            std::make_shared<const KernelOp<LowPassKernel, InstructionSet>>(Api(table), set)};
}

}  // namespace lowdose::ops
