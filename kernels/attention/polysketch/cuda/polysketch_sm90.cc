#include "kernels/attention/polysketch/cuda/polysketch_sm90.h"

#include "kernels/device/cuda/cuda_carver.h"
#include "kernels/device/cuda/tensor_map.h"

namespace weft::kernels::sm90 {
namespace {

constexpr int kBoxTokens = 64;

// Makes maps of the [B, T, H, D] tensors of a call; the first error stays.
class MapMaker {
 public:
  explicit MapMaker(const PolysketchCudaShape& shape) : shape_(shape) {}
  CUtensorMap operator()(const __nv_bfloat16* data) {
    CUtensorMap map = {};
    if (error_ == cudaSuccess) {
      error_ = MakeTensorMap(data, shape_.batch, shape_.tokens, shape_.heads, shape_.width,
                             kBoxTokens, &map);
    }
    return map;
  }
  [[nodiscard]] cudaError_t error() const { return error_; }

 private:
  PolysketchCudaShape shape_;
  cudaError_t error_ = cudaSuccess;
};

// The first error of a row of launches.
class Launches {
 public:
  void operator()(cudaError_t error) {
    if (error_ == cudaSuccess) error_ = error;
  }
  [[nodiscard]] cudaError_t error() const { return error_; }

 private:
  cudaError_t error_ = cudaSuccess;
};

constexpr int64_t kBoundary = 1024;  // where parts of the working space begin

PolysketchStates TakeStates(const PolysketchCudaShape& s, CudaCarver& carver) {
  const int64_t pairs = int64_t{s.batch} * s.heads * SlotsOf(s) * PairsOf(s.sketch);
  uint8_t* const squares = carver.TakeBytes(pairs * SquareBytes(s.width));
  return {squares, reinterpret_cast<float*>(carver.TakeBytes(pairs * 64 * 4))};
}

struct Record {
  Record(const PolysketchCudaShape& s, uint8_t* memory) {
    CudaCarver carver(memory, kBoundary);
    states = TakeStates(s, carver);
    bytes = carver.used();
  }
  PolysketchStates states;
  int64_t bytes;
};

struct ForwardSpace {
  explicit ForwardSpace(const PolysketchCudaShape& s, uint8_t* memory) {
    CudaCarver carver(memory, kBoundary);
    turned = carver.TakeBytes(TurnedBytes(s));
    bytes = carver.used();
  }
  uint8_t* turned;
  int64_t bytes;
};

struct BackwardSpace {
  explicit BackwardSpace(const PolysketchCudaShape& s, uint8_t* memory) {
    CudaCarver carver(memory, kBoundary);
    turned = carver.TakeBytes(TurnedBytes(s));
    d_states = TakeStates(s, carver);
    d_num = reinterpret_cast<__nv_bfloat16*>(
        carver.TakeBytes(int64_t{s.batch} * s.tokens * s.heads * s.width * 2));
    const int64_t rows = int64_t{s.batch} * s.heads * PaddedTokens(s) * 4;
    shift = reinterpret_cast<float*>(carver.TakeBytes(rows));
    far_shift = reinterpret_cast<float*>(carver.TakeBytes(rows));
    bytes = carver.used();
  }
  uint8_t* turned;
  PolysketchStates d_states;
  __nv_bfloat16* d_num;
  float* shift;
  float* far_shift;
  int64_t bytes;
};

// What each block reads of those before it.
void MakeStates(const PolysketchCudaShape& s, const __nv_bfloat16* phi_k, const CUtensorMap& v,
                uint8_t* turned, const PolysketchStates& states, Launches& run,
                cudaStream_t stream) {
  if (SlotsOf(s) == 0) return;
  run(LaunchTurnFeatures(s, phi_k, turned, stream));
  run(LaunchFold(s, v, turned, nullptr, 0, states, stream));
  run(LaunchSum(s, /*backwards=*/false, 1.0F, states, stream));
}

}  // namespace

const char* WhyNotCovered(const PolysketchCudaShape& s) {
  if (s.width != 64 && s.width != 128) return "head_dim must be 64 or 128";
  if (s.sketch != 32 && s.sketch != 64) return "sketch_dim must be 32 or 64";
  if (s.block % kRowsOfBlock != 0) return "block must be a multiple of 128";
  if (s.tokens == 0) return "there are no tokens";
  if (s.batch * s.heads > 65535) return "there are more than 65535 heads";
  return nullptr;
}

int64_t PolysketchRecordBytes(const PolysketchCudaShape& shape) {
  return Record(shape, nullptr).bytes;
}

int64_t PolysketchForwardBytes(const PolysketchCudaShape& shape) {
  return ForwardSpace(shape, nullptr).bytes;
}

cudaError_t PolysketchForward(const PolysketchForwardArgs& args, cudaStream_t stream) {
  const PolysketchCudaShape& s = args.shape;
  const ForwardSpace space(s, args.scratch);
  const Record record(s, args.record);
  MapMaker map(s);
  const AttendParams attend{.q = map(args.q),
                            .k = map(args.k),
                            .v = map(args.v),
                            .o = map(args.o),
                            .phi = args.phi_q,
                            .states = record.states,
                            .total = args.total,
                            .far = args.far,
                            .shape = s};
  Launches run;
  run(map.error());
  if (run.error() != cudaSuccess) return run.error();
  MakeStates(s, args.phi_k, attend.v, space.turned, record.states, run, stream);
  run(LaunchAttend(attend, stream));
  return run.error();
}

int64_t PolysketchBackwardBytes(const PolysketchCudaShape& shape) {
  return BackwardSpace(shape, nullptr).bytes;
}

cudaError_t PolysketchBackward(const PolysketchBackwardArgs& args, cudaStream_t stream) {
  const PolysketchCudaShape& s = args.shape;
  const BackwardSpace space(s, args.scratch);
  const Record record(s, args.record);
  MapMaker map(s);
  const CUtensorMap q = map(args.q), k = map(args.k), v = map(args.v), d_num = map(space.d_num);
  const QueryGradientParams queries{.q = q,
                                    .k = k,
                                    .v = v,
                                    .d_num = d_num,
                                    .d_q = map(args.d_q),
                                    .phi = args.phi_q,
                                    .d_phi = args.d_phi_q,
                                    .states = record.states,
                                    .shift = space.shift,
                                    .far_shift = space.far_shift,
                                    .shape = s};
  const KeyGradientParams keys{.q = q,
                               .k = k,
                               .v = v,
                               .d_num = d_num,
                               .d_k = map(args.d_k),
                               .d_v = map(args.d_v),
                               .phi = args.phi_k,
                               .d_phi = args.d_phi_k,
                               .states = space.d_states,
                               .shift = space.shift,
                               .shape = s};
  Launches run;
  run(map.error());
  if (run.error() != cudaSuccess) return run.error();
  run(LaunchSlopes(s,
                   {.o = args.o,
                    .d_o = args.d_o,
                    .total = args.total,
                    .far = args.far,
                    .d_num = space.d_num,
                    .shift = space.shift,
                    .far_shift = space.far_shift},
                   stream));
  if (!args.recorded) MakeStates(s, args.phi_k, v, space.turned, record.states, run, stream);
  if (SlotsOf(s) > 0) {
    run(LaunchTurnFeatures(s, args.phi_q, space.turned, stream));
    run(LaunchFold(s, d_num, space.turned, space.far_shift, 1, space.d_states, stream));
    run(LaunchSum(s, /*backwards=*/true, s.unit, space.d_states, stream));
  }
  run(LaunchQueryGradients(queries, stream));
  run(LaunchKeyGradients(keys, stream));
  return run.error();
}

}  // namespace weft::kernels::sm90
