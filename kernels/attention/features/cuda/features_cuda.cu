// A warp takes a row.
#include "kernels/attention/features/cuda/feature_function.cuh"
#include "kernels/device/cuda/map.cuh"
#include "kernels/device/cuda/reduce.cuh"

namespace weft::kernels {
namespace {

constexpr int kWarps = 8;  // of a block

// Row (b, t, h) of a [B, T, H, ...] tensor.
struct RowPlace {
  __device__ RowPlace(const FeatureRowsShape& shape, const int32_t* valid)
      : row(int64_t{blockIdx.x} * kWarps + threadIdx.x / 32),
        there(row < int64_t{shape.batch} * shape.tokens * shape.heads),
        token(row / shape.heads),
        head_row((token / shape.tokens * shape.heads + row % shape.heads) * shape.tokens +
                 token % shape.tokens),
        seen(there && (valid == nullptr || valid[token] != 0)) {}

  int64_t row;
  bool there;
  int64_t token;     // of all sequences
  int64_t head_row;  // of a [B, H, T] tensor
  bool seen;
};

unsigned BlocksOf(const FeatureRowsShape& shape) {
  return static_cast<unsigned>(CeilDiv(int64_t{shape.batch} * shape.tokens * shape.heads, kWarps));
}

template <typename T>
__device__ float SquareOfRow(const T* x, int dim) {
  float sum = 0;
  for (int i = static_cast<int>(threadIdx.x) % 32; i < dim; i += 32) {
    sum += ToFloat(x[i]) * ToFloat(x[i]);
  }
  return GroupReduce<32>(sum, AddOf());
}

template <typename T>
__global__ void __launch_bounds__(kWarps * 32) FeatureForward(FeatureForwardArgs args) {
  const FeatureRowsShape& shape = args.shape;
  const CudaFeatureMap& map = args.map;
  const RowPlace place(shape, args.valid);
  if (!place.there) return;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int rows = map.rows == 0 ? shape.dim : map.rows;
  const T* const x = static_cast<const T*>(args.x) + place.row * shape.dim;
  const float* const a = args.projected + place.row * rows;
  // Rounded before anything is subtracted: the largest less itself is zero, and f shows it.
  const auto value = [&](int l) {
    return __fmul_rn(map.scale, map.rows == 0 ? ToFloat(x[l]) : a[l]);
  };
  float* const f = args.f + place.row * shape.features;
  if (map.feature != CudaFeature::kExponential) {
    for (int l = lane; l < rows; l += 32) {
      f[l] = place.seen ? FeatureValue(map.feature, value(l)) + map.floor : 0.0F;
    }
    return;
  }
  float largest = -INFINITY;
  for (int l = lane; l < rows; l += 32) {
    largest = fmaxf(largest, map.both_signs ? fabsf(value(l)) : value(l));
  }
  largest = GroupReduce<32>(largest, MaxOf());
  const float square = SquareOfRow(x, shape.dim);
  if (lane == 0) {
    args.levels[place.head_row] =
        place.seen ? largest - 0.5F * map.scale * map.scale * square : -INFINITY;
  }
  for (int l = lane; l < rows; l += 32) {
    f[l] = place.seen ? expf(value(l) - largest) + map.floor : 0.0F;
    if (map.both_signs) {
      f[rows + l] = place.seen ? expf(-value(l) - largest) + map.floor : 0.0F;
    }
  }
}

// Where a row of exponential features is largest: the first of equals, among both signs.
__device__ int TopOfRow(const float* f, int count, float largest) {
  int top = count;
  for (int l = static_cast<int>(threadIdx.x) % 32; l < count; l += 32) {
    if (f[l] == largest) {
      top = l;
      break;
    }
  }
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    top = min(top, __shfl_xor_sync(0xFFFFFFFF, top, distance));
  }
  return top;
}

// With a_l = w_l . x' and l* the largest: f_l = exp(a_l - a_l*) + floor in units of
// exp(a_l* - |x'|^2 / 2), so d_a_l = d_f_l (f_l - floor), and d_a_l* has floor sum d_f beside.
template <typename T>
__device__ void ExponentialBackward(const FeatureBackwardArgs& args, const RowPlace& place) {
  const FeatureRowsShape& shape = args.shape;
  const CudaFeatureMap& map = args.map;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const float* const f = args.f + place.row * shape.features;
  const float* const d_f = args.d_f + place.row * shape.features;
  float sum = 0;
  float slope = 0;
  for (int l = lane; l < shape.features; l += 32) {
    sum += place.seen ? d_f[l] : 0.0F;
    slope += place.seen ? d_f[l] * f[l] : 0.0F;
  }
  sum = GroupReduce<32>(sum, AddOf());
  slope = GroupReduce<32>(slope, AddOf());
  const int top = map.floor == 0 ? -1 : TopOfRow(f, shape.features, 1.0F + map.floor);
  T* const d_a = static_cast<T*>(args.d_projected) + place.row * map.rows;
  for (int l = lane; l < map.rows; l += 32) {
    float d = d_f[l] * (f[l] - map.floor);
    if (l == top) d += map.floor * sum;
    if (map.both_signs) {
      d -= d_f[map.rows + l] * (f[map.rows + l] - map.floor);
      if (map.rows + l == top) d -= map.floor * sum;
    }
    d_a[l] = FromFloat<T>(place.seen ? map.scale * d : 0.0F);
  }
  const T* const x = static_cast<const T*>(args.x) + place.row * shape.dim;
  for (int i = lane; i < shape.dim; i += 32) {
    args.d_direct[place.row * shape.dim + i] = -map.scale * map.scale * slope * ToFloat(x[i]);
  }
}

template <typename T>
__global__ void __launch_bounds__(kWarps * 32) FeatureBackward(FeatureBackwardArgs args) {
  const FeatureRowsShape& shape = args.shape;
  const CudaFeatureMap& map = args.map;
  const RowPlace place(shape, args.valid);
  if (!place.there) return;
  if (map.feature == CudaFeature::kExponential) return ExponentialBackward<T>(args, place);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int rows = map.rows == 0 ? shape.dim : map.rows;
  const T* const x = static_cast<const T*>(args.x) + place.row * shape.dim;
  T* const d = (map.rows == 0 ? static_cast<T*>(args.d_x) : static_cast<T*>(args.d_projected)) +
               place.row * rows;
  for (int l = lane; l < rows; l += 32) {
    const float a =
        map.scale * (map.rows == 0 ? ToFloat(x[l]) : args.projected[place.row * rows + l]);
    const float d_f = place.seen ? args.d_f[place.row * shape.features + l] : 0.0F;
    d[l] = FromFloat<T>(map.scale * d_f * FeatureSlope(map.feature, a));
  }
  if (map.rows == 0) return;
  for (int i = lane; i < shape.dim; i += 32) args.d_direct[place.row * shape.dim + i] = 0;
}

struct Same {
  __device__ void operator()(float x, float, float, float& y, float&) const { y = x; }
};

}  // namespace

cudaError_t LaunchFeatureForward(const CudaLaunch& on, const FeatureForwardArgs& args) {
  return ForComputeType(on, [&]<typename T>() {
    FeatureForward<T><<<BlocksOf(args.shape), kWarps * 32, 0, on.stream>>>(args);
    return cudaGetLastError();
  });
}

cudaError_t LaunchFeatureBackward(const CudaLaunch& on, const FeatureBackwardArgs& args) {
  return ForComputeType(on, [&]<typename T>() {
    FeatureBackward<T><<<BlocksOf(args.shape), kWarps * 32, 0, on.stream>>>(args);
    return cudaGetLastError();
  });
}

cudaError_t LaunchRound(const CudaLaunch& on, int64_t count, const float* from, void* to) {
  return ForComputeType(
      on, [&]<typename T>() { return Map1(on, count, Same(), from, static_cast<T*>(to)); });
}

}  // namespace weft::kernels
