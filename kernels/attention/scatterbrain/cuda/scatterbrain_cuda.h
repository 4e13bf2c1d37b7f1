// Scatterbrain on a GPU: launchers on plain addresses. Private to
// kernels/attention/scatterbrain/cuda.
//
// B batch, T queries, S keys, H heads, D key_dim, Dv value_dim, r features as in scatterbrain.h; a
// "head" below counts [B, H]. u is sqrt(scale) times a query or key, so that logits are products of
// them. E is Dv + 1, rounded up to a multiple of 8: behind a value stands a one, so that one
// product gives sums of values and the normaliser; the rest is zero.
//
// The low-rank part of most pairs is never written out: it comes from sums over tiles of 64 keys,
// which leave out the tiles that a tile of queries fills in pair by pair: those of a window, and
// the causal diagonal. Tp and Sp are T and S rounded up to whole tiles; rows beyond the end are
// zeros.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/attention/cuda/dropout_place.h"
#include "kernels/device/cuda/launch.h"

#ifdef __CUDACC__
#define WEFT_BOTH __host__ __device__
#else
#define WEFT_BOTH
#endif

namespace weft::kernels::scatterbrain_cuda {

inline constexpr int kTile = 64;

enum class Support : int { kNone, kWindow, kHash, kBlocks };

struct Sizes {
  int batch = 1, queries = 0, keys = 0, heads = 1, key_dim = 0, value_dim = 0;
  int features = 0, feature_rows = 0;
  bool causal = false, hyperbolic = false;
  float root = 1.0F;    // of the scale
  float offset = 0.0F;  // what is added to every feature
  Support support = Support::kNone;
  int before = 0, after = 0;  // of a window: keys before the query, and after it

