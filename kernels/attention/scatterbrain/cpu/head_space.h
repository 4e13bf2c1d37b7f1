// What the CPU keeps of one head of one sequence while it computes: dense rows, features, sums. A
// call works on several heads at a time ("a wave"), so that all threads have tiles to do and the
// memory stays bounded. Private to the CPU kernels of scatterbrain.
#pragma once

#include <cstdint>

#include "kernels/attention/cpu/head_rows.h"
#include "kernels/attention/scatterbrain/cpu/tiles.h"
#include "kernels/attention/scatterbrain/scatterbrain.h"
#include "kernels/device/cpu/cpu_stream.h"

namespace weft::kernels::scatterbrain {

// T queries, S keys, D, Dv, r as in scatterbrain.h. u is sqrt(scale) times a query or key, so that
// logits are products of them; v1 is a value with a one behind it, so that one product with weights
// gives both the sum of values and the normaliser.
struct HeadSpace {
  HeadSpace(const ScatterbrainProblem& p, bool backward, Carver& carver)
      : query_u(carver.Take(p.queries * p.key_dim)),
        key_u(carver.Take(p.keys * p.key_dim)),
        v1(carver.Take(p.keys * (p.value_dim + 1))),
        phi(carver.Take(p.queries * p.features)),
        psi(carver.Take(p.keys * p.features)),
        query_scale(carver.Take(p.queries)),
        key_scale(carver.Take(p.keys)) {
    if (!backward) {
      o1 = carver.Take(p.queries * (p.value_dim + 1));
      reference = carver.Take(p.queries);
      exact_mass = carver.Take(p.queries);
      return;
    }
    g1 = carver.Take(p.queries * (p.value_dim + 1));
    g1_outside = carver.Take(p.queries * (p.value_dim + 1));
    log_normaliser = carver.Take(p.queries);
    d_phi = carver.Take(p.queries * p.features);
    d_psi = carver.Take(p.keys * p.features);
    d_query_u = carver.Take(p.queries * p.key_dim);
    d_key_u = carver.Take(p.keys * p.key_dim);
    d_v = carver.Take(p.keys * p.value_dim);
    top_feature = carver.Take(p.keys);
    top_key = carver.Take(1);
    d_key_scale = carver.Take(p.keys);
  }

  float* query_u;      // [T, D]
  float* key_u;        // [S, D]
  float* v1;           // [S, Dv + 1]
  float* phi;          // [T, r]
  float* psi;          // [S, r]; zeros for padding
  float* query_scale;  // [T]: logarithm of what phi is to be multiplied by; -infinity where the
                       // support covers all, so that every low-rank weight is zero
  float* key_scale;    // [S]: m

  // Forward alone. In units of exp(reference_i):
  float* o1 = nullptr;  // [T, Dv + 1]: the sum of values, and the low-rank part of the normaliser
  float* reference = nullptr;   // [T]
  float* exact_mass = nullptr;  // [T]: the exact part of the normaliser

  // Backward alone.
  float* g1 = nullptr;  // [T, Dv + 1]: the gradient of o, and -mean: what the normaliser gets
  float* g1_outside = nullptr;  // [T, Dv + 1]: for the keys outside the filled tiles (low_rank.h)
  float* log_normaliser = nullptr;  // [T]
  float* d_phi = nullptr;           // [T, r]
  float* d_psi = nullptr;           // [S, r]
  float* d_query_u = nullptr;       // [T, D]
  float* d_key_u = nullptr;         // [S, D]
  float* d_v = nullptr;             // [S, Dv]
  float* top_feature = nullptr;     // [S]: the signed row of W where a key's exponent is largest
  float* top_key = nullptr;         // [1]: the key whose exponent is the largest of all
  float* d_key_scale = nullptr;     // [S]: what m gets from a key, by epsilon
};

// One head and all that belongs to it.
struct HeadTask {
  const ScatterbrainProblem& p;
  const ScatterbrainOperands& in;
  const Tiles& tiles;
  const VectorTable& vector;
  const float* transposed_w;  // [D, feature_rows]
  const float* ones;          // [r]
  const KeyList& keys;
  int64_t batch;
  int64_t head;
  HeadSpace space;

  // m of the keys that query i may see; -infinity when all of them are padding.
  [[nodiscard]] float SeenScale(int64_t i) const {
    return space.key_scale[p.causal ? i : p.keys - 1];
  }
};

}  // namespace weft::kernels::scatterbrain
