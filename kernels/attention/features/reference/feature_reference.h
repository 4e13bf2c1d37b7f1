// The features of one token and their gradients, fp64. Private to kernels/attention.
#pragma once

#include "kernels/attention/features/feature_map.h"

namespace weft::kernels {

// x [dim] -> f [M] (exponential features divided by exp(level)). `projection` is read only when the
// map has rows. Returns the level; 0 unless features are exponential.
double FeaturesReference(const FeatureMap& map, const double* projection, const double* x,
                         int64_t dim, double* f);

// d_f [M] -> d_x [dim], overwritten. d_f is the gradient of f with the level held; where the level
// counts beside f, it is in a product with f, as a factor exp(level).
void FeaturesBackwardReference(const FeatureMap& map, const double* projection, const double* x,
                               int64_t dim, const double* d_f, double* d_x);

}  // namespace weft::kernels
