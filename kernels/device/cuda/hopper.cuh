// What Hopper (sm_90a) adds for kernels made of matrix products: barriers in shared memory that
// count bytes (mbarrier), the copy engine (TMA), and products of warpgroups (wgmma). Thin names for
// PTX instructions, and the few layouts they need. PTX ISA 9.0, sections 9.7.13 (mbarrier), 9.7.9
// (copies), 9.7.15 (wgmma).
//
// The one tile of shared memory: 64 columns of bf16, rows of 128 bytes, their 16-byte pieces
// permuted ("128-byte swizzle", SwizzledOffset), 1024-byte aligned. A wider matrix is several such
// tiles. An operand of a product reads a tile in one of two ways:
//   rows are M or N, columns are K   RowsTile(tile, k): "K-major"
//   rows are K, columns are M or N   ColumnsTile(tile, k, apart): "MN-major"
//
// Accumulators of a 64 x N product: thread t of the warpgroup holds, for each 8 columns j, in
// d[4j], d[4j+1] row 16 (t/32) + (t%32)/4, columns 8j + 2 (t%4) and the next, and in d[4j+2],
// d[4j+3] the same of the row + 8. Two neighbouring j, rounded to bf16, are the A operand of a
// product over those 16 columns (ToOperand): products chain without shared memory.
#pragma once

#include <cudaTypedefs.h>
#include <cuda_bf16.h>

#include <cstdint>

namespace weft::kernels::hopper {

inline constexpr int kTileColumns = 64;
inline constexpr int kTileRowBytes = 128;

__host__ __device__ constexpr int TileBytes(int rows) { return rows * kTileRowBytes; }

// Where byte `offset` of an unpermuted tile lies.
__device__ inline uint32_t SwizzledOffset(uint32_t offset) {
  return offset ^ ((offset >> 3) & 0x70);
}

__device__ inline uint32_t SharedAddress(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// One bf16 pair, the lower index in the lower half.
__device__ inline uint32_t PackPair(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return reinterpret_cast<const uint32_t&>(pair);
}
__device__ inline float LowOf(uint32_t pair) { return __uint_as_float(pair << 16); }
__device__ inline float HighOf(uint32_t pair) { return __uint_as_float(pair & 0xffff0000U); }

// ---- Barriers

__device__ inline void InitBarrier(uint64_t* barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(SharedAddress(barrier)),
               "r"(arrivals));
}
// After the last InitBarrier, before the threads of the block meet.
__device__ inline void PublishBarriers() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ inline void Arrive(uint64_t* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(SharedAddress(barrier)) : "memory");
}
// Arrives, and lets the phase wait for `bytes` more from the copy engine.
__device__ inline void ArriveExpecting(uint64_t* barrier, uint32_t bytes) {
  asm volatile(
      "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(SharedAddress(barrier)),
      "r"(bytes)
      : "memory");
}
// Waits for the end of the phase with this parity: 0 first, then alternating.
__device__ inline void AwaitPhase(uint64_t* barrier, uint32_t parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again;\n"
      "}\n" ::"r"(SharedAddress(barrier)),
      "r"(parity)
      : "memory");
}

// Stages of a ring of buffers that one side fills and the other drains.
template <int kStages>
struct RingPlace {
  int stage = 0;
  uint32_t parity = 0;
  __device__ void Advance() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

// The threads of a part of the block meet; `name` 1 ... 15.
__device__ inline void MeetThreads(int name, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(name), "r"(threads) : "memory");
}

// One arrival for a warp, when all of its lanes have read or written.
__device__ inline void ArriveTogether(uint64_t* barrier) {
  __syncwarp();
  if (threadIdx.x % 32 == 0) Arrive(barrier);
}

// ---- The copy engine

// Ordinary accesses to shared memory before this come before the copy engine's and the products'
// after it. Each writing thread, then a meeting of threads.
__device__ inline void FenceForEngines() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// The same for memory of the GPU: what this thread has seen of others comes before.
__device__ inline void FenceForEnginesEverywhere() {
  asm volatile("fence.proxy.async;" ::: "memory");
}

__device__ inline void PrefetchMap(const CUtensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}

