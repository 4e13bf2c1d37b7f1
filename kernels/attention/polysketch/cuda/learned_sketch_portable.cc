// Any learned sketch, of library products and small kernels: some rows at a time through both
// towers, so that hidden activations are bounded in size and made again for the backward pass.
#include <algorithm>
#include <array>
#include <cmath>

#include "common/base/status_macros.h"
#include "kernels/attention/polysketch/cuda/portable.h"
#include "kernels/attention/polysketch/cuda/row_pieces.h"
#include "kernels/attention/polysketch/cuda/sketches_cuda.h"
#include "kernels/device/cuda/cuda_carver.h"
#include "kernels/device/cuda/cuda_status.h"
#include "kernels/device/cuda/cuda_stream.h"
#include "kernels/device/cuda/gemm.h"
#include "kernels/ops/gelu/gelu_cuda.h"
#include "kernels/ops/layer_norm/layer_norm_cuda.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels::portable {
namespace {

constexpr int64_t kMostRows = int64_t{1} << 16;  // that are computed together

uint8_t* Offset(const void* address, int64_t bytes) {
  return static_cast<uint8_t*>(const_cast<void*>(address)) + bytes;
}

// What one stage of one tower makes of the rows; all but the statistics in the compute type.
struct StageSpace {
  float* mean = nullptr;
  float* rstd = nullptr;
  void* normed = nullptr;  // [rows, n]; its gradient in the backward pass
  void* a = nullptr;       // [rows, hidden]: before GELU
  void* z = nullptr;       // [rows, hidden]: after; its gradient in the backward pass
  void* y = nullptr;       // [rows, r]; its gradient in the backward pass
};

class Network {
 public:
  Network(CudaStream& stream, const LearnedSketchProblem& p, const LearnedSketchWeights& weights)
      : stream_(stream),
        p_(p),
        weights_(weights),
        type_(stream.device().compute_dtype()),
        bytes_(SizeOf(type_)),
        bound_(std::sqrt(static_cast<float>(p.sketch_dim))),
        // What the library's products can do on their way out.
        fuses_(type_ == DType::kBf16 && p.hidden_dim % 8 == 0) {}

  // Makes room for so many rows at a time.
  absl::StatusOr<CudaScratch> Allocate(int64_t rows) {
    WEFT_ASSIGN_OR_RETURN(CudaScratch scratch, stream_.Scratch(Carve(nullptr, rows)));
    Carve(scratch.data<uint8_t>(), rows);
    return scratch;
  }

  // Both towers on `rows` rows of x; `keep`: what a backward pass needs, too.
  absl::Status RunTowers(const void* x, int64_t rows, bool keep) const {
    for (int64_t tower = 0; tower < 2; ++tower) {
      const auto& stages = space_[tower];
      WEFT_RETURN_IF_ERROR(RunStage(0, tower, x, rows, keep));
      WEFT_RETURN_IF_ERROR(RunStage(1, tower, stages[0].y, rows, keep));
    }
    return absl::OkStatus();
  }

  absl::Status Features(int64_t rows, void* phi) const {
    return CudaStatus(internal::LaunchBoundedProduct(stream_.launch(), rows * p_.sketch_dim, bound_,
                                                     space_[0][1].y, space_[1][1].y, phi),
                      "LearnedSketchForward");
  }

  // After RunTowers of the same rows. d_x is overwritten or added to; the gradients are added to.
  absl::Status Backward(const void* x, int64_t rows, const void* phi, const void* d_phi,
                        Accumulate accumulate, void* d_x,
                        const LearnedSketchWeights& gradients) const {
    // Each tower's result becomes its gradient.
    WEFT_RETURN_IF_ERROR(CudaStatus(
        internal::LaunchBoundedProductBackward(stream_.launch(), rows * p_.sketch_dim, bound_, phi,
                                               d_phi, space_[0][1].y, space_[1][1].y,
                                               space_[0][1].y, space_[1][1].y),
        "LearnedSketchBackward"));
    for (int64_t tower = 0; tower < 2; ++tower) {
      const auto& stages = space_[tower];
      // The gradient of what is between the stages takes the place of that of the result.
      WEFT_RETURN_IF_ERROR(BackStage(1, tower, stages[0].y, rows, /*add=*/false, stages[0].y,
                                     stages[1].y, gradients[1]));
      const bool add = tower == 1 || accumulate == Accumulate::kYes;
      WEFT_RETURN_IF_ERROR(BackStage(0, tower, x, rows, add, d_x, stages[0].y, gradients[0]));
    }
    return absl::OkStatus();
  }

