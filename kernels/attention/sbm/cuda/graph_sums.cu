#include "kernels/attention/sbm/cuda/graph_sums.cuh"
#include "kernels/attention/sbm/sampling_units.h"
#include "kernels/device/cuda/vector.cuh"

namespace weft::kernels::sbm {
namespace {

constexpr int kTile = 32;

// A block a sequence, one warp.
__global__ void __launch_bounds__(32)
    ValidKeysKernel(int keys, const int32_t* valid, int32_t* reach, int32_t* valid_keys) {
  const int lane = static_cast<int>(threadIdx.x);
  valid += int64_t{blockIdx.x} * keys;
  reach += int64_t{blockIdx.x} * (keys + 1);
  valid_keys += int64_t{blockIdx.x} * keys;
  int count = 0;
  for (int first = 0; first < keys; first += 32) {
    const int key = first + lane;
    const bool is_valid = key < keys && valid[key] != 0;
    const unsigned all = __ballot_sync(0xFFFFFFFF, is_valid);
    const int before = count + __popc(all & ((1U << lane) - 1));
    if (key < keys) reach[key] = before;
    if (is_valid) valid_keys[before] = key;
    count += __popc(all);
  }
  if (lane == 0) reach[keys] = count;
}

// Inclusive, over the lanes of a warp.
template <typename T, typename Op>
__device__ T Scan(T value, const Op& op) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int distance = 1; distance < 32; distance *= 2) {
    const T before = __shfl_up_sync(0xFFFFFFFF, value, distance);
    if (lane >= distance) value = op(before, value);
  }
  return value;
}

// A block has 32 clusters of a head; it walks along the keys, 32 at a time.
template <typename Word>
__global__ void __launch_bounds__(kTile* kTile)
    SumKeysKernel(Sizes sizes, int first_head, const float* key, const int32_t* valid, Word* sums,
                  uint32_t* largest) {
  __shared__ uint32_t tile[kTile][kTile + 1];
  const int x = static_cast<int>(threadIdx.x) % kTile;
  const int y = static_cast<int>(threadIdx.x) / kTile;
  const int cluster = static_cast<int>(blockIdx.x) * kTile;
  const int64_t head = first_head + static_cast<int>(blockIdx.y);
  const float* const rows = key + head * sizes.keys * sizes.clusters;
  if (valid != nullptr) valid += head / sizes.heads * sizes.keys;
  Word total = 0;
  uint32_t most = 0;
  for (int first = 0; first < sizes.keys; first += kTile) {
    const int j = first + y;
    uint32_t units = 0;
    if (j < sizes.keys && cluster + x < sizes.clusters && (valid == nullptr || valid[j] != 0)) {
      const float share = rows[int64_t{j} * sizes.clusters + cluster + x];
      units = static_cast<uint32_t>(InUnits(share, kMembershipUnit));
    }
    tile[y][x] = units;
    __syncthreads();
    const uint32_t own = tile[x][y];  // of key first + x, cluster + y
    __syncthreads();
    const auto add = [](auto a, auto b) { return a + b; };
    const Word sum = total + Scan(static_cast<Word>(own), add);
    total = __shfl_sync(0xFFFFFFFF, sum, 31);
    const int64_t at =
        (int64_t{blockIdx.y} * sizes.clusters + cluster + y) * sizes.keys + first + x;
    const bool inside = cluster + y < sizes.clusters && first + x < sizes.keys;
    if (inside) sums[at] = sum;
    if (largest == nullptr) continue;
    const uint32_t top = max(most, Scan(own, [](uint32_t a, uint32_t b) { return max(a, b); }));
    most = __shfl_sync(0xFFFFFFFF, top, 31);
    if (inside) largest[at] = top;
  }
}

// w = floor(min(A S, 2^52) / 2^20) of 32 queries and 32 clusters. Sums of integers below 2^53:
// exact in fp64, in any order.
__global__ void __launch_bounds__(256) WeighKernel(Sizes sizes, int first_head, const float* query,
                                                   const float* affinity, uint64_t* weights) {
  __shared__ double a[kTile][kTile + 1];
  __shared__ double s[kTile][kTile + 1];
  const int x = static_cast<int>(threadIdx.x) % kTile;
  const int y = static_cast<int>(threadIdx.x) / kTile;
  const int n = sizes.clusters;
  const int row = static_cast<int>(blockIdx.x) * kTile;
  const int column = static_cast<int>(blockIdx.y) * kTile;
  const int64_t head = first_head + static_cast<int>(blockIdx.z);
  const float* const rows = query + head * sizes.queries * n;
  const float* const square = affinity + head % sizes.heads * n * n;
  double sum[4] = {};
  for (int u = 0; u < n; u += kTile) {
    for (int i = y; i < kTile; i += 8) {
      const bool in_a = row + i < sizes.queries && u + x < n;
      a[i][x] = in_a ? InUnits(rows[int64_t{row + i} * n + u + x], kMembershipUnit) : 0.0;
      const bool in_s = u + i < n && column + x < n;
      s[i][x] = in_s ? InUnits(square[int64_t{u + i} * n + column + x], kAffinityUnit) : 0.0;
    }
    __syncthreads();
#pragma unroll 8
    for (int i = 0; i < kTile; ++i) {
#pragma unroll
      for (int r = 0; r < 4; ++r) sum[r] += a[y + 8 * r][i] * s[i][x];
    }
    __syncthreads();
  }
  for (int r = 0; r < 4; ++r) {
    const int i = row + y + 8 * r;
    if (i >= sizes.queries || column + x >= n) continue;
    weights[(int64_t{blockIdx.z} * sizes.queries + i) * n + column + x] =
        static_cast<uint64_t>(fmin(sum[r], 0x1p52)) >> kWeightShift;
  }
}

}  // namespace

cudaError_t ListValidKeys(const CudaLaunch& on, const GraphArgs& args, const SliceSpace& space) {
  if (args.valid == nullptr) return cudaSuccess;
  ValidKeysKernel<<<args.sizes.batch, 32, 0, on.stream>>>(args.sizes.keys, args.valid, space.reach,
                                                          space.valid_keys);
  return cudaGetLastError();
}

cudaError_t SumKeys(const CudaLaunch& on, const GraphArgs& args, const SliceSpace& space,
                    Slice slice) {
  const Sizes& sizes = args.sizes;
  const dim3 grid(static_cast<unsigned>(CeilDiv(sizes.clusters, kTile)),
                  static_cast<unsigned>(slice.heads));
  const auto launch = [&]<typename Word>() {
    SumKeysKernel<Word><<<grid, kTile * kTile, 0, on.stream>>>(
        sizes, slice.first, args.key, args.valid, static_cast<Word*>(space.sums), space.largest);
    return cudaGetLastError();
  };
  return sizes.keys <= kShortKeys ? launch.template operator()<uint32_t>()
                                  : launch.template operator()<uint64_t>();
}

cudaError_t WeighQueries(const CudaLaunch& on, const GraphArgs& args, const SliceSpace& space,
                         Slice slice) {
  const auto tiles = [](int count) { return static_cast<unsigned>(CeilDiv(count, kTile)); };
  const dim3 grid(tiles(args.sizes.queries), tiles(args.sizes.clusters),
                  static_cast<unsigned>(slice.heads));
  WeighKernel<<<grid, 256, 0, on.stream>>>(args.sizes, slice.first, args.query, args.affinity,
                                           space.weights);
  return cudaGetLastError();
}

}  // namespace weft::kernels::sbm
