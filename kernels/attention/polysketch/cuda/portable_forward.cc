#include <algorithm>
#include <cmath>

#include "common/base/status_macros.h"
#include "kernels/attention/polysketch/cuda/portable.h"
#include "kernels/attention/polysketch/cuda/portable_sequence.h"
#include "kernels/device/cuda/cuda_status.h"

namespace weft::kernels::portable {
namespace {

// What a piece of queries reads from the state and from pairs with `keys`, and the quotient.
absl::Status ForwardPiece(const Sequence& at, TokenRange queries, TokenRange keys, Tensor& o,
                          PolysketchSaved& saved) {
  const CudaLaunch& on = at.stream.launch();
  const Space& space = at.space;
  const int64_t n = queries.count();
  const int64_t dim = at.problem.head_dim;
  const int64_t m = SelfProducts(at.problem.sketch_dim);
  const bool far = !at.exact() && !at.past.is_zero;
  if (far) {
    const TokenRows phi = at.Rows(at.inputs.phi_q, queries);
    WEFT_RETURN_IF_ERROR(CudaStatus(
        LaunchSelfProducts(on, {.phi = phi, .scale = at.root, .products = space.features}),
        "polysketch: features of queries"));
    WEFT_RETURN_IF_ERROR(at.Product(n, dim, m, Sequence::Dense(space.features, n, m),
                                    Sequence::Dense(at.past.rounded, m, dim), space.num,
                                    /*add=*/false));
    WEFT_RETURN_IF_ERROR(CudaStatus(LaunchMassRead(on, phi, at.root, at.past.mass, space.far),
                                    "polysketch: denominators"));
  }
  const bool near = keys.count() > 0;
  if (near) {
    PairsCall pairs;
    WEFT_RETURN_IF_ERROR(at.PairProducts(queries, keys, pairs));
    WEFT_RETURN_IF_ERROR(CudaStatus(LaunchPairWeights(on, pairs, space.weights, space.near),
                                    "polysketch: weights of pairs"));
    WEFT_RETURN_IF_ERROR(at.Product(n, dim, keys.count(),
                                    Sequence::Dense(space.weights, n, keys.count()),
                                    at.Operand(at.inputs.v, keys), space.num, /*add=*/far));
  }
  if (!near && !far) {
    const auto bytes = static_cast<size_t>(at.problem.heads * n * dim) * sizeof(float);
    WEFT_RETURN_IF_ERROR(
        CudaStatus(cudaMemsetAsync(space.num, 0, bytes, on.stream), "polysketch: nothing seen"));
  }
  const bool saves = saved.total.present();
  const int64_t row = at.FirstRow(queries);
  const auto c0 = static_cast<float>(at.problem.c0) * at.root * at.root;
  return CudaStatus(
      LaunchQuotient(on, {.num = space.num,
                          .near = near ? space.near : nullptr,
                          .far = far ? space.far : nullptr,
                          .c0 = c0,
                          .o = at.Rows(o, queries),
                          .total = saves ? saved.total.data<float>() + row : nullptr,
                          .far_saved = saves ? saved.far.data<float>() + row : nullptr,
                          .stride = at.problem.queries}),
      "polysketch: quotient");
}

absl::Status ForwardSequence(Sequence& at, const PolysketchState& initial, Tensor& o,
                             PolysketchState& final, PolysketchSaved& saved) {
  if (!at.exact()) WEFT_RETURN_IF_ERROR(at.LoadState(initial, at.past));
  const TokenRange all = {0, at.problem.queries};
  if (at.whole() || at.blocks() == 0) {
    if (at.problem.keys > 0) WEFT_RETURN_IF_ERROR(at.FoldKeys({0, at.problem.keys}, 1, at.past));
    WEFT_RETURN_IF_ERROR(
        at.ForPieces(all, [&](TokenRange piece) { return ForwardPiece(at, piece, {}, o, saved); }));
    return at.StoreState(at.past, final);
  }
  for (int64_t block = 0; block < at.blocks(); ++block) {
    const TokenRange keys = at.Keys(block);
    WEFT_RETURN_IF_ERROR(at.ForPieces(at.Queries(keys), [&](TokenRange piece) {
      return ForwardPiece(at, piece, at.NearKeys(keys, piece), o, saved);
    }));
    const bool read_again = block + 1 < at.blocks() || final.values.present();
    if (read_again && at.Folds(keys)) WEFT_RETURN_IF_ERROR(at.FoldKeys(keys, 1, at.past));
  }
  return at.StoreState(at.past, final);
}

}  // namespace

absl::Status Forward(Stream& stream, const PolysketchProblem& problem,
                     const PolysketchInputs& inputs, const PolysketchState& initial, Tensor& o,
                     PolysketchState& final, PolysketchSaved& saved) {
  Sequence at(AsCudaStream(stream), problem, inputs);
  WEFT_ASSIGN_OR_RETURN(const CudaScratch scratch, at.Allocate(/*backward=*/false));
  for (int64_t batch = 0; batch < problem.batch; ++batch) {
    at.Choose(batch);
    WEFT_RETURN_IF_ERROR(ForwardSequence(at, initial, o, final, saved));
  }
  return absl::OkStatus();
}

absl::Status Undo(Stream& stream, const PolysketchProblem& problem, const PolysketchInputs& inputs,
                  PolysketchState& state) {
  Sequence at(AsCudaStream(stream), problem, inputs);
  WEFT_ASSIGN_OR_RETURN(const CudaScratch scratch, at.Allocate(/*backward=*/false));
  for (int64_t batch = 0; batch < problem.batch; ++batch) {
    at.Choose(batch);
    WEFT_RETURN_IF_ERROR(at.LoadState(state, at.past));
    WEFT_RETURN_IF_ERROR(at.FoldKeys({0, problem.keys}, -1, at.past));
    WEFT_RETURN_IF_ERROR(at.StoreState(at.past, state));
  }
  return absl::OkStatus();
}

}  // namespace weft::kernels::portable
