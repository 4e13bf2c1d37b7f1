// SBM attention on a GPU: tensors as the launchers of sbm_cuda.h take them.
#include "kernels/attention/sbm/cuda/sbm_cuda.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "kernels/attention/cuda/plain_dropout.h"
#include "kernels/attention/sbm/sampling_law.h"
#include "kernels/attention/sbm/sbm_kernels.h"
#include "kernels/device/cuda/cuda_status.h"
#include "kernels/device/cuda/cuda_stream.h"
#include "kernels/device/cuda/gemm.h"

namespace weft::kernels {
namespace {

// Drawing takes the memory of so many heads at once as fit into this, and of one at least.
constexpr int64_t kDrawingBytes = int64_t{1} << 30;

sbm::Sizes SizesOf(const SbmProblem& p) {
  return {.batch = static_cast<int>(p.batch),
          .queries = static_cast<int>(p.queries),
          .keys = static_cast<int>(p.keys),
          .heads = static_cast<int>(p.heads),
          .dim = static_cast<int>(p.head_dim),
          .clusters = static_cast<int>(p.clusters),
          .causal = p.causal};
}

template <typename T>
T* Data(const Tensor& tensor) {
  return static_cast<T*>(tensor.address());
}

sbm::DrawPlace PlaceOf(const SbmProblem& p, const SbmDraws& draws, RandomTag purpose) {
  const GraphDraws of(draws, purpose, p.heads, 0, 0);
  const PhiloxWords counter = CounterOf(of.site, 0, 0);
  return {.counter2 = counter[2], .counter3 = counter[3], .first_ordinal = of.first_ordinal};
}

sbm::PairArgs PairsOf(const SbmProblem& p, const SbmGraph& graph, const Tensor& q, const Tensor& k,
                      const Tensor& v, const sbm::PairLists& lists) {
  const bool counts = p.sampler == SbmSampler::kPoissonCopies;
  return {.sizes = SizesOf(p),
          .scale = static_cast<float>(p.scale),
          .lists = lists,
          .copies = counts ? Data<uint8_t>(graph.copies) : nullptr,
          .copies_step = counts ? 4 * graph.copies.dim(3) : 0,
          .dropout = PlaceOf(p.dropout, p.heads),
          .q = q.address(),
          .k = k.address(),
          .v = v.address()};
}

// The memberships of one side in the compute type: as they are, or rounded to `space`.
absl::StatusOr<const void*> OfComputeType(CudaStream& cuda, const Tensor& memberships,
                                          void* space) {
  if (!cuda.launch().bf16) return memberships.address();
  WEFT_RETURN_IF_ERROR(CudaStatus(
      sbm::RoundMemberships(cuda.launch(), memberships.count(), Data<float>(memberships), space),
      "SbmBackward"));
  return space;
}

// d_query = Z S^T, d_key = Z' S, d_affinity = sum over sequences of y^T Z, all in fp32.
absl::Status FinishMemberships(CudaStream& cuda, const SbmProblem& p,
                               const SbmMemberships& memberships, const float* query_sums,
                               const float* key_sums, SbmMemberships& d) {
  const int64_t n = p.clusters;
  const auto* const affinity = Data<float>(memberships.affinity);
  WEFT_RETURN_IF_ERROR(CudaStatus(
      sbm::TimesAffinity(cuda.launch(), SizesOf(p), static_cast<int>(p.queries),
                         /*transposed=*/true, query_sums, affinity, Data<float>(d.query)),
      "SbmBackward"));
  WEFT_RETURN_IF_ERROR(
      CudaStatus(sbm::TimesAffinity(cuda.launch(), SizesOf(p), static_cast<int>(p.keys),
                                    /*transposed=*/false, key_sums, affinity, Data<float>(d.key)),
                 "SbmBackward"));
  // All sequences at once: a product of so few rows and columns lasts as long as its depth.
  const int all_heads = static_cast<int>(p.batch * p.heads);
  WEFT_ASSIGN_OR_RETURN(const CudaScratch parts, cuda.Scratch(all_heads * n * n * 4));
  WEFT_RETURN_IF_ERROR(Run(cuda, {.m = n,
                                  .n = n,
                                  .k = p.queries,
                                  .a = memberships.query.address(),
                                  .a_stride = n,
                                  .a_transposed = true,
                                  .b = query_sums,
                                  .b_stride = n,
                                  .d = parts.data<float>(),
                                  .d_stride = n,
                                  .batch = all_heads,
                                  .a_step = p.queries * n,
                                  .b_step = p.queries * n,
                                  .d_step = n * n,
                                  .operands_f32 = true}));
  return CudaStatus(
      sbm::SumSequences(cuda.launch(), SizesOf(p), parts.data<float>(), Data<float>(d.affinity)),
      "SbmBackward");
}

// What the kernels cover.
constexpr int64_t kWidest = 128;
constexpr int64_t kMostHeads = 65535;  // blocks of a grid in its second and third dimension
constexpr int64_t kMostTokens = int64_t{1} << 20;

}  // namespace

absl::Status SbmSupportsCuda(const SbmProblem& p) {
  if (p.head_dim > kWidest) {
    return absl::UnimplementedError(absl::StrCat("SBM on cuda: head_dim ", p.head_dim,
                                                 " is more than ", kWidest,
                                                 ", the widest rows that its tiles hold"));
  }
  if (p.batch * p.heads > kMostHeads) {
    return absl::UnimplementedError(absl::StrCat("SBM on cuda: ", p.batch, " sequences of ",
                                                 p.heads, " heads are more than ", kMostHeads,
                                                 " heads"));
  }
  if (p.keys > kMostTokens) {
    return absl::UnimplementedError(
        absl::StrCat("SBM on cuda: ", p.keys, " keys are more than ", kMostTokens));
  }
  return absl::OkStatus();
}

absl::Status SbmSampleGraphCuda(Stream& stream, const SbmProblem& p, const SbmDraws& draws,
                                const SbmMemberships& memberships, const Tensor& valid,
                                SbmGraph& graph) {
  WEFT_RETURN_IF_ERROR(SbmSupportsCuda(p));
  CudaStream& cuda = AsCudaStream(stream);
  const sbm::Sizes sizes = SizesOf(p);
  const int64_t one = sbm::GraphScratchBytes(sizes, 1);
  const int at_once =
      static_cast<int>(std::clamp<int64_t>(kDrawingBytes / one, 1, sizes.all_heads()));
  WEFT_ASSIGN_OR_RETURN(const CudaScratch scratch,
                        cuda.Scratch(sbm::GraphScratchBytes(sizes, at_once)));
  using Law = sbm::GraphArgs::Law;
  const bool counts = p.sampler == SbmSampler::kPoissonCopies;
  const sbm::GraphArgs args{.sizes = sizes,
                            .law = p.sampler == SbmSampler::kDense   ? Law::kDense
                                   : p.sampler == SbmSampler::kExact ? Law::kExact
                                                                     : Law::kPoisson,
                            .exploration = p.exploration,
                            .seed = draws.seed,
                            .counts = PlaceOf(p, draws, RandomTag::kRowCounts),
                            .edges = PlaceOf(p, draws, RandomTag::kEdgeEndpoints),
                            .thinning = PlaceOf(p, draws, RandomTag::kThinning),
                            .dense = PlaceOf(p, draws, RandomTag::kDenseMask),
                            .query = Data<float>(memberships.query),
                            .key = Data<float>(memberships.key),
                            .affinity = Data<float>(memberships.affinity),
                            .valid = Data<int32_t>(valid),
                            .bits = Data<uint32_t>(graph.bits),
                            .copies = counts ? Data<uint32_t>(graph.copies) : nullptr,
                            .density = Data<float>(graph.density),
                            .scratch = scratch.data<void>()};
  return CudaStatus(sbm::DrawGraph(cuda.launch(), args, at_once), "SbmSampleGraph");
}

absl::Status SbmForwardCuda(Stream& stream, const SbmProblem& p, const Tensor& q, const Tensor& k,
                            const Tensor& v, const SbmGraph& graph, Tensor& o, Tensor& lse) {
  WEFT_RETURN_IF_ERROR(SbmSupportsCuda(p));
  CudaStream& cuda = AsCudaStream(stream);
  const sbm::Sizes sizes = SizesOf(p);
  WEFT_ASSIGN_OR_RETURN(const CudaScratch scratch, cuda.Scratch(sbm::QueryListBytes(sizes)));
  sbm::PairLists lists;
  WEFT_RETURN_IF_ERROR(
      CudaStatus(sbm::ListByQueries(cuda.launch(), sizes, Data<uint32_t>(graph.bits),
                                    scratch.data<void>(), &lists),
                 "SbmForward"));
  return CudaStatus(
      sbm::Forward(cuda.launch(), PairsOf(p, graph, q, k, v, lists), o.address(), Data<float>(lse)),
      "SbmForward");
}

absl::Status SbmBackwardCuda(Stream& stream, const SbmProblem& p, const SbmSaved& saved,
                             const Tensor& d_o, Tensor& d_q, Tensor& d_k, Tensor& d_v,
                             SbmMemberships& d_memberships) {
  WEFT_RETURN_IF_ERROR(SbmSupportsCuda(p));
  CudaStream& cuda = AsCudaStream(stream);
  const sbm::Sizes sizes = SizesOf(p);
  const int64_t query_sums = p.batch * p.heads * p.queries * p.clusters;
  const int64_t key_sums = p.batch * p.heads * p.keys * p.clusters;
  const int64_t means = p.batch * p.heads * p.queries;
  const int64_t most_memberships = std::max(query_sums, key_sums);
  WEFT_ASSIGN_OR_RETURN(const CudaScratch sums,
                        cuda.Scratch((query_sums + key_sums + means + p.batch) * 4));
  WEFT_ASSIGN_OR_RETURN(const CudaScratch rounded, cuda.Scratch(most_memberships * 2));
  auto* const z = sums.data<float>();
  float* const mean = z + query_sums + key_sums;
  float* const density_part = mean + means;
  WEFT_RETURN_IF_ERROR(
      CudaStatus(sbm::PrepareGradients(cuda.launch(), sizes, saved.o.address(), d_o.address(),
                                       Data<int32_t>(saved.valid),
                                       static_cast<float>(p.density_gradient), mean, density_part),
                 "SbmBackward"));
  WEFT_ASSIGN_OR_RETURN(const CudaScratch space, cuda.Scratch(std::max(sbm::QueryListBytes(sizes),
                                                                       sbm::KeyListBytes(sizes))));
  const auto* const bits = Data<uint32_t>(saved.graph.bits);
  sbm::PairLists lists;
  WEFT_RETURN_IF_ERROR(CudaStatus(
      sbm::ListByQueries(cuda.launch(), sizes, bits, space.data<void>(), &lists), "SbmBackward"));
  sbm::GradientArgs args{.pairs = PairsOf(p, saved.graph, saved.q, saved.k, saved.v, lists),
                         .d_o = d_o.address(),
                         .lse = Data<float>(saved.lse),
                         .mean = mean,
                         .density_part = density_part,
                         .logit = p.straight_through == SbmStraightThrough::kLogit,
                         .clip = static_cast<float>(p.clip),
                         .sums = z};
  WEFT_ASSIGN_OR_RETURN(args.memberships,
                        OfComputeType(cuda, saved.memberships.key, rounded.data<void>()));
  WEFT_RETURN_IF_ERROR(
      CudaStatus(sbm::QueryGradients(cuda.launch(), args, d_q.address()), "SbmBackward"));
  WEFT_RETURN_IF_ERROR(
      CudaStatus(sbm::ListByKeys(cuda.launch(), sizes, bits, space.data<void>(), &args.pairs.lists),
                 "SbmBackward"));
  WEFT_ASSIGN_OR_RETURN(args.memberships,
                        OfComputeType(cuda, saved.memberships.query, rounded.data<void>()));
  args.sums = z + query_sums;
  WEFT_RETURN_IF_ERROR(CudaStatus(
      sbm::KeyGradients(cuda.launch(), args, d_k.address(), d_v.address()), "SbmBackward"));
  return FinishMemberships(cuda, p, saved.memberships, z, z + query_sums, d_memberships);
}

}  // namespace weft::kernels
