// Positive random features of one head, and their gradients. Private to the CPU kernels of
// scatterbrain; formulas: scatterbrain.h.
#pragma once

#include "kernels/attention/scatterbrain/cpu/head_space.h"

namespace weft::kernels::scatterbrain {

// The queries of a tile: query_u, phi, query_scale.
void QueryFeatures(const HeadTask& task, int64_t tile);

// The keys of a tile, in three steps: key_u, v1, exponents in psi and their largest in key_scale;
// then m for all keys of the head in key_scale; then psi.
void KeyExponents(const HeadTask& task, int64_t tile);
void KeyScales(const HeadTask& task);
void KeyFeatures(const HeadTask& task, int64_t tile);

// Adds to d_query_u what d_phi gives, for the queries of a tile.
void QueryFeaturesBackward(const HeadTask& task, int64_t tile);

// Adds to d_key_u what d_psi gives, for the keys of a tile; with epsilon > 0 then, for all keys of
// the head, what the scales give.
void KeyFeaturesBackward(const HeadTask& task, int64_t tile);
void KeyScalesBackward(const HeadTask& task);

}  // namespace weft::kernels::scatterbrain
