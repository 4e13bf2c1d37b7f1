// Exponential features of a projection, and the way back (features/feature_map.h). A warpgroup
// takes 64 rows: their products with all 256 rows of W are its accumulators.
#include "kernels/attention/linear_attention/cuda/projected_sm90.cuh"

namespace weft::kernels::sm90 {
namespace {

constexpr int kWarpgroups = 2;
constexpr int kStages = 2;  // of x
constexpr int kTileRows = 64;

struct FeaturesParams {
  CUtensorMap projection, x, f, d_x;  // f or d_f
  ProjectedRows rows;
  float* levels;
};

template <int kDim>
struct Layout {
  static constexpr int kThreads = 128 * kWarpgroups;
  static constexpr int kXBytes = kDim / 64 * kTileBytes;
  static constexpr int kFBytes = kFeatureTiles * kTileBytes;
  // W as columns of tiles, so that an operand can have more than 64 of its rows.
  static constexpr int kColumnBytes = hopper::TileBytes(kProjectedFeatures);
  static constexpr int kProjectionBytes = kDim / 64 * kColumnBytes;
  static constexpr int kOfWarpgroup = kStages * kXBytes + kFBytes;
  static constexpr int kBarriers = kProjectionBytes + kWarpgroups * kOfWarpgroup;
  // Of W and, for each warpgroup, of x and of f.
  static constexpr int kBarrierCount = 1 + kWarpgroups * (kStages + 1);
  static constexpr int kSharedBytes = kBarriers + kBarrierCount * 8 + kSharedSlack;
};
static_assert(Layout<128>::kSharedBytes <= 227 * 1024);

// A warpgroup of a block: it takes every so many tiles of 64 rows.
template <int kDim>
class FeatureRows {
 public:
  using Space = Layout<kDim>;
  __device__ FeatureRows(const FeaturesParams& params, uint8_t* shared)
      : params_(params),
        rows_(params.rows),
        shared_(shared),
        tiles_(hopper::TilesAt(shared)),
        warpgroup_(static_cast<int>(threadIdx.x) / 128),
        leads_(threadIdx.x % 128 == 0),
        barriers_(reinterpret_cast<uint64_t*>(shared + Space::kBarriers)) {}

  // Once, by the block: barriers and W.
  __device__ void Start();
  // Rows of the n-th tile, if there is one, into a place that nobody reads any more.
  __device__ void LoadX(int n);
  __device__ void LoadF(int n);
  __device__ void AwaitX(int n) { hopper::AwaitPhase(XBarrier(n), n / kStages % 2); }
  __device__ void AwaitF(int n) { hopper::AwaitPhase(FBarrier(), n % 2); }
  // Sends out what is in the place of f, or of x.
  __device__ void StoreF(int n);
  __device__ void StoreX(int n);
  __device__ void Meet() const { hopper::MeetThreads(1 + warpgroup_, 128); }

  // a[l]: products of x with rows 128 l ... of W, the largest of them in the thread's two rows, and
  // |x|^2 there.
  __device__ void Project(int n, float (&a)[2][64], float (&largest)[2], float (&square)[2]) const;

  [[nodiscard]] __device__ int RowOf(int n) const {
    const int pair = static_cast<int>(blockIdx.x) + n * static_cast<int>(gridDim.x);
    return (pair * kWarpgroups + warpgroup_) * kTileRows;
  }
  [[nodiscard]] __device__ bool Has(int n) const { return RowOf(n) < rows_.Rows(); }
  [[nodiscard]] __device__ bool Sees(int row) const {
    return row < rows_.Rows() && (rows_.valid == nullptr || rows_.valid[row / rows_.heads] != 0);
  }
  [[nodiscard]] __device__ uint8_t* X(int n) const {
    return OfWarpgroup() + n % kStages * Space::kXBytes;
  }
  [[nodiscard]] __device__ uint8_t* F() const { return OfWarpgroup() + kStages * Space::kXBytes; }
  [[nodiscard]] __device__ const uint8_t* Projection() const { return shared_; }
  [[nodiscard]] __device__ hopper::Tiles tiles() const { return tiles_; }
  [[nodiscard]] __device__ bool leads() const { return leads_; }
  [[nodiscard]] __device__ const ProjectedRows& rows() const { return rows_; }

 private:
  [[nodiscard]] __device__ uint8_t* OfWarpgroup() const {
    return shared_ + Space::kProjectionBytes + warpgroup_ * Space::kOfWarpgroup;
  }
  [[nodiscard]] __device__ uint64_t* FBarrier() const {
    return barriers_ + 1 + warpgroup_ * (kStages + 1);
  }
  [[nodiscard]] __device__ uint64_t* XBarrier(int n) const { return FBarrier() + 1 + n % kStages; }

