// Which rows of one side meet the blocks of the other, from the graph's bits.
#include "kernels/attention/sbm/cuda/sbm_cuda.h"
#include "kernels/device/cuda/vector.cuh"

namespace weft::kernels::sbm {
namespace {

constexpr int kBlockRows = 64;
constexpr int kWarps = 4;

// A warp turns 32 rows x 32 columns of bits. bits [heads, rows, words] -> turned [heads, columns,
// turned_words].
__global__ void __launch_bounds__(32 * kWarps)
    TurnKernel(int rows, int columns, int words, int turned_words, const uint32_t* bits,
               uint32_t* turned) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int word = static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / 32;
  const int row = static_cast<int>(blockIdx.y) * 32 + lane;
  const int64_t head = blockIdx.z;
  if (32 * word >= columns) return;
  const uint32_t own = row < rows ? bits[(head * rows + row) * words + word] : 0;
  uint32_t result = 0;
#pragma unroll
  for (int column = 0; column < 32; ++column) {
    const uint32_t all = __ballot_sync(0xFFFFFFFF, own >> column & 1U);
    if (lane == column) result = all;
  }
  const int column = 32 * word + lane;
  if (column < columns) turned[(head * columns + column) * turned_words + blockIdx.y] = result;
}

// A warp lists for one block the others whose word is not zero.
__global__ void __launch_bounds__(32 * kWarps)
    ListKernel(int others, int blocks, const uint64_t* words, int32_t* list, int32_t* counts) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int block = static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / 32;
  const int64_t head = blockIdx.y;
  if (block >= blocks) return;
  words += head * others * blocks + block;
  list += (head * blocks + block) * others;
  int count = 0;
#pragma unroll 4
  for (int first = 0; first < others; first += 32) {
    const int other = first + lane;
    const bool meets = other < others && words[int64_t{other} * blocks] != 0;
    const unsigned all = __ballot_sync(0xFFFFFFFF, meets);
    if (meets) list[count + __popc(all & ((1U << lane) - 1))] = other;
    count += __popc(all);
  }
  if (lane == 0) counts[head * blocks + block] = count;
}

cudaError_t MakeList(const CudaLaunch& on, const Sizes& sizes, int others, int blocks,
                     const PairLists& lists) {
  if (blocks == 0) return cudaSuccess;
  const dim3 grid(static_cast<unsigned>(CeilDiv(blocks, kWarps)),
                  static_cast<unsigned>(sizes.all_heads()));
  ListKernel<<<grid, 32 * kWarps, 0, on.stream>>>(others, blocks, lists.words, lists.others,
                                                  lists.counts);
  return cudaGetLastError();
}

int64_t Rounded(int64_t bytes) { return CeilDiv(bytes, 256) * 256; }
int Blocks(int rows) { return static_cast<int>(CeilDiv(rows, kBlockRows)); }
int64_t ListBytes(const Sizes& s, int others, int blocks) {
  return Rounded(int64_t{s.all_heads()} * blocks * others * 4);
}
int64_t CountBytes(const Sizes& s, int blocks) {
  return Rounded(int64_t{s.all_heads()} * blocks * 4);
}
int64_t TurnedBytes(const Sizes& s) {
  return Rounded(int64_t{s.all_heads()} * s.keys * Blocks(s.queries) * 8);
}

}  // namespace

int64_t QueryListBytes(const Sizes& s) {
  return TurnedBytes(s) + ListBytes(s, s.keys, Blocks(s.queries)) +
         CountBytes(s, Blocks(s.queries));
}
int64_t KeyListBytes(const Sizes& s) {
  return ListBytes(s, s.queries, Blocks(s.keys)) + CountBytes(s, Blocks(s.keys));
}

cudaError_t ListByQueries(const CudaLaunch& on, const Sizes& s, const uint32_t* bits, void* scratch,
                          PairLists* lists) {
  auto* const memory = static_cast<uint8_t*>(scratch);
  const int blocks = Blocks(s.queries);
  *lists = {
      .words = reinterpret_cast<uint64_t*>(memory),
      .others = reinterpret_cast<int32_t*>(memory + TurnedBytes(s)),
      .counts = reinterpret_cast<int32_t*>(memory + TurnedBytes(s) + ListBytes(s, s.keys, blocks))};
  if (blocks == 0) return cudaSuccess;
  const dim3 grid(static_cast<unsigned>(CeilDiv(CeilDiv(s.keys, 32), kWarps)),
                  static_cast<unsigned>(2 * blocks), static_cast<unsigned>(s.all_heads()));
  TurnKernel<<<grid, 32 * kWarps, 0, on.stream>>>(s.queries, s.keys, 2 * Blocks(s.keys), 2 * blocks,
                                                  bits, reinterpret_cast<uint32_t*>(memory));
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? MakeList(on, s, s.keys, blocks, *lists) : error;
}

cudaError_t ListByKeys(const CudaLaunch& on, const Sizes& s, const uint32_t* bits, void* scratch,
                       PairLists* lists) {
  auto* const memory = static_cast<uint8_t*>(scratch);
  const int blocks = Blocks(s.keys);
  *lists = {.words = reinterpret_cast<uint64_t*>(const_cast<uint32_t*>(bits)),
            .others = reinterpret_cast<int32_t*>(memory),
            .counts = reinterpret_cast<int32_t*>(memory + ListBytes(s, s.queries, blocks))};
  return MakeList(on, s, s.queries, blocks, *lists);
}

}  // namespace weft::kernels::sbm
