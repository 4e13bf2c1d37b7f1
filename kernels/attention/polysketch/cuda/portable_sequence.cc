#include "kernels/attention/polysketch/cuda/portable_sequence.h"

#include <algorithm>
#include <cmath>

#include "common/base/status_macros.h"
#include "kernels/device/cuda/cuda_carver.h"
#include "kernels/device/cuda/cuda_status.h"
#include "kernels/ops/elementwise/elementwise_cuda.h"

namespace weft::kernels::portable {
namespace {

constexpr int64_t kMostRows = 1024;                  // of a piece
constexpr int64_t kMostElements = int64_t{1} << 25;  // of a matrix of a piece, all heads together

}  // namespace

Sequence::Sequence(CudaStream& on, const PolysketchProblem& p, const PolysketchInputs& in)
    : stream(on),
      problem(p),
      inputs(in),
      root(static_cast<float>(std::pow(p.kappa, -0.5 * static_cast<double>(p.degree)))),
      element_bytes_(SizeOf(on.device().compute_dtype())),
      block_keys_(exact() ? std::max<int64_t>(p.keys, 1)
                          : std::min(p.block, std::max<int64_t>(p.keys, 1))),
      blocks_((p.keys + block_keys_ - 1) / block_keys_),
      piece_(std::clamp<int64_t>(
          kMostElements / (p.heads * std::max({whole() ? 1 : block_keys_,
                                               SelfProducts(p.sketch_dim), int64_t{1}})),
          1, kMostRows)) {}

absl::StatusOr<CudaScratch> Sequence::Allocate(bool backward) {
  const int64_t h = problem.heads;
  const int64_t n = std::min(piece_, std::max<int64_t>({problem.queries, problem.keys, 1}));
  const int64_t r = problem.sketch_dim;
  const int64_t m = SelfProducts(r);
  const int64_t d = problem.head_dim;
  const int64_t keys = whole() ? n : block_keys_;
  const int64_t e = element_bytes_;
  const auto carve = [&](uint8_t* memory) {
    CudaCarver carver(memory);
    const auto floats = [&](int64_t count) { return carver.Take<float>(h * count); };
    const auto elements = [&](int64_t count) -> void* { return carver.TakeBytes(e * h * count); };
    space = {};
    space.products = floats(n * keys);
    space.weights = elements(n * keys);
    space.features = elements(n * m);
    space.weighted = elements(n * r);
    space.num = floats(n * d);
    space.near = floats(n);
    space.far = floats(n);
    for (WorkingState* state : {&past, &d_past}) {
      if (exact() || (state == &d_past && !backward)) continue;
      state->values = floats(m * d);
      state->mass = floats(r * r);
      state->rounded = e == 4 ? state->values : elements(m * d);
    }
    if (!backward) return carver.used();
    space.d_weights = floats(n * std::max(keys, m));
    space.d_features = space.d_weights;
    space.d_products = elements(n * keys);
    space.d_num = elements(n * d);
    space.d_rows = floats(n * near_width());
    space.d_keys = floats(keys * near_width());
    space.d_values = floats(keys * d);
    return carver.used();
  };
  WEFT_ASSIGN_OR_RETURN(CudaScratch scratch, stream.Scratch(carve(nullptr)));
  carve(scratch.data<uint8_t>());
  return scratch;
}

TokenRange Sequence::Keys(int64_t block) const {
  return {block * block_keys_, std::min((block + 1) * block_keys_, problem.keys)};
}

TokenRange Sequence::Queries(TokenRange keys) const {
  if (!problem.causal) return {0, problem.queries};
  const int64_t offset = problem.keys - problem.queries;
  return {std::max<int64_t>(keys.begin - offset, 0), std::max<int64_t>(keys.end - offset, 0)};
}

TokenRange Sequence::NearKeys(TokenRange keys, TokenRange queries) const {
  if (!problem.causal) return keys;
  return {keys.begin, std::min(keys.end, problem.keys - problem.queries + queries.end)};
}

TokenRows Sequence::Rows(const Tensor& tensor, TokenRange range) const {
  const int64_t width = tensor.dim(3);
  const int64_t first = (batch_ * tensor.dim(1) + range.begin) * problem.heads * width;
  return {static_cast<uint8_t*>(tensor.address()) + first * element_bytes_, range.count(),
          static_cast<int>(problem.heads), static_cast<int>(width)};
}

HeadMatrices Sequence::Operand(const Tensor& tensor, TokenRange range) const {
  const TokenRows rows = Rows(tensor, range);
  return {rows.first, problem.heads * rows.width, rows.width, false};
}

absl::Status Sequence::Product(int64_t rows, int64_t columns, int64_t depth, const HeadMatrices& a,
                               const HeadMatrices& b, float* d, bool add) const {
  return Run(stream, {.m = rows,
                      .n = columns,
                      .k = depth,
                      .a = a.at,
                      .a_stride = a.stride,
                      .a_transposed = a.transposed,
                      .b = b.at,
                      .b_stride = b.stride,
                      .b_transposed = b.transposed,
                      .d = d,
                      .d_stride = columns,
                      .beta = add ? 1.0F : 0.0F,
                      .batch = static_cast<int>(problem.heads),
                      .a_step = a.step,
                      .b_step = b.step,
                      .d_step = rows * columns});
}

const int32_t* Sequence::Valid(TokenRange keys) const {
  if (!inputs.valid.present()) return nullptr;
  return inputs.valid.data<int32_t>() + batch_ * problem.keys + keys.begin;
}

absl::Status Sequence::PairProducts(TokenRange queries, TokenRange keys, PairsCall& pairs) const {
  const int64_t all = keys.count();
  pairs = {
      .rows = queries.count(),
      .keys = all,
      .heads = static_cast<int>(problem.heads),
      .products = space.products,
      .scale = sketched() ? root : static_cast<float>(1.0 / problem.kappa),
      .squarings = sketched() || problem.degree == 2 ? 1
                   : problem.degree == 4             ? 2
                                                     : 3,
      .last = problem.causal ? problem.keys - problem.queries + queries.begin - keys.begin : all,
      .valid = Valid(keys)};
  return Product(queries.count(), all, near_width(), Operand(near_q(), queries),
                 Operand(near_k(), keys).Transposed(), space.products, /*add=*/false);
}

absl::Status Sequence::LoadState(const PolysketchState& from, WorkingState& state) const {
  const int64_t r = problem.sketch_dim;
  const int64_t values = problem.heads * SelfProducts(r) * problem.head_dim;
  const int64_t mass = problem.heads * r * r;
  state.is_zero = !from.values.present();
  const auto load = [&](const Tensor& tensor, int64_t count, float* to) {
    const auto bytes = static_cast<size_t>(count) * sizeof(float);
    return CudaStatus(state.is_zero
                          ? cudaMemsetAsync(to, 0, bytes, stream.launch().stream)
                          : cudaMemcpyAsync(to, tensor.data<float>() + batch_ * count, bytes,
                                            cudaMemcpyDeviceToDevice, stream.launch().stream),
                      "polysketch: load a state");
  };
  WEFT_RETURN_IF_ERROR(load(from.values, values, state.values));
  WEFT_RETURN_IF_ERROR(load(from.mass, mass, state.mass));
  return RoundState(state);
}

absl::Status Sequence::StoreState(const WorkingState& state, PolysketchState& to) const {
  if (!to.values.present()) return absl::OkStatus();
  const int64_t r = problem.sketch_dim;
  const auto store = [&](const float* from, int64_t count, Tensor& tensor) {
    return CudaStatus(cudaMemcpyAsync(tensor.data<float>() + batch_ * count, from,
                                      static_cast<size_t>(count) * sizeof(float),
                                      cudaMemcpyDeviceToDevice, stream.launch().stream),
                      "polysketch: store a state");
  };
  WEFT_RETURN_IF_ERROR(
      store(state.values, problem.heads * SelfProducts(r) * problem.head_dim, to.values));
  return store(state.mass, problem.heads * r * r, to.mass);
}

absl::Status Sequence::RoundState(WorkingState& state) const {
  if (element_bytes_ == 4) return absl::OkStatus();
  const int64_t count = problem.heads * SelfProducts(problem.sketch_dim) * problem.head_dim;
  return CudaStatus(internal::LaunchNarrow(stream.launch(), count, state.values, state.rounded),
                    "polysketch: round a state");
}

absl::Status Sequence::AddToState(TokenRange piece, const Tensor& phi, const HeadMatrices& values,
                                  WorkingState& state) const {
  const int64_t n = piece.count();
  const int64_t r = problem.sketch_dim;
  const int64_t m = SelfProducts(r);
  state.is_zero = false;
  WEFT_RETURN_IF_ERROR(Product(m, problem.head_dim, n, Dense(space.features, n, m).Transposed(),
                               values, state.values, /*add=*/true));
  return Product(r, r, n, Dense(space.weighted, n, r).Transposed(), Operand(phi, piece), state.mass,
                 /*add=*/true);
}

absl::Status Sequence::FoldKeys(TokenRange keys, float sign, WorkingState& state) const {
  const auto fold = [&](TokenRange piece) -> absl::Status {
    WEFT_RETURN_IF_ERROR(
        CudaStatus(LaunchSelfProducts(stream.launch(), {.phi = Rows(inputs.phi_k, piece),
                                                        .sign = sign,
                                                        .valid = Valid(piece),
                                                        .products = space.features,
                                                        .weighted = space.weighted}),
                   "polysketch: features of keys"));
    return AddToState(piece, inputs.phi_k, Operand(inputs.v, piece), state);
  };
  WEFT_RETURN_IF_ERROR(ForPieces(keys, fold));
  return RoundState(state);
}

}  // namespace weft::kernels::portable
