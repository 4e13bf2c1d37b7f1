// Exponential features of a projection, and the way back (features/feature_map.h). A warpgroup
// takes 64 rows: their products with all 256 rows of W are its accumulators.
#include "kernels/attention/linear_attention/cuda/projected_sm90.cuh"

namespace weft::kernels::sm90 {
namespace {

constexpr int kWarpgroups = 2;
constexpr int kTileRows = 64;

struct FeaturesParams {
  CUtensorMap projection, x, f, d_x;  // f or d_f
  ProjectedRows rows;
  float* levels;
};

template <int kDim, int kXStages, int kFStages>
struct Layout {
  static constexpr int kThreads = 128 * kWarpgroups;
  static constexpr int kStages = kXStages;
  static constexpr int kXBytes = kDim / 64 * kTileBytes;
  static constexpr int kFBytes = kFeatureTiles * kTileBytes;
  // W as columns of tiles, so that an operand can have more than 64 of its rows.
  static constexpr int kColumnBytes = hopper::TileBytes(kProjectedFeatures);
  static constexpr int kProjectionBytes = kDim / 64 * kColumnBytes;
  static constexpr int kOfWarpgroup = kXStages * kXBytes + kFStages * kFBytes;
  static constexpr int kBarriers = kProjectionBytes + kWarpgroups * kOfWarpgroup;
  static constexpr int kSharedBytes = kBarriers + (1 + kWarpgroups * kXStages) * 8 + kSharedSlack;
};
template <int kDim>
using ForwardLayout = Layout<kDim, 2, 1>;  // f leaves through its place
template <int kDim>
using BackwardLayout = Layout<kDim, kDim == 64 ? 2 : 1, kDim == 64 ? 2 : 1>;
static_assert(ForwardLayout<128>::kSharedBytes <= 227 * 1024);
static_assert(BackwardLayout<128>::kSharedBytes <= 227 * 1024);

// A warpgroup of a block: it takes every so many tiles of 64 rows.
template <int kDim, typename Space>
class FeatureRows {
 public:
  __device__ FeatureRows(const FeaturesParams& params, uint8_t* shared)
      : params_(params),
        rows_(params.rows),
        shared_(shared),
        tiles_(hopper::TilesAt(shared)),
        warpgroup_(static_cast<int>(threadIdx.x) / 128),
        leads_(threadIdx.x % 128 == 0),
        barriers_(reinterpret_cast<uint64_t*>(shared + Space::kBarriers)) {}

  // Once, by the block: barriers and W. The bytes of a tile are those of x, and of f if kWithF.
  template <bool kWithF>
  __device__ void Start();
  template <bool kWithF>
  __device__ void Load(int n);
  __device__ void Await(int n) { hopper::AwaitPhase(Barrier(n), n / Space::kStages % 2); }
  __device__ void Meet() const { hopper::MeetThreads(1 + warpgroup_, 128); }

  // a[l]: products of x with rows 128 l ... of W, the largest of them in the thread's two rows, and
  // |x|^2 there.
  __device__ void Project(int n, float (&a)[2][64], float (&largest)[2], float (&square)[2]) const;

  [[nodiscard]] __device__ int64_t RowOf(int n) const {
    return (int64_t{blockIdx.x} + int64_t{n} * gridDim.x) * kWarpgroups * kTileRows +
           warpgroup_ * kTileRows;
  }
  [[nodiscard]] __device__ bool Has(int n) const { return RowOf(n) < rows_.Rows(); }
  [[nodiscard]] __device__ bool Sees(int64_t row) const {
    return row < rows_.Rows() && (rows_.valid == nullptr || rows_.valid[row / rows_.heads] != 0);
  }
  [[nodiscard]] __device__ uint8_t* X(int n) const {
    return OfWarpgroup() + n % Space::kStages * Space::kXBytes;
  }
  [[nodiscard]] __device__ uint8_t* F(int n) const {
    return OfWarpgroup() + Space::kStages * Space::kXBytes + n * Space::kFBytes;
  }
  [[nodiscard]] __device__ const uint8_t* Projection() const { return shared_; }
  [[nodiscard]] __device__ hopper::Tiles tiles() const { return tiles_; }
  [[nodiscard]] __device__ bool leads() const { return leads_; }
  [[nodiscard]] __device__ const ProjectedRows& rows() const { return rows_; }

