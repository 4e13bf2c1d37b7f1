#include "kernels/ops/cuda_column_sums.cuh"
#include "kernels/ops/cuda_product_sm90.cuh"
#include "kernels/ops/linear_gelu/gelu_slope_sm90.h"
#include "kernels/ops/linear_gelu/quick_gelu.cuh"

namespace weft::kernels::internal {
namespace {

using product_sm90::kColumns;
using product_sm90::kSquareBytes;

// The product times the slope, over what the slope is of; and sums of columns.
class GeluSlope {
 public:
  struct Params {
    CUtensorMap before, dx;
    int64_t columns;
    float* partial;
  };
  static constexpr int kStepsBefore = 2;
  static constexpr int kOwnBytes = 4 * kColumns * 4;  // sums [4 warps, kColumns]

  static __device__ product_sm90::Square SquareAt(const Params& params, int i) {
    return {&params.before, &params.dx, i / 2 * 64, i % 2 * 64};
  }

  __device__ GeluSlope(const Params& params, uint8_t* squares, uint8_t* own, int group)
      : params_(params),
        squares_(squares),
        sums_(reinterpret_cast<float*>(own)),
        group_(group),
        lane_(threadIdx.x % 32),
        warp_(threadIdx.x / 32 % 4) {}

  __device__ void MakePiece(int piece, const uint32_t (&product)[2][4]) const;
  __device__ void EndTile(int row, int column) const;

 private:
  __device__ void WriteSums(int piece, const float (&sums)[4]) const;

  const Params& params_;
  uint8_t* squares_;
  float* sums_;
  const int group_, lane_, warp_;
};

__device__ void GeluSlope::MakePiece(int piece, const uint32_t (&product)[2][4]) const {
  float sums[4] = {};  // of columns c, c + 1, c + 8, c + 9 over this thread's rows
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    uint8_t* const square = squares_ + (2 * half + piece / 4) * kSquareBytes;
    uint32_t values[4];
    hopper::LoadPlain(values, square, piece % 4 * 16);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      float low = hopper::LowOf(product[half][j]);
      float high = hopper::HighOf(product[half][j]);
      low *= QuickGeluSlope(hopper::LowOf(values[j]));
      high *= QuickGeluSlope(hopper::HighOf(values[j]));
      sums[j / 2 * 2] += low;
      sums[j / 2 * 2 + 1] += high;
      values[j] = hopper::PackPair(low, high);
    }
    hopper::StorePlain(square, piece % 4 * 16, values);
  }
  WriteSums(piece, sums);
}

// The sums of a warp's 32 rows: of the eight lanes of a column two are left with each.
__device__ void GeluSlope::WriteSums(int piece, const float (&sums)[4]) const {
  const auto share = [](bool upper, float low, float high, int distance) {
    return (upper ? high : low) + __shfl_xor_sync(0xFFFFFFFF, upper ? low : high, distance);
  };
  const bool right = (lane_ & 16) != 0;
  const bool odd = (lane_ & 8) != 0;
  float sum = share(odd, share(right, sums[0], sums[2], 16), share(right, sums[1], sums[3], 16), 8);
  sum += __shfl_xor_sync(0xFFFFFFFF, sum, 4);
  const int column = 16 * piece + lane_ / 16 * 8 + lane_ % 4 * 2 + lane_ / 8 % 2;
  if ((lane_ & 4) == 0) sums_[warp_ * kColumns + column] = sum;
}

// Adds up the warps' sums.
__device__ void GeluSlope::EndTile(int row, int column) const {
  hopper::MeetThreads(1 + group_, 128);
  const int mine = static_cast<int>(threadIdx.x) % 128;
  float sum = sums_[mine];
#pragma unroll
  for (int warp = 1; warp < 4; ++warp) sum += sums_[warp * kColumns + mine];
  params_.partial[row / 128 * params_.columns + column + mine] = sum;
  hopper::MeetThreads(1 + group_, 128);
}

static_assert(kGeluSlopeFewestSteps == product_sm90::kFewestSteps<GeluSlope>);

}  // namespace

cudaError_t LaunchGeluSlopeProduct(const CudaLaunch& on, const GeluSlopeProduct& product) {
  const auto [rows, in, out, dy, w, before, dx, dbias, partial] = product;
  if (rows == 0) return cudaSuccess;
  GeluSlope::Params params{};
  params.columns = in;
  params.partial = partial;
  cudaError_t error = product_sm90::MapOf(before, rows, in, 64, params.before);
  if (error == cudaSuccess) error = product_sm90::MapOf(dx, rows, in, 64, params.dx);
  if (error != cudaSuccess) return error;
  error = product_sm90::LaunchProduct<GeluSlope>(
      on, {.rows = rows, .columns = in, .depth = out, .a = dy, .b = w}, params);
  if (error != cudaSuccess || dbias == nullptr) return error;
  return AddParts(on, GeluSlopeParts(rows), in, partial, dbias);
}

}  // namespace weft::kernels::internal