 private:
  [[nodiscard]] int64_t Inputs(int64_t stage) const {
    return stage == 0 ? p_.input_dim : p_.sketch_dim;
  }

  int64_t Carve(uint8_t* memory, int64_t rows) {
    CudaCarver carver(memory);
    for (auto& tower : space_) {
      for (int64_t stage = 0; stage < 2; ++stage) {
        const auto take = [&](int64_t width) { return carver.TakeBytes(rows * width * bytes_); };
        StageSpace& s = tower[static_cast<size_t>(stage)];
        s.mean = reinterpret_cast<float*>(carver.TakeBytes(rows * 4));
        s.rstd = reinterpret_cast<float*>(carver.TakeBytes(rows * 4));
        s.normed = take(Inputs(stage));
        s.a = take(p_.hidden_dim);
        s.z = take(p_.hidden_dim);
        s.y = take(p_.sketch_dim);
      }
    }
    const int64_t widest = std::max(p_.input_dim, p_.sketch_dim);
    partial_ = reinterpret_cast<float*>(carver.TakeBytes(
        4 * internal::LayerNormPartials(rows, static_cast<int>(widest), /*sums_dx=*/false)));
    return carver.used();
  }

  // The part of one tower of a parameter, or of its gradient.
  static void* PartOf(const Tensor& both, int64_t tower) {
    return Offset(both.address(), tower * (both.count() / 2) * SizeOf(both.dtype()));
  }

  absl::Status RunStage(int64_t stage, int64_t tower, const void* x, int64_t rows,
                        bool keep) const {
    const SketchStage& w = weights_[static_cast<size_t>(stage)];
    const StageSpace& s = space_[static_cast<size_t>(tower)][static_cast<size_t>(stage)];
    const int64_t n = Inputs(stage);
    const CudaLaunch& on = stream_.launch();
    WEFT_RETURN_IF_ERROR(CudaStatus(
        internal::LaunchLayerNormForward(
            on, rows, static_cast<int>(n), static_cast<float>(p_.epsilon), x,
            PartOf(w.norm_weight, tower), PartOf(w.norm_bias, tower), s.normed, s.mean, s.rstd),
        "sketch norm"));
    CudaGemm expand = Map(rows, p_.hidden_dim, n, s.normed, PartOf(w.expand, tower),
                          /*back=*/false, fuses_ ? s.z : s.a);
    if (fuses_) {
      expand.epilogue = keep ? CudaEpilogue::kKeepGelu : CudaEpilogue::kGelu;
      expand.aux = s.a;
    }
    WEFT_RETURN_IF_ERROR(Run(stream_, expand));
    if (!fuses_) {
      WEFT_RETURN_IF_ERROR(CudaStatus(
          internal::LaunchGeluForward(on, /*exact=*/false, rows * p_.hidden_dim, s.a, s.z),
          "gelu"));
    }
    return Run(stream_, Map(rows, p_.sketch_dim, p_.hidden_dim, s.z, PartOf(w.contract, tower),
                            /*back=*/false, s.y));
  }

  // y[rows, n] = x[rows, k] w[n, k]^T, or, back, x[rows, k] w[k, n].
  [[nodiscard]] CudaGemm Map(int64_t rows, int64_t n, int64_t k, const void* x, const void* w,
                             bool back, void* y) const {
    return {.m = rows,
            .n = n,
            .k = k,
            .a = x,
            .a_stride = k,
            .b = w,
            .b_stride = back ? n : k,
            .b_transposed = !back,
            .d = y,
            .d_stride = n,
            .d_type = type_};
  }
  // d_w[n, k] += d_y[rows, n]^T x[rows, k]
  absl::Status AddWeights(int64_t rows, int64_t n, int64_t k, const void* d_y, const void* x,
                          void* d_w) const {
    return Run(stream_, {.m = n,
                         .n = k,
                         .k = rows,
                         .a = d_y,
                         .a_stride = n,
                         .a_transposed = true,
                         .b = x,
                         .b_stride = k,
                         .d = d_w,
                         .d_stride = k,
                         .d_type = DType::kF32,
                         .beta = 1.0F});
  }

