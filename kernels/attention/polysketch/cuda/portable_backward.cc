// Two walks over the blocks of a sequence. Forwards: the states are made again, and the gradients
// of queries. Backwards: the gradients of the states, and those of keys and values. Pairs are
// computed in both, so that every gradient is summed in fp32 and rounded once.
#include <algorithm>

#include "common/base/status_macros.h"
#include "kernels/attention/polysketch/cuda/portable.h"
#include "kernels/attention/polysketch/cuda/portable_sequence.h"
#include "kernels/device/cuda/cuda_status.h"

namespace weft::kernels::portable {
namespace {

struct BackwardCall {
  Sequence& at;
  const Tensor& o;
  const PolysketchSaved& saved;
  const Tensor& d_o;
  PolysketchGradients& gradients;

  [[nodiscard]] const CudaLaunch& on() const { return at.stream.launch(); }
  [[nodiscard]] HeadMatrices DNum(int64_t n) const {
    return Sequence::Dense(at.space.d_num, n, at.problem.head_dim);
  }
};

absl::Status QuerySlopes(const BackwardCall& call, TokenRange queries) {
  const Sequence& at = call.at;
  const int64_t row = at.FirstRow(queries);
  return CudaStatus(LaunchQuerySlopes(call.on(), {.o = at.Rows(call.o, queries),
                                                  .d_o = at.Rows(call.d_o, queries),
                                                  .total = call.saved.total.data<float>() + row,
                                                  .far = call.saved.far.data<float>() + row,
                                                  .stride = at.problem.queries,
                                                  .d_num = at.space.d_num,
                                                  .shift = at.space.near,
                                                  .far_shift = at.space.far}),
                    "polysketch: slopes of queries");
}

// Weights and slopes of the products of pairs; after QuerySlopes of the same queries.
absl::Status PairSlopes(const BackwardCall& call, TokenRange queries, TokenRange keys) {
  const Sequence& at = call.at;
  const Space& space = at.space;
  PairsCall pairs;
  WEFT_RETURN_IF_ERROR(at.PairProducts(queries, keys, pairs));
  const int64_t n = queries.count();
  WEFT_RETURN_IF_ERROR(at.Product(n, keys.count(), at.problem.head_dim, call.DNum(n),
                                  at.Operand(at.inputs.v, keys).Transposed(), space.d_weights,
                                  /*add=*/false));
  return CudaStatus(LaunchPairSlopes(call.on(), pairs, space.d_weights, space.near, space.weights,
                                     space.d_products),
                    "polysketch: slopes of pairs");
}

// The gradients of a piece of queries.
absl::Status QueryGradients(const BackwardCall& call, TokenRange queries, TokenRange keys) {
  const Sequence& at = call.at;
  const Space& space = at.space;
  const int64_t n = queries.count();
  const int64_t width = at.near_width();
  WEFT_RETURN_IF_ERROR(QuerySlopes(call, queries));
  const bool near = keys.count() > 0;
  if (near) {
    WEFT_RETURN_IF_ERROR(PairSlopes(call, queries, keys));
    WEFT_RETURN_IF_ERROR(at.Product(n, width, keys.count(),
                                    Sequence::Dense(space.d_products, n, keys.count()),
                                    at.Operand(at.near_k(), keys), space.d_rows, /*add=*/false));
  } else if (!at.sketched()) {
    const auto bytes = static_cast<size_t>(at.problem.heads * n * width) * sizeof(float);
    WEFT_RETURN_IF_ERROR(CudaStatus(cudaMemsetAsync(space.d_rows, 0, bytes, call.on().stream),
                                    "polysketch: nothing seen"));
  }
  if (!at.sketched()) {
    WEFT_RETURN_IF_ERROR(
        CudaStatus(LaunchStoreRows(call.on(), space.d_rows, at.Rows(call.gradients.q, queries)),
                   "polysketch: store d_q"));
  }
  if (at.exact()) return absl::OkStatus();
  const bool far = !at.past.is_zero;
  const int64_t m = SelfProducts(at.problem.sketch_dim);
  if (far) {
    const HeadMatrices values = Sequence::Dense(at.past.rounded, m, at.problem.head_dim);
    WEFT_RETURN_IF_ERROR(at.Product(n, m, at.problem.head_dim, call.DNum(n), values.Transposed(),
                                    space.d_features, /*add=*/false));
  }
  return CudaStatus(
      LaunchFeatureSlopes(call.on(), {.phi = at.Rows(at.inputs.phi_q, queries),
                                      .d_phi = at.Rows(call.gradients.phi_q, queries),
                                      .scale = at.root,
                                      .d_products = far ? space.d_features : nullptr,
                                      .mass = at.past.mass,
                                      .shift = space.far,
                                      .near = near && at.sketched() ? space.d_rows : nullptr,
                                      .near_stride = n * width}),
      "polysketch: slopes of query features");
}

// What queries ask of the state before them.
absl::Status FoldQueries(const BackwardCall& call, TokenRange queries) {
  Sequence& at = call.at;
  const Space& space = at.space;
  const auto fold = [&](TokenRange piece) -> absl::Status {
    WEFT_RETURN_IF_ERROR(QuerySlopes(call, piece));
    WEFT_RETURN_IF_ERROR(
        CudaStatus(LaunchSelfProducts(call.on(), {.phi = at.Rows(at.inputs.phi_q, piece),
                                                  .scale = at.root,
                                                  .weights = space.far,
                                                  .products = space.features,
                                                  .weighted = space.weighted}),
                   "polysketch: features of queries"));
    return at.AddToState(piece, at.inputs.phi_q, call.DNum(piece.count()), at.d_past);
  };
  WEFT_RETURN_IF_ERROR(at.ForPieces(queries, fold));
  return at.RoundState(at.d_past);
}

// Sums over the pairs of a block: space.d_keys [H, keys, width] and space.d_values [H, keys, D].
absl::Status PairGradients(const BackwardCall& call, TokenRange keys) {
  const Sequence& at = call.at;
  const Space& space = at.space;
  const int64_t width = at.near_width();
  const int64_t dim = at.problem.head_dim;
  const auto clear = [&](float* to, int64_t columns) {
    const auto bytes = static_cast<size_t>(at.problem.heads * keys.count() * columns) * 4;
    return CudaStatus(cudaMemsetAsync(to, 0, bytes, call.on().stream), "polysketch: clear");
  };
  WEFT_RETURN_IF_ERROR(clear(space.d_keys, width));
  WEFT_RETURN_IF_ERROR(clear(space.d_values, dim));
  return at.ForPieces(at.Queries(keys), [&](TokenRange piece) -> absl::Status {
    const int64_t n = piece.count();
    const int64_t all = keys.count();
    WEFT_RETURN_IF_ERROR(QuerySlopes(call, piece));
    WEFT_RETURN_IF_ERROR(PairSlopes(call, piece, keys));
    WEFT_RETURN_IF_ERROR(at.Product(all, width, n,
                                    Sequence::Dense(space.d_products, n, all).Transposed(),
                                    at.Operand(at.near_q(), piece), space.d_keys, /*add=*/true));
    return at.Product(all, dim, n, Sequence::Dense(space.weights, n, all).Transposed(),
                      call.DNum(n), space.d_values, /*add=*/true);
  });
}

// The gradients of a piece of keys and their values. `pairs`: the block whose pairs' sums are in
// space; empty when these keys meet nobody one by one.
absl::Status KeyGradients(const BackwardCall& call, TokenRange piece, TokenRange pairs, bool far) {
  const Sequence& at = call.at;
  const Space& space = at.space;
  const int64_t n = piece.count();
  const int64_t r = at.problem.sketch_dim;
  const int64_t m = SelfProducts(r);
  const int64_t dim = at.problem.head_dim;
  const bool near = pairs.count() > 0;
  if (far) {
    const HeadMatrices values = Sequence::Dense(at.d_past.rounded, m, dim);
    WEFT_RETURN_IF_ERROR(at.Product(n, m, dim, at.Operand(at.inputs.v, piece), values.Transposed(),
                                    space.d_features, /*add=*/false));
  }
  const int64_t first = piece.begin - pairs.begin;
  WEFT_RETURN_IF_ERROR(
      CudaStatus(LaunchFeatureSlopes(
                     call.on(), {.phi = at.Rows(at.inputs.phi_k, piece),
                                 .d_phi = at.Rows(call.gradients.phi_k, piece),
                                 .valid = at.Valid(piece),
                                 .d_products = far ? space.d_features : nullptr,
                                 .mass = at.d_past.mass,
                                 .near = near && at.sketched() ? space.d_keys + first * r : nullptr,
                                 .near_stride = pairs.count() * r}),
                 "polysketch: slopes of key features"));
  if (!far) return absl::OkStatus();
  WEFT_RETURN_IF_ERROR(
      CudaStatus(LaunchSelfProducts(call.on(), {.phi = at.Rows(at.inputs.phi_k, piece),
                                                .valid = at.Valid(piece),
                                                .products = space.features}),
                 "polysketch: features of keys"));
  return Run(at.stream, {.m = n,
                         .n = dim,
                         .k = m,
                         .a = space.features,
                         .a_stride = m,
                         .b = at.d_past.rounded,
                         .b_stride = dim,
                         .d = space.d_values + (near ? first : 0) * dim,
                         .d_stride = dim,
                         .beta = near ? 1.0F : 0.0F,
                         .batch = static_cast<int>(at.problem.heads),
                         .a_step = n * m,
                         .b_step = m * dim,
                         .d_step = (near ? pairs.count() : n) * dim});
}

absl::Status BlockKeyGradients(const BackwardCall& call, TokenRange keys) {
  const Sequence& at = call.at;
  WEFT_RETURN_IF_ERROR(PairGradients(call, keys));
  if (!at.exact()) {
    const bool far = !at.d_past.is_zero && at.Folds(keys);
    WEFT_RETURN_IF_ERROR(
        at.ForPieces(keys, [&](TokenRange piece) { return KeyGradients(call, piece, keys, far); }));
  }
  if (!at.sketched()) {
    WEFT_RETURN_IF_ERROR(
        CudaStatus(LaunchStoreRows(call.on(), at.space.d_keys, at.Rows(call.gradients.k, keys)),
                   "polysketch: store d_k"));
  }
  return CudaStatus(LaunchStoreRows(call.on(), at.space.d_values, at.Rows(call.gradients.v, keys)),
                    "polysketch: store d_v");
}

// Sketched weights over all keys.
absl::Status BackwardWhole(const BackwardCall& call) {
  Sequence& at = call.at;
  const TokenRange queries = {0, at.problem.queries};
  const TokenRange keys = {0, at.problem.keys};
  WEFT_RETURN_IF_ERROR(at.FoldKeys(keys, 1, at.past));
  WEFT_RETURN_IF_ERROR(
      at.ForPieces(queries, [&](TokenRange piece) { return QueryGradients(call, piece, {}); }));
  WEFT_RETURN_IF_ERROR(FoldQueries(call, queries));
  at.d_past.is_zero = false;
  return at.ForPieces(keys, [&](TokenRange piece) -> absl::Status {
    WEFT_RETURN_IF_ERROR(KeyGradients(call, piece, {}, /*far=*/true));
    return CudaStatus(
        LaunchStoreRows(call.on(), at.space.d_values, at.Rows(call.gradients.v, piece)),
        "polysketch: store d_v");
  });
}

absl::Status BackwardBlocks(const BackwardCall& call) {
  Sequence& at = call.at;
  if (at.blocks() == 0) {
    return at.ForPieces({0, at.problem.queries},
                        [&](TokenRange piece) { return QueryGradients(call, piece, {}); });
  }
  for (int64_t block = 0; block < at.blocks(); ++block) {
    const TokenRange keys = at.Keys(block);
    WEFT_RETURN_IF_ERROR(at.ForPieces(at.Queries(keys), [&](TokenRange piece) {
      return QueryGradients(call, piece, at.NearKeys(keys, piece));
    }));
    if (block + 1 < at.blocks() && at.Folds(keys)) {
      WEFT_RETURN_IF_ERROR(at.FoldKeys(keys, 1, at.past));
    }
  }
  for (int64_t block = at.blocks() - 1; block >= 0; --block) {
    const TokenRange keys = at.Keys(block);
    WEFT_RETURN_IF_ERROR(BlockKeyGradients(call, keys));
    if (!at.exact()) WEFT_RETURN_IF_ERROR(FoldQueries(call, at.Queries(keys)));
  }
  return absl::OkStatus();
}

absl::Status BackwardSequence(const BackwardCall& call, const PolysketchState& initial,
                              const PolysketchState& d_final, PolysketchState& d_initial) {
  Sequence& at = call.at;
  if (at.exact()) return BackwardBlocks(call);
  WEFT_RETURN_IF_ERROR(at.LoadState(initial, at.past));
  WEFT_RETURN_IF_ERROR(at.LoadState(d_final, at.d_past));
  WEFT_RETURN_IF_ERROR(at.whole() ? BackwardWhole(call) : BackwardBlocks(call));
  return at.StoreState(at.d_past, d_initial);
}

}  // namespace

absl::Status Backward(Stream& stream, const PolysketchProblem& problem,
                      const PolysketchInputs& inputs, const PolysketchState& initial,
                      const Tensor& o, const PolysketchSaved& saved, const Tensor& d_o,
                      const PolysketchState& d_final, PolysketchGradients& gradients,
                      PolysketchState& d_initial) {
  Sequence at(AsCudaStream(stream), problem, inputs);
  WEFT_ASSIGN_OR_RETURN(const CudaScratch scratch, at.Allocate(/*backward=*/true));
  for (int64_t batch = 0; batch < problem.batch; ++batch) {
    at.Choose(batch);
    WEFT_RETURN_IF_ERROR(
        BackwardSequence({at, o, saved, d_o, gradients}, initial, d_final, d_initial));
  }
  return absl::OkStatus();
}

}  // namespace weft::kernels::portable