 private:
  [[nodiscard]] __device__ uint8_t* OfWarpgroup() const {
    return shared_ + Space::kProjectionBytes + warpgroup_ * Space::kOfWarpgroup;
  }
  [[nodiscard]] __device__ uint64_t* Barrier(int n) const {
    return barriers_ + 1 + warpgroup_ * Space::kStages + n % Space::kStages;
  }

  const FeaturesParams& params_;
  const ProjectedRows& rows_;
  uint8_t* const shared_;
  const hopper::Tiles tiles_;  // the same: of W
  const int warpgroup_;
  const bool leads_;
  uint64_t* const barriers_;
};

template <int kDim, typename Space>
template <bool kWithF>
__device__ void FeatureRows<kDim, Space>::Start() {
  if (threadIdx.x == 0) {
    for (int i = 0; i < 1 + kWarpgroups * Space::kStages; ++i) {
      hopper::InitBarrier(barriers_ + i, 1);
    }
    hopper::PublishBarriers();
    hopper::ArriveExpecting(barriers_, Space::kProjectionBytes);
    for (int i = 0; i < kDim / 64 * kFeatureTiles; ++i) {
      const int rows = i % kFeatureTiles;
      const int column = i / kFeatureTiles;
      hopper::LoadBox(params_.projection, shared_ + i * kTileBytes, barriers_, 64 * column, 0,
                      64 * rows, 0);
    }
  }
  __syncthreads();
  for (int n = 0; n < Space::kStages; ++n) Load<kWithF>(n);
  hopper::AwaitPhase(barriers_, 0);
}

template <int kDim, typename Space>
template <bool kWithF>
__device__ void FeatureRows<kDim, Space>::Load(int n) {
  if (!leads_ || !Has(n)) return;
  const auto row = static_cast<int>(RowOf(n));
  hopper::ArriveExpecting(Barrier(n), Space::kXBytes + (kWithF ? Space::kFBytes : 0));
  LoadTiles<kDim>(params_.x, X(n), Barrier(n), 0, row, 0);
  if constexpr (kWithF) {
    LoadTiles<kProjectedFeatures>(params_.f, F(n % Space::kStages), Barrier(n), 0, row, 0);
  }
}

template <int kDim, typename Space>
__device__ void FeatureRows<kDim, Space>::Project(int n, float (&a)[2][64], float (&largest)[2],
                                                  float (&square)[2]) const {
  uint32_t x[kDim / 16][4];
  square[0] = square[1] = 0;
#pragma unroll
  for (int s = 0; s < kDim / 16; ++s) {
    hopper::LoadPlain(x[s], X(n) + s / 4 * kTileBytes, 16 * (s % 4));
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float low = hopper::LowOf(x[s][i]);
      const float high = hopper::HighOf(x[s][i]);
      square[i % 2] += low * low + high * high;
    }
  }
  hopper::StartProducts();
#pragma unroll
  for (int l = 0; l < 2; ++l) {
#pragma unroll
    for (int s = 0; s < kDim / 16; ++s) {
      hopper::Multiply<Rows::kAreMN>(
          a[l], x[s],
          hopper::RowsTile(tiles_ + s / 4 * Space::kColumnBytes + 2 * l * kTileBytes, s % 4),
          s > 0);
    }
  }
  hopper::CommitProducts();
  hopper::AwaitProducts<0>();
  largest[0] = largest[1] = -INFINITY;
#pragma unroll
  for (int l = 0; l < 2; ++l) {
    hopper::Settle(a[l]);
#pragma unroll
    for (int i = 0; i < 64; ++i) {
      largest[i % 4 / 2] = fmaxf(largest[i % 4 / 2], a[l][i]);
    }
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    largest[i] = GroupReduce<4>(largest[i], MaxOf());
    square[i] = GroupReduce<4>(square[i], AddOf());
  }
}

// exp(scale (a - largest)) of a thread's two rows.
struct Exponential {
  __device__ Exponential(float scale, const float (&largest)[2]) : factor(scale * kLog2e) {
    for (int i = 0; i < 2; ++i) shift[i] = -factor * largest[i];
  }
  __device__ float operator()(float a, int row) const {
    return PowerOfTwo(fmaf(factor, a, shift[row]));
  }
  float factor;
  float shift[2];
};

// ---- Forward

template <int kDim>
__global__ void __launch_bounds__(ForwardLayout<kDim>::kThreads, 1)
    Features(const __grid_constant__ FeaturesParams params) {
  using Space = ForwardLayout<kDim>;
  extern __shared__ uint8_t raw[];
  FeatureRows<kDim, Space> work(params, AlignedShared(raw));
  const ProjectedRows& rows = params.rows;
  const Place at;
  work.template Start<false>();
  for (int n = 0; work.Has(n); ++n) {
    float a[2][64];
    float largest[2];
    float square[2];
    work.Await(n);
    work.Project(n, a, largest, square);
    if (work.leads()) hopper::AwaitStoresRead<0>();
    work.Meet();  // x was read, and what was in the place of f
    work.template Load<false>(n + Space::kStages);
    bool seen[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int64_t row = work.RowOf(n) + at.row + 8 * i;
      seen[i] = work.Sees(row);
      if (params.levels == nullptr || at.column > 0 || row >= rows.Rows()) continue;
      const int64_t token = row / rows.heads;
      params.levels[(token / rows.tokens * rows.heads + row % rows.heads) * rows.tokens +
                    token % rows.tokens] =
          seen[i] ? rows.scale * (largest[i] - 0.5F * rows.scale * square[i]) : -INFINITY;
    }
    const Exponential exponential(rows.scale, largest);
#pragma unroll
    for (int l = 0; l < 2; ++l) {
#pragma unroll
      for (int i = 0; i < 64; ++i) a[l][i] = exponential(a[l][i], i % 4 / 2) + rows.floor;
      uint32_t pairs[8][4];
      hopper::ToOperand(pairs, a[l]);
#pragma unroll
      for (int s = 0; s < 8; ++s) {
#pragma unroll
        for (int i = 0; i < 4; ++i) pairs[s][i] = seen[i % 2] ? pairs[s][i] : 0U;
        hopper::StorePlain(work.F(0) + (2 * l + s / 4) * kTileBytes, 16 * (s % 4), pairs[s]);
      }
    }
    hopper::FenceForEngines();
    work.Meet();
    if (work.leads()) {
      for (int i = 0; i < kFeatureTiles; ++i) {
        hopper::StoreBox(params.f, work.F(0) + i * kTileBytes, 64 * i, 0,
                         static_cast<int>(work.RowOf(n)), 0);
      }
      hopper::CommitStores();
    }
  }
  if (work.leads()) hopper::AwaitStoresRead<0>();
}

// ---- Backward

// Sums over the features of a thread's two rows.
struct RowSums {
  float slopes[2] = {};  // df f
  float floors[2] = {};  // floor df
  int top[2] = {};       // the first feature of the largest
};

// With a_l = w_l . x' and l* the first of the largest: f_l = e_l + floor, e_l = exp(a_l - a_l*), in
// units of exp(a_l* - |x'|^2 / 2), so da_l = df_l e_l, da_l* has floor sum df beside, and x' has
// -x' sum df f. Leaves in `pairs` the da_l without what a_l* has beside.
__device__ RowSums FeatureSlopes(const uint8_t* d_f, const ProjectedRows& rows,
                                 const float (&largest)[2], const float (&a)[2][64],
                                 uint32_t (&pairs)[16][4], const Place& at) {
  RowSums sums;
  if (rows.floor > 0) {
#pragma unroll
    for (int i = 127; i >= 0; --i) {
      const int half = i % 4 / 2;
      if (a[i / 64][i % 64] == largest[half]) sums.top[half] = 1 + i / 4 * 8 + i % 2;
    }
#pragma unroll
    for (int& top : sums.top) {
      top = top == 0 ? kProjectedFeatures : top - 1 + at.column;
      top = -GroupReduce<4>(-top, MaxOf());
    }
  }
  const Exponential exponential(rows.scale, largest);
#pragma unroll
  for (int s = 0; s < 16; ++s) {
    uint32_t d[4];
    hopper::LoadPlain(d, d_f + s / 4 * kTileBytes, 16 * (s % 4));
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int l = 8 * (s % 8) + 2 * i;
      const float low = hopper::LowOf(d[i]);
      const float high = hopper::HighOf(d[i]);
      const float d_low = low * exponential(a[s / 8][l], i % 2);
      const float d_high = high * exponential(a[s / 8][l + 1], i % 2);
      sums.floors[i % 2] += low + high;
      sums.slopes[i % 2] += d_low + d_high;
      pairs[s][i] = hopper::PackPair(d_low, d_high);
    }
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    sums.floors[i] = rows.floor * GroupReduce<4>(sums.floors[i], AddOf());
    sums.slopes[i] = GroupReduce<4>(sums.slopes[i], AddOf()) + sums.floors[i];
  }
  return sums;
}

