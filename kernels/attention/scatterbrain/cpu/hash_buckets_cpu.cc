// Hashes in fp64, sorted: one task a head.
#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "kernels/attention/cpu/head_rows.h"
#include "kernels/attention/scatterbrain/scatterbrain_kernels.h"
#include "kernels/device/cpu/cpu_stream.h"

namespace weft::kernels {
namespace {

// Squares of the rows, and the largest among those that are not padding.
struct Squares {
  Squares(const VectorTable& vector, const HeadRows& rows, int64_t count, const int32_t* valid)
      : of(count) {
    for (int64_t t = 0; t < count; ++t) {
      of[t] = vector.sum_of_squares(rows.Row(t), rows.width);
      if (valid == nullptr || valid[t] != 0) largest = std::max(largest, of[t]);
    }
  }
  std::vector<double> of;
  double largest = 0.0;
};

// One round of one side: `slot` is where the coordinate stands that makes vectors equally long.
struct Round {
  const VectorTable& vector;
  const HeadRows& rows;
  const Squares& squares;
  double square_sum;
  const double* projection;
  int64_t slot;
  const int32_t* valid;  // null: all
  int64_t bucket;
};

void Sort(const Round& round, std::vector<std::pair<double, int32_t>>& hashes, int32_t* ids) {
  const auto count = static_cast<int64_t>(round.squares.of.size());
  hashes.clear();
  for (int64_t t = 0; t < count; ++t) {
    ids[t] = -1;
    if (round.valid != nullptr && round.valid[t] == 0) continue;
    const float* const row = round.rows.Row(t);
    // A product in fp64; its last bits are the device class's, for these are no integers.
    const double hash = round.vector.integer_dot(round.projection, row, round.rows.width) +
                        round.projection[round.slot] *
                            std::sqrt(std::max(0.0, round.square_sum - round.squares.of[t]));
    hashes.emplace_back(hash, static_cast<int32_t>(t));
  }
  std::sort(hashes.begin(), hashes.end());  // equal hashes: by index
  for (size_t rank = 0; rank < hashes.size(); ++rank) {
    ids[hashes[rank].second] = static_cast<int32_t>(static_cast<int64_t>(rank) / round.bucket);
  }
}

}  // namespace

absl::Status HashBucketsCpu(Stream& stream, const ScatterbrainProblem& p, const Tensor& q,
                            const Tensor& k, const Tensor& projections, const Tensor& valid,
                            HashBucketTensors& buckets) {
  const auto& hash = std::get<HashSupport>(p.support);
  CpuStream& cpu = AsCpuStream(stream);
  const std::vector<double> wide(projections.data<float>(),
                                 projections.data<float>() + projections.count());
  cpu.ParallelFor(p.batch * p.heads, [&](int64_t index) {
    const int64_t b = index / p.heads;
    const int64_t h = index % p.heads;
    const HeadRows queries(q, b, h);
    const HeadRows keys(k, b, h);
    const int32_t* const valid_keys =
        valid.present() ? valid.data<int32_t>() + b * p.keys : nullptr;
    const int32_t* const valid_queries = p.queries == p.keys ? valid_keys : nullptr;
    const Squares query_squares(cpu.vector(), queries, p.queries, valid_queries);
    const Squares key_squares(cpu.vector(), keys, p.keys, valid_keys);
    const double sum = query_squares.largest + key_squares.largest;
    thread_local std::vector<std::pair<double, int32_t>> hashes;
    for (int64_t round = 0; round < hash.rounds; ++round) {
      const double* const projection = wide.data() + round * (p.key_dim + 2);
      const int64_t row = index * hash.rounds + round;
      Sort({cpu.vector(), queries, query_squares, sum, projection, p.key_dim + 1, valid_queries,
            hash.query_bucket},
           hashes, buckets.queries.data<int32_t>() + row * p.queries);
      Sort({cpu.vector(), keys, key_squares, sum, projection, p.key_dim, valid_keys,
            hash.key_bucket},
           hashes, buckets.keys.data<int32_t>() + row * p.keys);
    }
  });
  return absl::OkStatus();
}

}  // namespace weft::kernels
