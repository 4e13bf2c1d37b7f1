// Levels of exponential features, sums of segments, and the states between them.
#include "kernels/attention/cuda/tile_product.cuh"
#include "kernels/attention/linear_attention/cuda/portable_head.cuh"
#include "kernels/device/cuda/reduce.cuh"

namespace weft::kernels {
namespace {

// ---- Levels

struct LevelsParams {
  LinearCudaShape shape;
  const float* start;
  int64_t stride;
  LinearLevels levels;
};

constexpr int kLevelThreads = 1024;

// The level of a state; -infinity when nothing is in it.
__device__ float LevelOfState(const LinearCudaShape& shape, const float* state) {
  if (state == nullptr) return -INFINITY;
  const float* const z = state + int64_t{shape.features} * shape.value_dim;
  bool empty = true;
  for (int l = static_cast<int>(threadIdx.x); l < shape.features; l += kLevelThreads) {
    empty &= z[l] == 0;
  }
  return __syncthreads_and(empty) ? -INFINITY : z[shape.features];
}

// The largest of the values of this thread and those before it in the block; in `all`, of the
// block. `warps` holds as many floats as the block has warps.
__device__ float LargestSoFar(float here, float* warps, float* all) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
#pragma unroll
  for (int distance = 1; distance < 32; distance *= 2) {
    const float before = __shfl_up_sync(0xFFFFFFFF, here, distance);
    if (lane >= distance) here = fmaxf(here, before);
  }
  __syncthreads();  // nobody reads what was there
  if (lane == 31) warps[warp] = here;
  __syncthreads();
  float of_warps = lane < kLevelThreads / 32 ? warps[lane] : -INFINITY;
  *all = GroupReduce<32>(of_warps, MaxOf());
  of_warps = GroupReduce<32>(lane < warp ? of_warps : -INFINITY, MaxOf());
  return fmaxf(here, of_warps);
}

__device__ float StartOf(const LevelsParams& params, int64_t head) {
  return LevelOfState(params.shape,
                      params.start == nullptr ? nullptr : params.start + head * params.stride);
}

// The highest level so far, token by token; that of the last for all without an order. A block for
// each head.
__global__ void __launch_bounds__(kLevelThreads) RunningLevels(LevelsParams params) {
  __shared__ float warps[kLevelThreads / 32];
  const LinearCudaShape& shape = params.shape;
  const int64_t row = int64_t{blockIdx.x} * shape.tokens;
  const float* const key = params.levels.key + row;
  float* const running = params.levels.running + row;
  const auto thread = static_cast<int>(threadIdx.x);
  const auto level_of = [&](int t) { return t < shape.tokens ? key[t] : -INFINITY; };
  float level = StartOf(params, blockIdx.x);
  float next = level_of(thread);
  for (int first = 0; first < shape.tokens; first += kLevelThreads) {
    const int t = first + thread;
    const float here = next;
    next = level_of(t + kLevelThreads);
    float all = 0;
    const float so_far = LargestSoFar(here, warps, &all);
    if (shape.causal && t < shape.tokens) running[t] = fmaxf(so_far, level);
    level = fmaxf(level, all);
  }
  if (shape.causal) return;
  for (int t = thread; t < shape.tokens; t += kLevelThreads) running[t] = level;
}

// Levels before segments, and what they make of tokens and states: a thread for each token of a
// head, the first block also for the segments.
__global__ void __launch_bounds__(kLevelThreads) SegmentLevels(LevelsParams params) {
  const LinearCudaShape& shape = params.shape;
  const int64_t head = blockIdx.x;
  const int64_t row = head * shape.tokens;
  const int segments = shape.Segments();
  const float* const running = params.levels.running + row;
  const float start = StartOf(params, head);
  const float last = shape.tokens > 0 ? running[shape.tokens - 1] : start;
  const auto before = [&](int s) {  // segment s
    if (!shape.causal || s == segments) return last;
    return s == 0 ? start : running[s * shape.segment_tokens - 1];
  };
  if (blockIdx.y == 0) {
    float* const bounds = params.levels.segments + head * (segments + 1);
    for (int s = static_cast<int>(threadIdx.x); s <= segments; s += kLevelThreads) {
      bounds[s] = before(s);
    }
  }
  const int t = static_cast<int>(blockIdx.y * kLevelThreads + threadIdx.x);
  if (t >= shape.tokens) return;
  const int s = t / shape.segment_tokens;
  params.levels.weight[row + t] = LevelFactor(params.levels.key[row + t], before(s + 1));
  params.levels.fading[row + t] = LevelFactor(before(s), running[t]);
}

// ---- Sums

template <typename T>
__global__ void __launch_bounds__(kTileThreads) SegmentSums(SegmentSumsArgs args) {
  __shared__ Slabs<T> slabs;
  __shared__ float partial[4][kTile];
  const LinearCudaShape& shape = args.shape;
  const int segments = shape.Segments();
  const int64_t head = blockIdx.x / segments;
  const int segment = static_cast<int>(blockIdx.x % segments);
  const int tiles = (shape.value_dim + kTile - 1) / kTile;
  const int l0 = static_cast<int>(blockIdx.y) / tiles * kTile;
  const int j0 = static_cast<int>(blockIdx.y) % tiles * kTile;
  const LinearHeadPlace place(shape, head);
  const int t0 = segment * shape.segment_tokens;
  const int count = min(shape.segment_tokens, shape.tokens - t0);
  const float* const weights = args.weights == nullptr ? nullptr : args.weights + place.row + t0;
  float sums[4][4] = {};
  TileProduct(
      sums, Transposed(place.Features(args.f, t0, count), l0),
      WithWeights(Transposed(place.Values(static_cast<const T*>(args.y), t0, count), j0), weights),
      slabs);
  float* const part = args.parts + blockIdx.x * shape.StateSize();
  ForTile(shape.features - l0, shape.value_dim - j0, [&](int n, int e, int l, int c) {
    part[int64_t{l0 + l} * shape.value_dim + j0 + c] = sums[n][e];
  });
  if (j0 > 0) return;
  // z: four threads for each feature, each every fourth token.
  const int l = static_cast<int>(threadIdx.x) % kTile;
  const int turn = static_cast<int>(threadIdx.x) / kTile;
  const Panel<float> f = place.Features(args.f, t0, count);
  float sum = 0;
  for (int t = turn; l0 + l < shape.features && t < count; t += 4) {
    const float weight = args.sum_weights == nullptr ? 1.0F : args.sum_weights[place.row + t0 + t];
    sum += weight * f.at[t * f.row_stride + l0 + l];
  }
  partial[turn][l] = sum;
  __syncthreads();
  if (turn == 0 && l0 + l < shape.features) {
    part[int64_t{shape.features} * shape.value_dim + l0 + l] =
        (partial[0][l] + partial[1][l]) + (partial[2][l] + partial[3][l]);
  }
}

// ---- States: a thread for each of kElements elements of a head

constexpr int kElements = 4;

struct Elements {
  __device__ explicit Elements(const LinearCudaShape& shape)
      : head(blockIdx.y),
        size(shape.StateSize()),
        level(static_cast<int>(size) - 1),
        first(static_cast<int>(blockIdx.x) * kTileThreads * kElements +
              static_cast<int>(threadIdx.x)) {}
  // body(i, element) for those of this thread that are there.
  template <typename Body>
  __device__ void Each(const Body& body) const {
#pragma unroll
    for (int i = 0; i < kElements; ++i) {
      const int element = first + i * kTileThreads;
      if (element <= level) body(i, element);
    }
  }