// Box of a [batch, tokens, heads, width] tensor, from (column, head, token, batch), to shared
// memory; what lies outside of the tensor arrives as zero. Counts its bytes on the barrier.
__device__ inline void LoadBox(const CUtensorMap& map, void* to, uint64_t* barrier, int column,
                               int head, int token, int batch) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(SharedAddress(to)),
      "l"(&map), "r"(SharedAddress(barrier)), "r"(column), "r"(head), "r"(token), "r"(batch)
      : "memory");
}
// The way back; what lies outside of the tensor is dropped. Then CommitStores.
__device__ inline void StoreBox(const CUtensorMap& map, const void* from, int column, int head,
                                int token, int batch) {
  asm volatile(
      "cp.async.bulk.tensor.4d.global.shared::cta.bulk_group [%0, {%2, %3, %4, %5}], [%1];" ::"l"(
          &map),
      "r"(SharedAddress(from)), "r"(column), "r"(head), "r"(token), "r"(batch)
      : "memory");
}
// The way back, added to what is there.
__device__ inline void AddBox(const CUtensorMap& map, const void* from, int column, int head,
                              int token, int batch) {
  asm volatile(
      "cp.reduce.async.bulk.tensor.4d.global.shared::cta.add.tile.bulk_group"
      " [%0, {%2, %3, %4, %5}], [%1];" ::"l"(&map),
      "r"(SharedAddress(from)), "r"(column), "r"(head), "r"(token), "r"(batch)
      : "memory");
}
// Contiguous bytes, a multiple of 16.
__device__ inline void LoadBytes(void* to, const void* from, uint32_t bytes, uint64_t* barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(SharedAddress(to)),
      "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(SharedAddress(barrier))
      : "memory");
}
__device__ inline void StoreBytes(void* to, const void* from, uint32_t bytes) {
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(
                   __cvta_generic_to_global(to)),
               "r"(SharedAddress(from)), "r"(bytes)
               : "memory");
}
// Likewise, added to the floats that are there.
__device__ inline void AddFloats(void* to, const void* from, uint32_t bytes) {
  asm volatile("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%0], [%1], %2;" ::"l"(
                   __cvta_generic_to_global(to)),
               "r"(SharedAddress(from)), "r"(bytes)
               : "memory");
}
// The same boxes and bytes, only as far as the L2 cache.
__device__ inline void PrefetchBox(const CUtensorMap& map, int column, int head, int token,
                                   int batch) {
  asm volatile("cp.async.bulk.prefetch.tensor.4d.L2.global [%0, {%1, %2, %3, %4}];" ::"l"(&map),
               "r"(column), "r"(head), "r"(token), "r"(batch)
               : "memory");
}
__device__ inline void PrefetchBytes(const void* from, uint32_t bytes) {
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(__cvta_generic_to_global(from)),
               "r"(bytes)
               : "memory");
}
__device__ inline void CommitStores() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
// Until all but the kLast last groups of this thread's stores have read their shared memory.
template <int kLast>
__device__ inline void AwaitStoresRead() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kLast) : "memory");
}

// Until they are done.
template <int kLast>
__device__ inline void AwaitStores() {
  asm volatile("cp.async.bulk.wait_group %0;" ::"n"(kLast) : "memory");
}

// ---- Registers

template <int kRegisters>
__device__ inline void GrowRegisters() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ inline void ShrinkRegisters() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// ---- Fragments between registers and tiles

