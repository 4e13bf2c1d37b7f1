// The low-rank part of one head: sums of features times values over tiles of keys, and their
// products with the features of queries. Private to the CPU kernels of scatterbrain.
#pragma once

#include "kernels/attention/scatterbrain/cpu/head_space.h"

namespace weft::kernels::scatterbrain {

// ---- Forward

// key_sums of one tile of `tiles.sum_tile()` keys.
void KeySum(const HeadTask& task, int64_t sum_tile);
// How many parts the next step has, each of some rows of the sums.
int64_t SumParts(const ScatterbrainProblem& p);
// One part of `outside` from key_sums; part 0 also sets outside_scale.
void SumOutside(const HeadTask& task, int64_t part);
// What the sums give the queries of a tile: o, reference, low_rank_mass; no exact mass yet.
void StartQueries(const HeadTask& task, int64_t tile);

// ---- Backward: the same, with queries and keys in each other's place

// d_phi of a tile of queries, from `outside`; g1 is set. No d_query_u yet.
void StartQueryGradients(const HeadTask& task, int64_t tile);
// key_sums now hold sums over the queries of a tile of phi g1^T, each times its weight's factor.
void QuerySum(const HeadTask& task, int64_t sum_tile);
// One part of `outside`, now [r, Dv + 1] a key tile: the sum over the queries whose tile does not
// fill the key tile in. Part 0 also sets key_outside_scale.
void SumOutsideKeys(const HeadTask& task, int64_t part);
// d_psi and d_v of a tile of keys. No d_key_u yet.
void StartKeyGradients(const HeadTask& task, int64_t tile);

}  // namespace weft::kernels::scatterbrain