  int64_t head;
  int64_t size;
  int level;  // the element that is none
  int first;
};

dim3 ElementBlocks(const LinearCudaShape& shape) {
  return {static_cast<unsigned>(CeilDiv(shape.StateSize(), kTileThreads * kElements)),
          static_cast<unsigned>(shape.AllHeads())};
}

// The levels before the segments of a head, and at its end.
class LevelsOfHead {
 public:
  __device__ LevelsOfHead(const StatesArgs& args, int64_t head) {
    if (args.levels == nullptr) return;
    const LinearCudaShape& shape = args.shape;
    const int apart = args.level_tokens > 0 ? args.level_tokens : shape.segment_tokens;
    step_ = shape.segment_tokens / apart;
    last_ = shape.tokens == 0 ? 1 : (shape.tokens + apart - 1) / apart;
    levels_ = args.levels + head * (last_ + 1);
  }
  [[nodiscard]] __device__ float At(int s) const { return levels_[min(s * step_, last_)]; }
  // What a state counts at the end of segment s when it was made before it.
  template <bool kLevels>
  [[nodiscard]] __device__ float FadingOf(int s) const {
    return kLevels ? LevelFactor(At(s), At(s + 1)) : 1.0F;
  }

 private:
  const float* levels_ = nullptr;
  int step_ = 0;
  int last_ = 0;
};

template <bool kLevels>
__global__ void __launch_bounds__(kTileThreads) States(StatesArgs args) {
  const Elements elements(args.shape);
  const int segments = args.shape.Segments();
  const LevelsOfHead levels(args, elements.head);
  float* part = args.parts + elements.head * segments * elements.size;
  float state[kElements] = {};
  if (args.initial != nullptr) {
    const float* const initial = args.initial + elements.head * elements.size;
    elements.Each([&](int i, int e) { state[i] = initial[e]; });
  }
  for (int s = 0; s < segments; ++s) {
    const float fading = levels.FadingOf<kLevels>(s);
    elements.Each([&](int i, int e) {
      const float added = args.shape.tokens > 0 ? part[e] : 0.0F;
      const float level = kLevels ? UnitOf(levels.At(s)) : 0.0F;
      part[e] = e == elements.level ? level : state[i];
      state[i] = fading * state[i] + added;
    });
    part += elements.size;
  }
  if (args.final == nullptr) return;
  elements.Each([&](int i, int e) {
    const float level = kLevels ? UnitOf(levels.At(segments)) : 0.0F;
    args.final[elements.head * elements.size + e] = e == elements.level ? level : state[i];
  });
}

template <bool kLevels>
__global__ void __launch_bounds__(kTileThreads) StateGradients(StatesArgs args) {
  const Elements elements(args.shape);
  const int segments = args.shape.Segments();
  const LevelsOfHead levels(args, elements.head);
  float* part = args.parts + (elements.head + 1) * segments * elements.size;
  float gradient[kElements] = {};
  if (args.initial != nullptr) {
    const float* const initial = args.initial + elements.head * elements.size;
    elements.Each([&](int i, int e) { gradient[i] = e == elements.level ? 0.0F : initial[e]; });
  }
  for (int s = segments - 1; s >= 0; --s) {
    part -= elements.size;
    const float fading = levels.FadingOf<kLevels>(s);
    elements.Each([&](int i, int e) {
      const float added = args.shape.tokens > 0 && e != elements.level ? part[e] : 0.0F;
      part[e] = gradient[i];
      gradient[i] = fading * gradient[i] + added;
    });
  }
  if (args.final == nullptr) return;
  // What is measured from nothing has no gradient.
  const bool none = kLevels && levels.At(0) == -INFINITY;
  elements.Each([&](int i, int e) {
    args.final[elements.head * elements.size + e] = none ? 0.0F : gradient[i];
  });
}

struct TotalParams {
  LinearCudaShape shape;
  const float* levels;
  const float* parts;
  float* total;
  bool subtract;  // from what is there
};

__global__ void __launch_bounds__(kTileThreads) Total(TotalParams params) {
  const Elements elements(params.shape);
  const int segments = params.shape.Segments();
  const float* const parts = params.parts + elements.head * segments * elements.size;
  elements.Each([&](int, int e) {
    float* const to = params.total + elements.head * elements.size + e;
    if (e == elements.level) {
      if (params.subtract) return;
      *to = params.levels == nullptr
                ? 0.0F
                : UnitOf(params.levels[(elements.head + 1) * (segments + 1) - 1]);
      return;
    }
    float sum = params.subtract ? *to : 0.0F;
    for (int s = 0; params.shape.tokens > 0 && s < segments; ++s) {
      const float part = parts[s * elements.size + e];
      sum = params.subtract ? sum - part : sum + part;
    }
    *to = sum;
  });
}

}  // namespace