// Of a tile whose rows are K (tokens) and whose columns are M: the A operand of rows first_row ...
// + 15 and columns 16 warp ... + 15, transposed on the way.
__device__ inline uint32_t TransposedPiece(const void* tile, int first_row) {
  const int lane = threadIdx.x % 32;
  const int warp = (threadIdx.x / 32) % 4;
  const uint32_t row = first_row + lane / 16 * 8 + lane % 8;
  const uint32_t column_bytes = warp * 32 + (lane / 8) % 2 * 16;
  return SharedAddress(tile) + SwizzledOffset(row * kTileRowBytes + column_bytes);
}
__device__ inline void LoadTransposed(uint32_t (&a)[4], const void* tile, int first_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(a[0]), "=r"(a[1]), "=r"(a[2]), "=r"(a[3])
               : "r"(TransposedPiece(tile, first_row))
               : "memory");
}
__device__ inline void StoreTransposed(void* tile, int first_row, const uint32_t (&a)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(
                   TransposedPiece(tile, first_row)),
               "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3])
               : "memory");
}
// Of a tile whose rows are M: the 16 rows of this warp, columns first_column ... + 15.
__device__ inline uint32_t PlainPiece(const void* tile, int first_column) {
  const int lane = threadIdx.x % 32;
  const int warp = (threadIdx.x / 32) % 4;
  const uint32_t row = warp * 16 + (lane / 8) % 2 * 8 + lane % 8;
  const uint32_t column_bytes = first_column * 2 + lane / 16 * 16;
  return SharedAddress(tile) + SwizzledOffset(row * kTileRowBytes + column_bytes);
}
__device__ inline void LoadPlain(uint32_t (&a)[4], const void* tile, int first_column) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(a[0]), "=r"(a[1]), "=r"(a[2]), "=r"(a[3])
               : "r"(PlainPiece(tile, first_column))
               : "memory");
}
__device__ inline void StorePlain(void* tile, int first_column, const uint32_t (&a)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(
                   PlainPiece(tile, first_column)),
               "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3])
               : "memory");
}

// ---- Products

// A K-major operand: all rows of the tile (64 for A, N for B), columns 16 k ... 16 k + 15.
__device__ inline uint64_t RowsTile(const void* tile, int k) {
  const uint64_t address = (SharedAddress(tile) + k * 32) & 0x3ffff;
  return (address >> 4) | (uint64_t{1} << 16) | (uint64_t{1024 >> 4} << 32) | (uint64_t{1} << 62);
}
// An MN-major operand: rows 16 k ... 16 k + 15 of the tile, and of the tiles that follow it every
// `apart` bytes when the operand is wider than 64.
__device__ inline uint64_t ColumnsTile(const void* tile, int k, uint32_t apart = TileBytes(64)) {
  const uint64_t address = (SharedAddress(tile) + k * 16 * kTileRowBytes) & 0x3ffff;
  return (address >> 4) | (uint64_t{apart >> 4} << 16) | (uint64_t{1024 >> 4} << 32) |
         (uint64_t{1} << 62);
}

// Where tiles lie, in the units of 16 bytes that operands are described in. A warp's lanes agree on
// it; the shuffle says so to the compiler, which then keeps it in a uniform register and only adds
// what a step is further on. Made in every lane, each description takes a dozen instructions that
// wait for one another, longer than a product of 64 columns lasts.
struct Tiles {
  uint32_t at;
  __device__ Tiles operator+(int bytes) const { return {at + static_cast<uint32_t>(bytes) / 16}; }
};
__device__ inline Tiles TilesAt(const void* tile) {
  // In a cluster the upper bits say of which block; a description has no room for them.
  return {__shfl_sync(0xFFFFFFFF, (SharedAddress(tile) & 0x3ffff) / 16, 0)};
}
// The operands of above, of tiles that end below 256 KiB, as all of a block do.
__device__ inline uint64_t RowsTile(Tiles tile, int k) {
  return (uint64_t{(1 << 30) | (1024 >> 4)} << 32) | ((tile + k * 32).at + (1U << 16));
}
__device__ inline uint64_t ColumnsTile(Tiles tile, int k, uint32_t apart = TileBytes(64)) {
  return (uint64_t{(1 << 30) | (1024 >> 4)} << 32) |
         ((tile + k * 16 * kTileRowBytes).at + (apart >> 4 << 16));
}

enum class Rows : int { kAreMN = 0, kAreK = 1 };  // which way an operand reads its tile

// Around every batch of products: StartProducts, products, CommitProducts, ..., AwaitProducts, and
// Settle on each accumulator before it is read.
__device__ inline void StartProducts() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void CommitProducts() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int kPending>
__device__ inline void AwaitProducts() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
// Keeps the compiler from moving accesses to d across this place.
template <int kCount>
__device__ inline void Settle(float (&d)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

// bf16 A operands of all columns of d: kCount/8 of them.
template <int kCount>
__device__ inline void ToOperand(uint32_t (&a)[kCount / 8][4], const float (&d)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount / 2; ++i) a[i / 4][i % 4] = PackPair(d[2 * i], d[2 * i + 1]);
}

