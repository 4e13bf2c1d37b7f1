// Which rows of one side meet the blocks of the other, from the graph's bits.
#include "kernels/attention/sbm/cuda/sbm_cuda.h"
#include "kernels/device/cuda/vector.cuh"

namespace weft::kernels::sbm {
namespace {

constexpr int kBlockRows = 64;
constexpr int kWarps = 4;

// Lane i has row i of 32 x 32 bits, and gets column i.
__device__ inline uint32_t Turned(uint32_t row) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  uint32_t mask = 0x0000FFFF;  // the columns whose bit `distance` is not set
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    const uint32_t other = __shfl_xor_sync(0xFFFFFFFF, row, distance);
    row = (lane & distance) == 0 ? (row & mask) | (other & mask) << distance
                                 : (row & ~mask) | (other >> distance & mask);
    mask ^= mask << distance / 2;
  }
  return row;
}

// A block turns kTurnedWords x kTurnedWords squares of 32 x 32 bits, a warp some of them, so that
// both sides are accessed 32 bytes at a time. bits [heads, rows, words] -> turned [heads, columns,
// turned_words].
constexpr int kTurnedWords = 8;
__global__ void __launch_bounds__(32 * kTurnedWords)
    TurnKernel(int rows, int columns, int words, int turned_words, const uint32_t* bits,
               uint32_t* turned) {
  __shared__ uint32_t before[32 * kTurnedWords][kTurnedWords + 1];
  __shared__ uint32_t after[32 * kTurnedWords][kTurnedWords + 1];
  const int thread = static_cast<int>(threadIdx.x);
  const int warp = thread / 32;
  const int lane = thread % 32;
  const int first_word = static_cast<int>(blockIdx.x) * kTurnedWords;
  const int first_turned = static_cast<int>(blockIdx.y) * kTurnedWords;
  const int64_t head = blockIdx.z;
  for (int i = thread; i < 32 * kTurnedWords * kTurnedWords; i += 32 * kTurnedWords) {
    const int row = i / kTurnedWords;
    const int word = i % kTurnedWords;
    const bool there = 32 * first_turned + row < rows && first_word + word < words;
    before[row][word] =
        there ? bits[(head * rows + 32 * first_turned + row) * words + first_word + word] : 0;
  }
  __syncthreads();
#pragma unroll
  for (int word = 0; word < kTurnedWords; ++word) {
    after[32 * word + lane][warp] = Turned(before[32 * warp + lane][word]);
  }
  __syncthreads();
  for (int i = thread; i < 32 * kTurnedWords * kTurnedWords; i += 32 * kTurnedWords) {
    const int column = 32 * first_word + i / kTurnedWords;
    const int word = first_turned + i % kTurnedWords;
    if (column < columns && word < turned_words) {
      turned[(head * columns + column) * turned_words + word] =
          after[i / kTurnedWords][i % kTurnedWords];
    }
  }
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
  const dim3 grid(static_cast<unsigned>(CeilDiv(s.keys, 32 * kTurnedWords)),
                  static_cast<unsigned>(CeilDiv(2 * blocks, kTurnedWords)),
                  static_cast<unsigned>(s.all_heads()));
  TurnKernel<<<grid, 32 * kTurnedWords, 0, on.stream>>>(
      s.queries, s.keys, 2 * Blocks(s.keys), 2 * blocks, bits, reinterpret_cast<uint32_t*>(memory));
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
