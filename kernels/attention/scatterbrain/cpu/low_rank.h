// The low-rank part of one head that is not written out pair by pair: running sums of features
// times values over the tiles outside a tile's filled ones, and what they give. Private to the CPU
// kernels of scatterbrain.
//
// A sum runs over all tiles of the head, so it is cut the other way: into parts of its columns or
// rows, one task each. Sums are used where they are made, and never stored.
#pragma once

#include "kernels/attention/scatterbrain/cpu/head_space.h"

namespace weft::kernels::scatterbrain {

// Parts of [v, 1], and of the features.
int64_t ValueParts(const ScatterbrainProblem& p);
int64_t FeatureParts(const ScatterbrainProblem& p);

// ---- Forward

// One part of o1: phi_i times the sum over keys outside of psi_j [v_j, 1].
void OutsideValues(const HeadTask& task, int64_t value_part);

// ---- Backward

// g1_outside of the queries of a tile: their g1 times the factor of their weights outside.
void ScaleGradients(const HeadTask& task, int64_t tile);
// One part of d_phi: the same sums times g1_outside.
void OutsideQueryGradients(const HeadTask& task, int64_t feature_part);
// One part of d_psi, and one of d_v, from sums over queries of phi_i g1_outside_i.
void OutsideKeyGradients(const HeadTask& task, int64_t feature_part);
void OutsideValueGradients(const HeadTask& task, int64_t value_part);

}  // namespace weft::kernels::scatterbrain