// dx, which takes the place of x, from the products d of da and W.
template <int kDim, typename Space>
__device__ void WriteRows(const FeatureRows<kDim, Space>& work, int n, const RowSums& sums,
                          const float (&d)[kDim / 2], const Place& at) {
  const ProjectedRows& rows = work.rows();
  bool seen[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) seen[i] = work.Sees(work.RowOf(n) + at.row + 8 * i);
#pragma unroll
  for (int s = 0; s < kDim / 16; ++s) {
    uint8_t* const tile = work.X(n) + s / 4 * kTileBytes;
    const uint8_t* const column = work.Projection() + s / 4 * Space::kColumnBytes;
    uint32_t x[4];
    hopper::LoadPlain(x, tile, 16 * (s % 4));
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float direct = rows.scale * sums.slopes[i % 2];
      float low = d[8 * s + 2 * i] - direct * hopper::LowOf(x[i]);
      float high = d[8 * s + 2 * i + 1] - direct * hopper::HighOf(x[i]);
      if (rows.floor > 0) {
        const uint32_t w = *reinterpret_cast<const uint32_t*>(
            column + hopper::SwizzledOffset(sums.top[i % 2] * hopper::kTileRowBytes +
                                            (s % 4 * 16 + i / 2 * 8 + at.column) * 2));
        low += sums.floors[i % 2] * hopper::LowOf(w);
        high += sums.floors[i % 2] * hopper::HighOf(w);
      }
      x[i] = seen[i % 2] ? hopper::PackPair(rows.scale * low, rows.scale * high) : 0U;
    }
    __syncwarp();
    hopper::StorePlain(tile, 16 * (s % 4), x);
  }
}

