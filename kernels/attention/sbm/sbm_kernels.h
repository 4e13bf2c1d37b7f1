// The implementations behind sbm.h and memberships.h for each kind of device. Operands are checked
// before they come here. Private to kernels/attention.
#pragma once

#include "kernels/attention/sbm/memberships.h"
#include "kernels/attention/sbm/sbm.h"

namespace weft::kernels {

struct SbmKernels {
  // What the device does not cover, as kUnimplemented; null: it covers all.
  absl::Status (*supports)(const SbmProblem& problem) = nullptr;
  decltype(SbmSampleGraph)* sample = nullptr;
  decltype(SbmForward)* forward = nullptr;
  decltype(SbmBackward)* backward = nullptr;
};

struct SbmMembershipKernels {
  decltype(SbmMembershipForward)* forward = nullptr;
  decltype(SbmMembershipBackward)* backward = nullptr;
  decltype(SbmAffinityForward)* affinity_forward = nullptr;
  decltype(SbmAffinityBackward)* affinity_backward = nullptr;
};

decltype(SbmSampleGraph) SbmSampleGraphReference;
decltype(SbmForward) SbmForwardReference;
decltype(SbmBackward) SbmBackwardReference;
decltype(SbmMembershipForward) SbmMembershipForwardReference;
decltype(SbmMembershipBackward) SbmMembershipBackwardReference;
decltype(SbmAffinityForward) SbmAffinityForwardReference;
decltype(SbmAffinityBackward) SbmAffinityBackwardReference;

decltype(SbmSampleGraph) SbmSampleGraphCpu;
decltype(SbmForward) SbmForwardCpu;
decltype(SbmBackward) SbmBackwardCpu;
decltype(SbmMembershipForward) SbmMembershipForwardCpu;
decltype(SbmMembershipBackward) SbmMembershipBackwardCpu;
decltype(SbmAffinityForward) SbmAffinityForwardCpu;
decltype(SbmAffinityBackward) SbmAffinityBackwardCpu;

absl::Status SbmSupportsCuda(const SbmProblem& problem);
decltype(SbmSampleGraph) SbmSampleGraphCuda;
decltype(SbmForward) SbmForwardCuda;
decltype(SbmBackward) SbmBackwardCuda;
decltype(SbmMembershipForward) SbmMembershipForwardCuda;
decltype(SbmMembershipBackward) SbmMembershipBackwardCuda;
decltype(SbmAffinityForward) SbmAffinityForwardCuda;
decltype(SbmAffinityBackward) SbmAffinityBackwardCuda;

void RegisterSbm(DeviceKind kind, const SbmKernels& kernels);
void RegisterSbmMemberships(DeviceKind kind, const SbmMembershipKernels& kernels);

}  // namespace weft::kernels