#define WEFT_D4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define WEFT_D16(i) WEFT_D4(i), WEFT_D4(i + 4), WEFT_D4(i + 8), WEFT_D4(i + 12)
#define WEFT_D32 WEFT_D16(0), WEFT_D16(16)
#define WEFT_D64 WEFT_D16(0), WEFT_D16(16), WEFT_D16(32), WEFT_D16(48)
#define WEFT_R16 "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15}"
#define WEFT_R32                                                                            \
  "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23," \
  "%24,%25,%26,%27,%28,%29,%30,%31}"
#define WEFT_R64                                                                            \
  "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23," \
  "%24,%25,%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,"    \
  "%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}"

// d = d * keep + sign * A B over 16 of K; d [64, N], A in registers. kSign: 1 or -1. keep: 0 or 1.
template <Rows kB, int kSign = 1>
__device__ inline void Multiply(float (&d)[16], const uint32_t (&a)[4], uint64_t b, int keep = 1) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %21, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 " WEFT_R16
      ", {%16,%17,%18,%19}, %20, p, %22, 1, %23;\n}\n"
      : WEFT_D16(0)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(keep), "n"(kSign),
        "n"(static_cast<int>(kB)));
}
template <Rows kB, int kSign = 1>
__device__ inline void Multiply(float (&d)[32], const uint32_t (&a)[4], uint64_t b, int keep = 1) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 " WEFT_R32
      ", {%32,%33,%34,%35}, %36, p, %38, 1, %39;\n}\n"
      : WEFT_D32
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(keep), "n"(kSign),
        "n"(static_cast<int>(kB)));
}
template <Rows kB, int kSign = 1>
__device__ inline void Multiply(float (&d)[64], const uint32_t (&a)[4], uint64_t b, int keep = 1) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %69, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 " WEFT_R64
      ", {%64,%65,%66,%67}, %68, p, %70, 1, %71;\n}\n"
      : WEFT_D64
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(keep), "n"(kSign),
        "n"(static_cast<int>(kB)));
}
// The same, A in shared memory.
template <Rows kA, Rows kB, int kSign = 1>
__device__ inline void Multiply(float (&d)[16], uint64_t a, uint64_t b, int keep = 1) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %18, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 " WEFT_R16
      ", %16, %17, p, %19, 1, %20, %21;\n}\n"
      : WEFT_D16(0)
      : "l"(a), "l"(b), "r"(keep), "n"(kSign), "n"(static_cast<int>(kA)),
        "n"(static_cast<int>(kB)));
}
template <Rows kA, Rows kB, int kSign = 1>
__device__ inline void Multiply(float (&d)[32], uint64_t a, uint64_t b, int keep = 1) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 " WEFT_R32
      ", %32, %33, p, %35, 1, %36, %37;\n}\n"
      : WEFT_D32
      : "l"(a), "l"(b), "r"(keep), "n"(kSign), "n"(static_cast<int>(kA)),
        "n"(static_cast<int>(kB)));
}
template <Rows kA, Rows kB, int kSign = 1>
__device__ inline void Multiply(float (&d)[64], uint64_t a, uint64_t b, int keep = 1) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 " WEFT_R64
      ", %64, %65, p, %67, 1, %68, %69;\n}\n"
      : WEFT_D64
      : "l"(a), "l"(b), "r"(keep), "n"(kSign), "n"(static_cast<int>(kA)),
        "n"(static_cast<int>(kB)));
}

// The same, 8 columns: of a K-major B, the first 8 rows of its tile.
template <Rows kA, Rows kB>
__device__ inline void Multiply(float (&d)[4], uint64_t a, uint64_t b, int keep = 1) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %6, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%0,%1,%2,%3}, %4, %5, p, 1, 1, %7, "
      "%8;\n}\n"
      : WEFT_D4(0)
      : "l"(a), "l"(b), "r"(keep), "n"(static_cast<int>(kA)), "n"(static_cast<int>(kB)));
}

#undef WEFT_D4
#undef WEFT_D16
#undef WEFT_D32
#undef WEFT_D64
#undef WEFT_R16
#undef WEFT_R32
#undef WEFT_R64

}  // namespace weft::kernels::hopper