  [[nodiscard]] WEFT_BOTH int all_heads() const { return batch * heads; }
  [[nodiscard]] WEFT_BOTH int query_tiles() const { return (queries + kTile - 1) / kTile; }
  [[nodiscard]] WEFT_BOTH int key_tiles() const { return (keys + kTile - 1) / kTile; }
  [[nodiscard]] WEFT_BOTH int value_columns() const { return (value_dim + 1 + 7) / 8 * 8; }
  // Whether tiles are filled in at all, and those that query tile I fills in: both ends grow with
  // I.
  [[nodiscard]] WEFT_BOTH bool fills() const { return causal || support == Support::kWindow; }
  [[nodiscard]] WEFT_BOTH int FilledBegin(int tile) const {
    if (!fills()) return 0;
    const int first = tile * kTile - (support == Support::kWindow ? before : 0);
    const int begin = first < 0 ? 0 : first / kTile;
    return begin < key_tiles() ? begin : key_tiles();
  }
  [[nodiscard]] WEFT_BOTH int FilledEnd(int tile) const {
    if (!fills()) return 0;
    if (causal) return tile + 1;
    const int last = tile * kTile + kTile < queries ? tile * kTile + kTile : queries;
    const int end = (last - 1 + after) / kTile + 1;
    const int begin = FilledBegin(tile);
    const int inside = end < key_tiles() ? end : key_tiles();
    return inside > begin ? inside : begin;
  }
};

// Working space of a call, all on the device. Arrays of features have the compute type.
struct Space {
  float* query_products;  // [B, T, H, rows of W]: q W^T
  float* key_products;    // [B, S, H, rows of W]
  void* phi;              // [heads, T, r]
  void* psi;              // [heads, S, r]; zeros for padding
  float* query_scale;  // [heads, T]: logarithm of what phi is to be multiplied by; -infinity where
                       // there is no low-rank part
  float* key_scale;    // [heads, S]: m
  float* own_scale;    // [heads, S]: the key's own largest exponent; -infinity for padding
  float* query_factors;  // [heads, T]: of a query's products with a tile's sums
  float* key_factors;    // [heads, S]
  float* tile_sums;      // [heads, tiles, r, E]
  float* states;         // [heads, tiles, r, E]: sums over the tiles outside of what is filled in
  float* sums;           // [heads, Tp, E]: of values, and in column Dv of the low-rank weights, in
                         // units of exp(reference)
  float* reference;      // [heads, T]
  float* exact_mass;     // [heads, T]
  // Backward alone.
  float* mean;              // [heads, T]: d_o . o
  float* d_query;           // [heads, Tp, D]: of u
  float* d_key;             // [heads, Sp, D]
  float* d_value;           // [heads, Sp, E]
  float* d_phi;             // [heads, Tp, r]
  float* d_psi;             // [heads, Sp, r]
  float* query_shares;      // [heads, T]: what is taken of u from its gradient
  float* key_shares;        // [heads, S]
  float* rests;             // [heads, S]: what m gets from a key
  float* d_query_products;  // [heads, T, rows of W]
  float* d_key_products;    // [heads, S, rows of W]
  // Of hashes.
  int32_t* query_lists;   // [heads, rounds, T]: tokens by bucket, in order within each
  int32_t* key_lists;     // [heads, rounds, S]
  int32_t* query_starts;  // [heads, rounds, buckets + 1]
  int32_t* key_starts;
};

struct Operands {
  const void* q = nullptr;  // [B, T, H, D]
  const void* k = nullptr;
  const void* v = nullptr;
  const void* w = nullptr;
  const int32_t* valid = nullptr;  // [B, S]; null: all
};

// ---- Features (features.cu). The products q W^T and k W^T are there.
cudaError_t QueryFeatures(const CudaLaunch& on, const Sizes& sizes, const Operands& in,
                          const Space& space);
cudaError_t KeyFeatures(const CudaLaunch& on, const Sizes& sizes, const Operands& in,
                        const Space& space);
// d_query_products, d_key_products from the gradients of the features; and what each token's u gets
// less.
cudaError_t QueryFeatureGradients(const CudaLaunch& on, const Sizes& sizes, const Space& space);
cudaError_t KeyFeatureGradients(const CudaLaunch& on, const Sizes& sizes, const Space& space);
cudaError_t StoreValueGradients(const CudaLaunch& on, const Sizes& sizes, const float* d_value,
                                void* d_v);

// ---- Sums over tiles (low_rank.cu): what lies between the products of low_rank_products.cu.

// key_factors: they bring keys to the scale of their tile's last key.
cudaError_t ScaleKeys(const CudaLaunch& on, const Sizes& sizes, const Space& space);
// reference, exact_mass and query_factors, which give low-rank weights in units of exp(reference).
// `complete` [T]: 1 where the support covers all that a query could see; null: nowhere.
cudaError_t StartQueries(const CudaLaunch& on, const Sizes& sizes, const uint8_t* complete,
                         const Space& space);
// tile_sums of keys -> states of tiles of queries.
cudaError_t SumKeyTiles(const CudaLaunch& on, const Sizes& sizes, const Space& space);
// mean and query_scale.
struct Results {
  const void* o = nullptr;
  const void* d_o = nullptr;
  float* log_normaliser = nullptr;  // [heads, T]
  float* share = nullptr;           // [heads, T]
};
cudaError_t LoadGradients(const CudaLaunch& on, const Sizes& sizes, const Results& results,
                          bool drops_corrections, const Space& space);
// query_factors: of the gradients by the queries' weights outside, in the units of their tile's
// state, or of their own tile's sums.
enum class Units : int { kOfState, kOfTile };
cudaError_t ScaleGradients(const CudaLaunch& on, const Sizes& sizes, const Results& results,
                           Units units, const Space& space);
// tile_sums of queries -> states of tiles of keys.
cudaError_t SumQueryTiles(const CudaLaunch& on, const Sizes& sizes, const Space& space);
struct Outputs {
  void* o = nullptr;                // [B, T, H, Dv]
  float* log_normaliser = nullptr;  // [heads, T]
  float* share = nullptr;           // [heads, T]
};
cudaError_t Finish(const CudaLaunch& on, const Sizes& sizes, const Space& space, const Outputs& to);

// ---- Products of the low-rank part (low_rank_products.cu), as good as those of fp32 operands

// One side of a call: its tokens' features, factors of these, and what is summed: rows of values,
// and behind each one more number.
struct LowRankSide {
  int count = 0;
  const void* features = nullptr;  // [heads, count, r]: phi or psi
  const float* factors = nullptr;  // [heads, count]
  const void* values = nullptr;    // [B, count, H, Dv]: d_o or v
  const float* extra = nullptr;    // [heads, count]: minus the number behind; null: it is one
};
// tile_sums [heads, tiles, r, E] = factors features^T values, tile by tile.
cudaError_t SumTiles(const CudaLaunch& on, const Sizes& sizes, const LowRankSide& side,
                     float* tile_sums);
// to [heads, tiles x 64, E] = factors features times the state of their tile.
cudaError_t FeaturesTimesStates(const CudaLaunch& on, const Sizes& sizes, const LowRankSide& side,
                                const float* states, float* to);
// to [heads, tiles x 64, r] = factors values times the transposed state of their tile.
cudaError_t ValuesTimesStates(const CudaLaunch& on, const Sizes& sizes, const LowRankSide& side,
                              const float* states, float* to);

struct ProjectionGradients {
  int count = 0;                    // of tokens
  const void* rows = nullptr;       // [B, count, H, D]: q or k
  const float* d_u = nullptr;       // [heads, tiles x 64, D]
  const float* products = nullptr;  // [heads, count, rows of W]: gradients of u W^T
  const float* shares = nullptr;    // [heads, count]
};
// d = root (d_u + products W - shares u), of the compute type.
cudaError_t ProjectGradients(const CudaLaunch& on, const Sizes& sizes,
                             const ProjectionGradients& of, const void* w, void* d);

// ---- Pairs that are written out (pairs_forward.cu, pairs_gradients.cu)

enum class PairSet : int { kFilled, kBuckets, kBlocks };

struct PairArgs {
  Sizes sizes;
  Operands in;
  Space space;
  PairSet set = PairSet::kFilled;
  bool keys_own = false;
  int round = 0, rounds = 0, buckets = 0;  // of hashes
  const int32_t* query_buckets = nullptr;  // [heads, rounds, T]
  const int32_t* key_buckets = nullptr;    // [heads, rounds, S]
  int block = 1, key_blocks = 0;           // of a layout
  const uint8_t* exact = nullptr;          // [query blocks, key blocks]
  const int32_t* groups = nullptr;         // the others' groups of 32 that own tiles meet
  const int32_t* group_starts = nullptr;   // [own tiles + 1]
  DropoutPlace dropout;
  bool drops_corrections = false;
  Outputs finish = {};  // forward, of the only pass: it does Finish's work if these are there
};
cudaError_t PairsForward(const CudaLaunch& on, const PairArgs& args);
cudaError_t PairsBackward(const CudaLaunch& on, const PairArgs& args, const Results& results);

// ---- Hashes (hash_buckets.cu)

struct HashArgs {
  Sizes sizes;
  int rounds = 0, query_bucket = 0, key_bucket = 0;
  const void* q = nullptr;
  const void* k = nullptr;
  const float* projections = nullptr;  // [rounds, D + 2]
  const int32_t* valid = nullptr;
  int32_t* query_buckets = nullptr;
  int32_t* key_buckets = nullptr;
  double* scratch = nullptr;  // HashScratchBytes
};
int64_t HashScratchBytes(const Sizes& sizes, int rounds);
cudaError_t HashTokens(const CudaLaunch& on, const HashArgs& args);
// ids [heads, rounds, tokens] -> lists and starts; an id that is no bucket is reported and left
// out.
cudaError_t ListBuckets(const CudaLaunch& on, int rows, int tokens, int buckets, const int32_t* ids,
                        int32_t* lists, int32_t* starts, int32_t* bad_index);

}  // namespace weft::kernels::scatterbrain_cuda
