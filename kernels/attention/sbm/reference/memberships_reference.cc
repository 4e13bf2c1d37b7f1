// Memberships and affinity as written down in memberships.h: token by token, fp64, one thread.
#include <cmath>
#include <vector>

#include "kernels/attention/sbm/sbm_kernels.h"

namespace weft::kernels {
namespace {

using Row = std::vector<double>;

// bias + m x.
Row Affine(const Tensor& m, const Tensor& bias, const Row& x) {
  Row y(bias.data<double>(), bias.data<double>() + bias.count());
  for (size_t i = 0; i < y.size(); ++i) {
    for (size_t j = 0; j < x.size(); ++j) y[i] += m.data<double>()[i * x.size() + j] * x[j];
  }
  return y;
}

// The gradients of Affine are added; returns that of x.
Row AffineBackward(const Tensor& m, const Row& x, const Row& dy, Tensor& d_m, Tensor& d_bias) {
  Row d_x(x.size(), 0.0);
  for (size_t i = 0; i < dy.size(); ++i) {
    d_bias.data<double>()[i] += dy[i];
    for (size_t j = 0; j < x.size(); ++j) {
      d_m.data<double>()[i * x.size() + j] += dy[i] * x[j];
      d_x[j] += dy[i] * m.data<double>()[i * x.size() + j];
    }
  }
  return d_x;
}

struct Map {
  Row hidden;  // relu(W1 x + b1)
  Row f;
};

Map Mapped(const SbmClusterModel& model, const Row& x) {
  Map map{.hidden = Affine(model.w1, model.b1, x), .f = {}};
  for (double& h : map.hidden) h = h > 0.0 ? h : 0.0;
  map.f = Affine(model.w2, model.b2, map.hidden);
  return map;
}

// Where the row of x [B, T, H, D] and the memberships [B, H, T, K] of one token and head begin.
struct Place {
  Place(const Tensor& x, int64_t clusters, int64_t index)
      : head(index / x.dim(1) % x.dim(2)),
        memberships(index * clusters),
        x_row(((index / x.dim(1) / x.dim(2) * x.dim(1) + index % x.dim(1)) * x.dim(2) + head) *
              x.dim(3)) {}

  int64_t head, memberships, x_row;
};

Row RowOf(const Tensor& x, int64_t begin, int64_t width) {
  return {x.data<double>() + begin, x.data<double>() + begin + width};
}

}  // namespace

absl::Status SbmMembershipForwardReference(Stream& /*stream*/, const Tensor& x,
                                           const SbmClusterModel& model, Tensor& memberships) {
  const int64_t dim = x.dim(3);
  const int64_t clusters = model.clusters.dim(1);
  for (int64_t index = 0; index < x.dim(0) * x.dim(1) * x.dim(2); ++index) {
    const Place at(x, clusters, index);
    const Map map = Mapped(model, RowOf(x, at.x_row, dim));
    for (int64_t c = 0; c < clusters; ++c) {
      const double* const embedding =
          model.clusters.data<double>() + (at.head * clusters + c) * dim;
      double logit = 0.0;
      for (int64_t d = 0; d < dim; ++d) logit += map.f[d] * embedding[d];
      memberships.data<double>()[at.memberships + c] = 1.0 / (1.0 + std::exp(-logit));
    }
  }
  return absl::OkStatus();
}

absl::Status SbmMembershipBackwardReference(Stream& /*stream*/, const Tensor& x,
                                            const SbmClusterModel& model, const Tensor& memberships,
                                            const Tensor& d_memberships, Tensor& d_x,
                                            Accumulate accumulate, SbmClusterModel& d_model) {
  const int64_t dim = x.dim(3);
  const int64_t clusters = model.clusters.dim(1);
  for (int64_t index = 0; index < x.dim(0) * x.dim(1) * x.dim(2); ++index) {
    const Place at(x, clusters, index);
    const Row x_row = RowOf(x, at.x_row, dim);
    const Map map = Mapped(model, x_row);
    Row d_f(dim, 0.0);
    for (int64_t c = 0; c < clusters; ++c) {
      const double y = memberships.data<double>()[at.memberships + c];
      const double d_logit = d_memberships.data<double>()[at.memberships + c] * y * (1.0 - y);
      const int64_t embedding = (at.head * clusters + c) * dim;
      for (int64_t d = 0; d < dim; ++d) {
        d_f[d] += d_logit * model.clusters.data<double>()[embedding + d];
        d_model.clusters.data<double>()[embedding + d] += d_logit * map.f[d];
      }
    }
    Row d_hidden = AffineBackward(model.w2, map.hidden, d_f, d_model.w2, d_model.b2);
    for (int64_t d = 0; d < dim; ++d) {
      if (!(map.hidden[d] > 0.0)) d_hidden[d] = 0.0;
    }
    const Row d_row = AffineBackward(model.w1, x_row, d_hidden, d_model.w1, d_model.b1);
    for (int64_t d = 0; d < dim; ++d) {
      double& result = d_x.data<double>()[at.x_row + d];
      result = d_row[d] + (accumulate == Accumulate::kYes ? result : 0.0);
    }
  }
  return absl::OkStatus();
}

absl::Status SbmAffinityForwardReference(Stream& /*stream*/, const Tensor& clusters,
                                         Tensor& affinity) {
  const int64_t count = clusters.dim(1);
  const int64_t dim = clusters.dim(2);
  for (int64_t h = 0; h < clusters.dim(0); ++h) {
    const double* const c = clusters.data<double>() + h * count * dim;
    double* const s = affinity.data<double>() + h * count * count;
    double largest = -HUGE_VAL;
    for (int64_t uv = 0; uv < count * count; ++uv) {
      s[uv] = 0.0;
      for (int64_t d = 0; d < dim; ++d) s[uv] += c[uv / count * dim + d] * c[uv % count * dim + d];
      largest = std::max(largest, s[uv]);
    }
    double sum = 0.0;
    for (int64_t uv = 0; uv < count * count; ++uv) sum += s[uv] = std::exp(s[uv] - largest);
    for (int64_t uv = 0; uv < count * count; ++uv) s[uv] /= sum;
  }
  return absl::OkStatus();
}

absl::Status SbmAffinityBackwardReference(Stream& /*stream*/, const Tensor& clusters,
                                          const Tensor& affinity, const Tensor& d_affinity,
                                          Tensor& d_clusters) {
  const int64_t count = clusters.dim(1);
  const int64_t dim = clusters.dim(2);
  for (int64_t h = 0; h < clusters.dim(0); ++h) {
    const double* const c = clusters.data<double>() + h * count * dim;
    const double* const s = affinity.data<double>() + h * count * count;
    const double* const d_s = d_affinity.data<double>() + h * count * count;
    double* const d_c = d_clusters.data<double>() + h * count * dim;
    double mean = 0.0;
    for (int64_t uv = 0; uv < count * count; ++uv) mean += s[uv] * d_s[uv];
    for (int64_t u = 0; u < count; ++u) {
      for (int64_t v = 0; v < count; ++v) {
        const double d_logit = s[u * count + v] * (d_s[u * count + v] - mean);
        for (int64_t d = 0; d < dim; ++d) {
          d_c[u * dim + d] += d_logit * c[v * dim + d];
          d_c[v * dim + d] += d_logit * c[u * dim + d];
        }
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace weft::kernels
