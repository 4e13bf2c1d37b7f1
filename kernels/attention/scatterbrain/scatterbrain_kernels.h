// The implementations behind scatterbrain.h, a set for each kind of device. Operands are checked
// before they come here. Private to kernels/attention.
#pragma once

#include "kernels/attention/scatterbrain/scatterbrain.h"

namespace weft::kernels {

using HashBucketsKernel = decltype(HashBuckets);
using ScatterbrainForwardKernel = decltype(ScatterbrainForward);
using ScatterbrainBackwardKernel = decltype(ScatterbrainBackward);
using ScatterbrainDecodeKernel = decltype(ScatterbrainDecode);

HashBucketsKernel HashBucketsReference;
ScatterbrainForwardKernel ScatterbrainForwardReference;
ScatterbrainBackwardKernel ScatterbrainBackwardReference;
ScatterbrainDecodeKernel ScatterbrainDecodeReference;
HashBucketsKernel HashBucketsCpu;
ScatterbrainForwardKernel ScatterbrainForwardCpu;
ScatterbrainBackwardKernel ScatterbrainBackwardCpu;
ScatterbrainDecodeKernel ScatterbrainDecodeCpu;

absl::Status ScatterbrainSupportsCuda(const ScatterbrainProblem& problem);
HashBucketsKernel HashBucketsCuda;
ScatterbrainForwardKernel ScatterbrainForwardCuda;
ScatterbrainBackwardKernel ScatterbrainBackwardCuda;

struct ScatterbrainKernels {
  // What the device does not cover, as kUnimplemented; null: it covers all.
  absl::Status (*supports)(const ScatterbrainProblem& problem);
  HashBucketsKernel* hash_buckets;
  ScatterbrainForwardKernel* forward;
  ScatterbrainBackwardKernel* backward;
  ScatterbrainDecodeKernel* decode;  // null: the device cannot decode
};

void RegisterScatterbrain(DeviceKind kind, const ScatterbrainKernels& kernels);

}  // namespace weft::kernels