  // The gradient of x, from d_y, and those of the parameters. d_x may be x only when not added to.
  absl::Status BackStage(int64_t stage, int64_t tower, const void* x, int64_t rows, bool add,
                         void* d_x, const void* d_y, const SketchStage& g) const {
    const SketchStage& w = weights_[static_cast<size_t>(stage)];
    const StageSpace& s = space_[static_cast<size_t>(tower)][static_cast<size_t>(stage)];
    const int64_t n = Inputs(stage);
    const int64_t r = p_.sketch_dim;
    const int64_t hidden = p_.hidden_dim;
    const CudaLaunch& on = stream_.launch();
    WEFT_RETURN_IF_ERROR(AddWeights(rows, r, hidden, d_y, s.z, PartOf(g.contract, tower)));
    CudaGemm widen = Map(rows, hidden, r, d_y, PartOf(w.contract, tower), /*back=*/true, s.z);
    if (fuses_) {
      widen.epilogue = CudaEpilogue::kGeluSlope;
      widen.aux = s.a;
    }
    WEFT_RETURN_IF_ERROR(Run(stream_, widen));
    if (!fuses_) {
      WEFT_RETURN_IF_ERROR(CudaStatus(
          internal::LaunchGeluBackward(on, /*exact=*/false, rows * hidden, s.a, s.z, s.z), "gelu"));
    }
    WEFT_RETURN_IF_ERROR(AddWeights(rows, hidden, n, s.z, s.normed, PartOf(g.expand, tower)));
    WEFT_RETURN_IF_ERROR(Run(stream_, Map(rows, n, hidden, s.z, PartOf(w.expand, tower),
                                          /*back=*/true, s.normed)));
    return CudaStatus(
        internal::LaunchLayerNormBackward(
            on, rows, static_cast<int>(n), add, x, PartOf(w.norm_weight, tower), s.mean, s.rstd,
            s.normed, d_x, static_cast<float*>(PartOf(g.norm_weight, tower)),
            static_cast<float*>(PartOf(g.norm_bias, tower)), /*dx_sums=*/nullptr, partial_),
        "sketch norm");
  }

  CudaStream& stream_;
  const LearnedSketchProblem& p_;
  const LearnedSketchWeights& weights_;
  DType type_;
  int64_t bytes_;  // of an element
  float bound_;
  bool fuses_;                                           // GELU with the products
  std::array<std::array<StageSpace, 2>, 2> space_ = {};  // [tower][stage]
  float* partial_ = nullptr;
};

}  // namespace

absl::Status LearnedForward(Stream& stream, const LearnedSketchProblem& p, const Tensor& x,
                            const LearnedSketchWeights& weights, Tensor& phi,
                            LearnedSketchSaved& /*saved*/) {
  Network network(AsCudaStream(stream), p, weights);
  WEFT_ASSIGN_OR_RETURN(const CudaScratch space, network.Allocate(std::min(RowsOf(x), kMostRows)));
  return ForRowPieces(RowsOf(x), kMostRows, [&](int64_t first, int64_t rows) -> absl::Status {
    WEFT_RETURN_IF_ERROR(network.RunTowers(RowOf(x, first), rows, /*keep=*/false));
    return network.Features(rows, RowOf(phi, first));
  });
}

absl::Status LearnedBackward(Stream& stream, const LearnedSketchProblem& p, const Tensor& x,
                             const LearnedSketchWeights& weights, const Tensor& phi,
                             const LearnedSketchSaved& /*saved*/, const Tensor& d_phi, Tensor& d_x,
                             Accumulate accumulate, LearnedSketchWeights& gradients) {
  Network network(AsCudaStream(stream), p, weights);
  WEFT_ASSIGN_OR_RETURN(const CudaScratch space, network.Allocate(std::min(RowsOf(x), kMostRows)));
  return ForRowPieces(RowsOf(x), kMostRows, [&](int64_t first, int64_t rows) -> absl::Status {
    WEFT_RETURN_IF_ERROR(network.RunTowers(RowOf(x, first), rows, /*keep=*/true));
    return network.Backward(RowOf(x, first), rows, RowOf(phi, first), RowOf(d_phi, first),
                            accumulate, RowOf(d_x, first), gradients);
  });
}

}  // namespace weft::kernels::portable