cudaError_t LaunchLevels(const CudaLaunch& on, const LinearCudaShape& shape, const float* start,
                         int64_t stride, bool known, const LinearLevels& levels) {
  const LevelsParams params{shape, start, stride, levels};
  const auto heads = static_cast<unsigned>(shape.AllHeads());
  if (!known) RunningLevels<<<heads, kLevelThreads, 0, on.stream>>>(params);
  const int64_t parts = shape.tokens == 0 ? 1 : CeilDiv(shape.tokens, kLevelThreads);
  SegmentLevels<<<dim3(heads, static_cast<unsigned>(parts)), kLevelThreads, 0, on.stream>>>(params);
  return cudaGetLastError();
}

cudaError_t LaunchSegmentSums(const CudaLaunch& on, const SegmentSumsArgs& args) {
  const LinearCudaShape& shape = args.shape;
  if (shape.tokens == 0) return cudaSuccess;
  const dim3 blocks(
      static_cast<unsigned>(shape.AllHeads() * shape.Segments()),
      static_cast<unsigned>(CeilDiv(shape.features, kTile) * CeilDiv(shape.value_dim, kTile)));
  return ForComputeType(on, [&]<typename T>() {
    SegmentSums<T><<<blocks, kTileThreads, 0, on.stream>>>(args);
    return cudaGetLastError();
  });
}

cudaError_t LaunchStates(const CudaLaunch& on, const StatesArgs& args) {
  const auto kernel = args.levels == nullptr ? States<false> : States<true>;
  kernel<<<ElementBlocks(args.shape), kTileThreads, 0, on.stream>>>(args);
  return cudaGetLastError();
}

cudaError_t LaunchStateGradients(const CudaLaunch& on, const StatesArgs& args) {
  const auto kernel = args.levels == nullptr ? StateGradients<false> : StateGradients<true>;
  kernel<<<ElementBlocks(args.shape), kTileThreads, 0, on.stream>>>(args);
  return cudaGetLastError();
}

cudaError_t LaunchTotal(const CudaLaunch& on, const LinearCudaShape& shape, const float* levels,
                        const float* parts, float* total) {
  Total<<<ElementBlocks(shape), kTileThreads, 0, on.stream>>>(
      {shape, levels, parts, total, /*subtract=*/false});
  return cudaGetLastError();
}

cudaError_t LaunchSubtract(const CudaLaunch& on, const LinearCudaShape& shape, const float* parts,
                           float* state) {
  Total<<<ElementBlocks(shape), kTileThreads, 0, on.stream>>>(
      {shape, nullptr, parts, state, /*subtract=*/true});
  return cudaGetLastError();
}

}  // namespace weft::kernels