template <int kDim>
__global__ void __launch_bounds__(BackwardLayout<kDim>::kThreads, 1)
    FeatureGradients(const __grid_constant__ FeaturesParams params) {
  using Space = BackwardLayout<kDim>;
  extern __shared__ uint8_t raw[];
  FeatureRows<kDim, Space> work(params, AlignedShared(raw));
  const ProjectedRows& rows = params.rows;
  const Place at;
  work.template Start<true>();
  for (int n = 0; work.Has(n); ++n) {
    float a[2][64];
    float largest[2];
    float square[2];
    work.Await(n);
    work.Project(n, a, largest, square);
    uint32_t pairs[16][4];
    const RowSums sums = FeatureSlopes(work.F(n % Space::kStages), rows, largest, a, pairs, at);
    float d[kDim / 2];
    hopper::StartProducts();
#pragma unroll
    for (int s = 0; s < 16; ++s) {
      hopper::Multiply<Rows::kAreK>(
          d, pairs[s], hopper::ColumnsTile(work.tiles(), s, Space::kColumnBytes), s > 0);
    }
    hopper::CommitProducts();
    hopper::AwaitProducts<0>();
    hopper::Settle(d);
    WriteRows(work, n, sums, d, at);
    hopper::FenceForEngines();
    work.Meet();
    if (work.leads()) {
      for (int i = 0; i < kDim / 64; ++i) {
        hopper::StoreBox(params.d_x, work.X(n) + i * kTileBytes, 64 * i, 0,
                         static_cast<int>(work.RowOf(n)), 0);
      }
      hopper::CommitStores();
      hopper::AwaitStoresRead<0>();
    }
    work.template Load<true>(n + Space::kStages);
  }
}