  const FeaturesParams& params_;
  const ProjectedRows& rows_;
  uint8_t* const shared_;
  const hopper::Tiles tiles_;  // the same: of W
  const int warpgroup_;
  const bool leads_;
  uint64_t* const barriers_;
};

template <int kDim>
__device__ void FeatureRows<kDim>::Start() {
  if (threadIdx.x == 0) {
    for (int i = 0; i < Space::kBarrierCount; ++i) hopper::InitBarrier(barriers_ + i, 1);
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
  hopper::AwaitPhase(barriers_, 0);
}

template <int kDim>
__device__ void FeatureRows<kDim>::LoadX(int n) {
  if (!leads_ || !Has(n)) return;
  hopper::ArriveExpecting(XBarrier(n), Space::kXBytes);
  LoadTiles<kDim>(params_.x, X(n), XBarrier(n), 0, RowOf(n), 0);
}
template <int kDim>
__device__ void FeatureRows<kDim>::LoadF(int n) {
  if (!leads_ || !Has(n)) return;
  hopper::ArriveExpecting(FBarrier(), Space::kFBytes);
  LoadTiles<kProjectedFeatures>(params_.f, F(), FBarrier(), 0, RowOf(n), 0);
}

template <int kDim>
__device__ void FeatureRows<kDim>::StoreF(int n) {
  hopper::FenceForEngines();
  Meet();
  if (!leads_) return;
  for (int i = 0; i < kFeatureTiles; ++i) {
    hopper::StoreBox(params_.f, F() + i * kTileBytes, 64 * i, 0, RowOf(n), 0);
  }
  hopper::CommitStores();
}
template <int kDim>
__device__ void FeatureRows<kDim>::StoreX(int n) {
  hopper::FenceForEngines();
  Meet();
  if (!leads_) return;
  for (int i = 0; i < kDim / 64; ++i) {
    hopper::StoreBox(params_.d_x, X(n) + i * kTileBytes, 64 * i, 0, RowOf(n), 0);
  }
  hopper::CommitStores();
}

template <int kDim>
__device__ void FeatureRows<kDim>::Project(int n, float (&a)[2][64], float (&largest)[2],
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

__device__ void StoreLevel(const FeaturesParams& params, int row, bool seen, float largest,
                           float square) {
  const ProjectedRows& rows = params.rows;
  if (params.levels == nullptr || row >= rows.Rows()) return;
  const int token = row / rows.heads;
  const int head = token / rows.tokens * rows.heads + row % rows.heads;
  params.levels[int64_t{head} * rows.tokens + token % rows.tokens] =
      seen ? rows.scale * (largest - 0.5F * rows.scale * square) : -INFINITY;
}

template <int kDim>
__global__ void __launch_bounds__(Layout<kDim>::kThreads, 1)
    Features(const __grid_constant__ FeaturesParams params) {
  extern __shared__ uint8_t raw[];
  FeatureRows<kDim> work(params, AlignedShared(raw));
  const Place at;
  work.Start();
  for (int n = 0; n < kStages; ++n) work.LoadX(n);
  for (int n = 0; work.Has(n); ++n) {
    float a[2][64];
    float largest[2];
    float square[2];
    work.AwaitX(n);
    work.Project(n, a, largest, square);
    if (work.leads()) hopper::AwaitStoresRead<0>();
    work.Meet();  // x was read, and what was in the place of f
    work.LoadX(n + kStages);
    bool seen[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int row = work.RowOf(n) + at.row + 8 * i;
      seen[i] = work.Sees(row);
      if (at.column == 0) StoreLevel(params, row, seen[i], largest[i], square[i]);
    }
    const Exponential exponential(params.rows.scale, largest);
#pragma unroll
    for (int l = 0; l < 2; ++l) {
#pragma unroll
      for (int i = 0; i < 64; ++i) {
        a[l][i] = exponential(a[l][i], i % 4 / 2) + params.rows.floor;
      }
      uint32_t pairs[8][4];
      hopper::ToOperand(pairs, a[l]);
#pragma unroll
      for (int s = 0; s < 8; ++s) {
#pragma unroll
        for (int i = 0; i < 4; ++i) pairs[s][i] = seen[i % 2] ? pairs[s][i] : 0U;
        hopper::StorePlain(work.F() + (2 * l + s / 4) * kTileBytes, 16 * (s % 4), pairs[s]);
      }
    }
    work.StoreF(n);
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
template <int kDim>
__device__ void WriteRows(const FeatureRows<kDim>& work, int n, const RowSums& sums,
                          const float (&d)[kDim / 2], const Place& at) {
  const ProjectedRows& rows = work.rows();
  bool seen[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) seen[i] = work.Sees(work.RowOf(n) + at.row + 8 * i);
  // Rows of W: its pieces of 16 bytes lie in another order in each of eight rows.
  const uint8_t* tops[2];
  int orders[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    tops[i] = work.Projection() + sums.top[i] * hopper::kTileRowBytes + at.column * 2;
    orders[i] = sums.top[i] % 8;
  }
#pragma unroll
  for (int s = 0; s < kDim / 16; ++s) {
    uint8_t* const tile = work.X(n) + s / 4 * kTileBytes;
    uint32_t x[4];
    hopper::LoadPlain(x, tile, 16 * (s % 4));
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float direct = rows.scale * sums.slopes[i % 2];
      float low = d[8 * s + 2 * i] - direct * hopper::LowOf(x[i]);
      float high = d[8 * s + 2 * i + 1] - direct * hopper::HighOf(x[i]);
      if (rows.floor > 0) {
        const int piece = (s % 4 * 2 + i / 2) ^ orders[i % 2];
        const uint32_t w = *reinterpret_cast<const uint32_t*>(
            tops[i % 2] + s / 4 * Layout<kDim>::kColumnBytes + piece * 16);
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
__global__ void __launch_bounds__(Layout<kDim>::kThreads, 1)
    FeatureGradients(const __grid_constant__ FeaturesParams params) {
  extern __shared__ uint8_t raw[];
  FeatureRows<kDim> work(params, AlignedShared(raw));
  const Place at;
  work.Start();
  work.LoadX(0);
  work.LoadF(0);
  for (int n = 0; work.Has(n); ++n) {
    float a[2][64];
    float largest[2];
    float square[2];
    work.AwaitX(n);
    work.Project(n, a, largest, square);
    uint32_t pairs[16][4];
    work.AwaitF(n);
    const RowSums sums = FeatureSlopes(work.F(), params.rows, largest, a, pairs, at);
    if (work.leads()) hopper::AwaitStoresRead<0>();
    work.Meet();  // df was read, and what was in the place of the x to come
    work.LoadX(n + 1);
    work.LoadF(n + 1);
    float d[kDim / 2];
    hopper::StartProducts();
#pragma unroll
    for (int s = 0; s < 16; ++s) {
      hopper::Multiply<Rows::kAreK>(
          d, pairs[s], hopper::ColumnsTile(work.tiles(), s, Layout<kDim>::kColumnBytes), s > 0);
    }
    hopper::CommitProducts();
    hopper::AwaitProducts<0>();
    hopper::Settle(d);
    WriteRows(work, n, sums, d, at);
    work.StoreX(n);
  }
  if (work.leads()) hopper::AwaitStoresRead<0>();
}

// ---- Launching

// Rows of all heads and tokens, one after the other.
cudaError_t MapRows(const __nv_bfloat16* data, int64_t rows, int width, CUtensorMap* map) {
  return MakeTensorMap(data, 1, rows, 1, width, kTileRows, map);
}

template <int kDim>
cudaError_t Launch(void (*kernel)(FeaturesParams), const FeaturesParams& params,
                   cudaStream_t stream) {
  const int tiles = (params.rows.Rows() + kTileRows - 1) / kTileRows;
  const int blocks = (tiles + kWarpgroups - 1) / kWarpgroups;
  return LaunchShared(kernel, static_cast<unsigned>(min(blocks, kMultiprocessors)),
                      Layout<kDim>::kThreads, Layout<kDim>::kSharedBytes, stream, params);
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
  return rows.dim == 64 ? Launch<64>(Features<64>, params, stream)
                        : Launch<128>(Features<128>, params, stream);
}

cudaError_t ProjectedFeatureGradients(const ProjectedRows& rows, const __nv_bfloat16* d_f,
                                      __nv_bfloat16* d_x, cudaStream_t stream) {
  FeaturesParams params = {};
  cudaError_t error = MakeParams(rows, d_f, &params);
  if (error == cudaSuccess) error = MapRows(d_x, rows.Rows(), rows.dim, &params.d_x);
  if (error != cudaSuccess) return error;
  return rows.dim == 64 ? Launch<64>(FeatureGradients<64>, params, stream)
                        : Launch<128>(FeatureGradients<128>, params, stream);
}

}  // namespace weft::kernels::sm90
