// Scatterbrain pair by pair, fp64, one thread: every weight by its definition, no subtraction, no
// totals. Cost: queries times keys.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/attention/scatterbrain/reference/dense_head.h"
#include "kernels/attention/scatterbrain/scatterbrain_kernels.h"

namespace weft::kernels {
namespace {

// The hash of every query or key of one head in one round; infinite for padding.
struct Hashing {
  const ScatterbrainProblem& p;
  const Tensor& valid;
  int64_t batch;
  int64_t head;

  [[nodiscard]] bool Padding(int64_t token) const {
    return valid.present() && valid.data<int32_t>()[batch * p.keys + token] == 0;
  }
  // Rows [n, D] of a [B, n, H, D] tensor; `padded` when valid speaks of its tokens.
  [[nodiscard]] double LargestSquare(const Tensor& rows, bool padded) const {
    double largest = 0.0;
    for (int64_t t = 0; t < rows.dim(1); ++t) {
      if (!(padded && Padding(t))) largest = std::max(largest, Square(Row(rows, t)));
    }
    return largest;
  }
  [[nodiscard]] const double* Row(const Tensor& rows, int64_t t) const {
    return rows.data<double>() + ((batch * rows.dim(1) + t) * p.heads + head) * p.key_dim;
  }
  [[nodiscard]] double Square(const double* row) const {
    double sum = 0.0;
    for (int64_t d = 0; d < p.key_dim; ++d) sum += row[d] * row[d];
    return sum;
  }
  // `slot`: where the coordinate stands that makes all vectors equally long: D for keys, D + 1 for
  // queries.
  [[nodiscard]] std::vector<double> Hashes(const Tensor& rows, bool padded, double square_sum,
                                           const double* projection, int64_t slot) const {
    std::vector<double> hashes(rows.dim(1));
    for (int64_t t = 0; t < rows.dim(1); ++t) {
      if (padded && Padding(t)) {
        hashes[t] = std::numeric_limits<double>::infinity();
        continue;
      }
      const double* row = Row(rows, t);
      for (int64_t d = 0; d < p.key_dim; ++d) hashes[t] += projection[d] * row[d];
      hashes[t] += projection[slot] * std::sqrt(std::max(0.0, square_sum - Square(row)));
    }
    return hashes;
  }
};

// The rank of each hash, by counting the smaller ones; of equal ones the first is smaller.
void RankBuckets(const std::vector<double>& hashes, int64_t bucket, int32_t* ids) {
  const auto count = static_cast<int64_t>(hashes.size());
  for (int64_t i = 0; i < count; ++i) {
    int64_t rank = 0;
    for (int64_t j = 0; j < count; ++j) {
      if (hashes[j] < hashes[i] || (hashes[j] == hashes[i] && j < i)) ++rank;
    }
    ids[i] = std::isinf(hashes[i]) ? -1 : static_cast<int32_t>(rank / bucket);
  }
}

template <typename Body>
void ForHeads(const ScatterbrainProblem& p, const Body& body) {
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t h = 0; h < p.heads; ++h) body(b, h);
  }
}

}  // namespace

absl::Status HashBucketsReference(Stream& /*stream*/, const ScatterbrainProblem& p, const Tensor& q,
                                  const Tensor& k, const Tensor& projections, const Tensor& valid,
                                  HashBucketTensors& buckets) {
  const auto& hash = std::get<HashSupport>(p.support);
  const bool padded_queries = p.queries == p.keys;
  ForHeads(p, [&](int64_t b, int64_t h) {
    const Hashing hashing{p, valid, b, h};
    const double squares =
        hashing.LargestSquare(q, padded_queries) + hashing.LargestSquare(k, true);
    for (int64_t round = 0; round < hash.rounds; ++round) {
      const double* projection = projections.data<double>() + round * (p.key_dim + 2);
      const int64_t row = (b * p.heads + h) * hash.rounds + round;
      RankBuckets(hashing.Hashes(q, padded_queries, squares, projection, p.key_dim + 1),
                  hash.query_bucket, buckets.queries.data<int32_t>() + row * p.queries);
      RankBuckets(hashing.Hashes(k, true, squares, projection, p.key_dim), hash.key_bucket,
                  buckets.keys.data<int32_t>() + row * p.keys);
    }
  });
  return absl::OkStatus();
}

absl::Status ScatterbrainForwardReference(Stream& /*stream*/, const ScatterbrainProblem& p,
                                          const ScatterbrainOperands& in, Tensor& o,
                                          ScatterbrainSaved& saved) {
  ForHeads(p, [&](int64_t b, int64_t h) {
    const DenseHead head(p, in, b, h);
    for (int64_t i = 0; i < p.queries; ++i) {
      const int64_t row = (b * p.heads + h) * p.queries + i;
      head.Forward(i, o.data<double>() + head.RowAt(o, i), saved.log_normaliser.data<double>()[row],
                   saved.low_rank_share.data<double>()[row]);
    }
  });
  return absl::OkStatus();
}

absl::Status ScatterbrainBackwardReference(Stream& /*stream*/, const ScatterbrainProblem& p,
                                           const ScatterbrainOperands& in, const Tensor& o,
                                           const ScatterbrainSaved& saved, const Tensor& d_o,
                                           Tensor& d_q, Tensor& d_k, Tensor& d_v) {
  ForHeads(p, [&](int64_t b, int64_t h) {
    const DenseHead head(p, in, b, h);
    const DenseHead::Gradients g = head.Backward(o, saved, d_o);
    const auto store = [&](const std::vector<double>& from, const Tensor& to) {
      for (int64_t t = 0; t < to.dim(1); ++t) {
        std::copy_n(from.begin() + t * to.dim(3), to.dim(3), to.data<double>() + head.RowAt(to, t));
      }
    };
    store(g.q, d_q);
    store(g.k, d_k);
    store(g.v, d_v);
  });
  return absl::OkStatus();
}

}  // namespace weft::kernels
