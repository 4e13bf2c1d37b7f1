// Softmax attention on a GPU: tensors as softmax_cuda.h takes them.
#include "kernels/attention/softmax/cuda/softmax_cuda.h"

#include <algorithm>
#include <limits>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "kernels/attention/cuda/plain_dropout.h"
#include "kernels/attention/softmax/cuda/softmax_sm90.h"
#include "kernels/attention/softmax/softmax_kernels.h"
#include "kernels/device/cuda/cuda_status.h"
#include "kernels/device/cuda/cuda_stream.h"

namespace weft::kernels {
namespace {

bool OnVectors(const Tensor& tensor) {
  return reinterpret_cast<uintptr_t>(tensor.address()) % 16 == 0;
}

SoftmaxCudaProblem PlainProblem(const SoftmaxProblem& p, const Tensor& q, const Tensor& k,
                                const Tensor& v, const Tensor& valid,
                                std::initializer_list<const Tensor*> others) {
  const int64_t row_bytes = p.head_dim * (q.bytes() / std::max<int64_t>(q.count(), 1));
  bool vectors = row_bytes % 16 == 0;
  for (const Tensor* tensor : {&q, &k, &v}) vectors = vectors && OnVectors(*tensor);
  for (const Tensor* tensor : others) vectors = vectors && OnVectors(*tensor);
  return {.batch = static_cast<int>(p.batch),
          .queries = static_cast<int>(p.queries),
          .keys = static_cast<int>(p.keys),
          .heads = static_cast<int>(p.heads),
          .kv_heads = static_cast<int>(p.kv_heads),
          .head_dim = static_cast<int>(p.head_dim),
          .scale = static_cast<float>(p.scale),
          .causal = p.causal,
          .window = static_cast<int>(std::min(p.window, p.keys + p.queries)),
          .dropout = PlaceOf(p.dropout, p.heads),
          .vectors = vectors,
          .q = q.address(),
          .k = k.address(),
          .v = v.address(),
          .valid = static_cast<const int32_t*>(valid.address())};
}

bool HasHopperKernels(const Device& device) {
  return device.compute_dtype() == DType::kBf16 &&
         absl::StartsWith(device.device_class(), "cuda-sm90");
}

}  // namespace

absl::Status SoftmaxLimitsCuda(const Device& /*device*/, const SoftmaxProblem& p) {
  if (p.head_dim > kWidestHead) {
    return absl::UnimplementedError(absl::StrCat("softmax on cuda: heads are ", p.head_dim,
                                                 " wide, at most ", kWidestHead, " are covered"));
  }
  constexpr int64_t kMost = std::numeric_limits<int>::max();
  const int64_t blocks = (std::max(p.queries, p.keys) / 16 + 1) * p.batch * p.heads * 2;
  if (p.queries + p.keys > kMost / 2 || blocks > kMost) {
    return absl::UnimplementedError(absl::StrCat("softmax on cuda: ", p.batch, " x ", p.heads,
                                                 " heads of ", p.queries, " queries and ", p.keys,
                                                 " keys are more than one launch takes"));
  }
  return absl::OkStatus();
}

absl::Status SoftmaxForwardCuda(Stream& stream, const SoftmaxProblem& problem, const Tensor& q,
                                const Tensor& k, const Tensor& v, const Tensor& valid, Tensor& o,
                                Tensor& lse) {
  if (problem.queries == 0) return absl::OkStatus();
  CudaStream& cuda = AsCudaStream(stream);
  const SoftmaxCudaProblem plain = PlainProblem(problem, q, k, v, valid, {&o});
  auto* const sums = static_cast<float*>(lse.address());
  if (HasHopperKernels(stream.device()) && sm90::WhyNotCovered(plain) == nullptr) {
    WEFT_ASSIGN_OR_RETURN(const CudaScratch taken, cuda.Scratch(sizeof(int32_t)));
    return CudaStatus(
        sm90::SoftmaxForward(cuda.launch(), plain, taken.data<int32_t>(), o.address(), sums),
        "SoftmaxForward");
  }
  return CudaStatus(LaunchSoftmaxForward(cuda.launch(), plain, o.address(), sums),
                    "SoftmaxForward");
}

absl::Status SoftmaxBackwardCuda(Stream& stream, const SoftmaxProblem& problem, const Tensor& q,
                                 const Tensor& k, const Tensor& v, const Tensor& valid,
                                 const Tensor& o, const Tensor& lse, const Tensor& d_o, Tensor& d_q,
                                 Tensor& d_k, Tensor& d_v) {
  CudaStream& cuda = AsCudaStream(stream);
  const SoftmaxCudaProblem plain =
      PlainProblem(problem, q, k, v, valid, {&o, &d_o, &d_q, &d_k, &d_v});
  SoftmaxCudaGradients gradients = {.o = o.address(),
                                    .lse = static_cast<const float*>(lse.address()),
                                    .d_o = d_o.address(),
                                    .d_q = d_q.address(),
                                    .d_k = d_k.address(),
                                    .d_v = d_v.address(),
                                    .means = nullptr};
  if (HasHopperKernels(stream.device()) && sm90::WhyNotCovered(plain) == nullptr) {
    WEFT_ASSIGN_OR_RETURN(const CudaScratch scratch,
                          cuda.Scratch(sm90::SoftmaxBackwardScratchBytes(plain)));
    return CudaStatus(
        sm90::SoftmaxBackward(cuda.launch(), plain, gradients, scratch.data<uint8_t>()),
        "SoftmaxBackward");
  }
  WEFT_ASSIGN_OR_RETURN(
      const CudaScratch means,
      cuda.Scratch(problem.batch * problem.heads * problem.queries * int64_t{sizeof(float)}));
  gradients.means = means.data<float>();
  return CudaStatus(LaunchSoftmaxBackward(cuda.launch(), plain, gradients), "SoftmaxBackward");
}

}  // namespace weft::kernels