// ---- Launching

// Rows of all heads and tokens, one after the other.
cudaError_t MapRows(const __nv_bfloat16* data, int64_t rows, int width, CUtensorMap* map) {
  return MakeTensorMap(data, 1, rows, 1, width, kTileRows, map);
}

template <int kDim, typename Space>
cudaError_t Launch(void (*kernel)(FeaturesParams), const FeaturesParams& params,
                   cudaStream_t stream) {
  const int64_t tiles = (params.rows.Rows() + kTileRows - 1) / kTileRows;
  const int64_t blocks = (tiles + kWarpgroups - 1) / kWarpgroups;
  return LaunchShared(kernel, static_cast<unsigned>(min(blocks, int64_t{kMultiprocessors})),
                      Space::kThreads, Space::kSharedBytes, stream, params);
}

// With the maps that both directions have.
cudaError_t MakeParams(const ProjectedRows& rows, const __nv_bfloat16* f, FeaturesParams* params) {
  params->rows = rows;
  cudaError_t error = MapRows(rows.projection, kProjectedFeatures, rows.dim, &params->projection);
  if (error == cudaSuccess) error = MapRows(rows.x, rows.Rows(), rows.dim, &params->x);
  if (error == cudaSuccess) error = MapRows(f, rows.Rows(), kProjectedFeatures, &params->f);
  return error;
}

}  // namespace

cudaError_t ProjectedFeatures(const ProjectedRows& rows, __nv_bfloat16* f, float* levels,
                              cudaStream_t stream) {
  FeaturesParams params = {};
  params.levels = levels;
  const cudaError_t error = MakeParams(rows, f, &params);
  if (error != cudaSuccess) return error;
  return rows.dim == 64 ? Launch<64, ForwardLayout<64>>(Features<64>, params, stream)
                        : Launch<128, ForwardLayout<128>>(Features<128>, params, stream);
}

cudaError_t ProjectedFeatureGradients(const ProjectedRows& rows, const __nv_bfloat16* d_f,
                                      __nv_bfloat16* d_x, cudaStream_t stream) {
  FeaturesParams params = {};
  cudaError_t error = MakeParams(rows, d_f, &params);
  if (error == cudaSuccess) error = MapRows(d_x, rows.Rows(), rows.dim, &params.d_x);
  if (error != cudaSuccess) return error;
  return rows.dim == 64 ? Launch<64, BackwardLayout<64>>(FeatureGradients<64>, params, stream)
                        : Launch<128, BackwardLayout<128>>(FeatureGradients<128>, params, stream);
}

}  // namespace weft::kernels::sm90
