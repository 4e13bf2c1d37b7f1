#include "kernels/attention/scatterbrain/cpu/pairs.h"

#include <algorithm>
#include <cstring>

#include "kernels/attention/cpu/dropout_row.h"

namespace weft::kernels::scatterbrain {

SeenKeys SeenIn(const HeadTask& task, const Chunk& chunk, int64_t query) {
  const int32_t* const first = chunk.keys;
  const int32_t* const last = first + chunk.key_count;
  const auto below = [&](int64_t key) { return std::lower_bound(first, last, key) - first; };
  const int64_t seen = task.p.causal ? below(query + 1) : chunk.key_count;
  if (chunk.patch.kind == PatchKind::kReplace) return {seen, 0, seen};
  if (!std::holds_alternative<WindowSupport>(task.p.support)) return {seen, 0, 0};
  const TileRange window = task.tiles.Window(query);
  const int64_t begin = std::min(seen, below(window.begin));
  return {seen, begin, std::max(begin, std::min(seen, below(window.end)))};
}

void MarkFirstMeetings(const HeadTask& task, const Chunk& chunk, int64_t query, float* kept) {
  const auto& hash = std::get<HashSupport>(task.p.support);
  const int64_t head = (task.batch * task.p.heads + task.head) * hash.rounds;
  std::fill_n(kept, chunk.key_count, 1.0F);
  for (int64_t round = head; round < head + chunk.patch.hash_round; ++round) {
    const int32_t* const queries = task.in.buckets.queries.data<int32_t>() + round * task.p.queries;
    const int32_t* const keys = task.in.buckets.keys.data<int32_t>() + round * task.p.keys;
    const int32_t bucket = queries[query];
    if (bucket < 0) continue;
    for (int64_t j = 0; j < chunk.key_count; ++j) {
      if (keys[chunk.keys[j]] == bucket) kept[j] = 0.0F;
    }
  }
}

void DropoutFactors(const HeadTask& task, const Chunk& chunk, int64_t query, int64_t begin,
                    int64_t end, float* factors) {
  const AttentionDropout& dropout = task.p.dropout;
  const DropoutRow row(task.vector, dropout, dropout.Site(task.p.heads, task.batch, task.head),
                       query);
  std::fill(factors + begin, factors + end, 1.0F);
  row.Apply(chunk.keys + begin, factors + begin, factors + begin, end - begin);
}

float* RowsOf(float* rows, int64_t width, const int32_t* tokens, int64_t count, float* room) {
  if (Contiguous(tokens, count)) return rows + tokens[0] * width;
  for (int64_t n = 0; n < count; ++n) {
    std::memcpy(room + n * width, rows + tokens[n] * width,
                static_cast<size_t>(width) * sizeof(float));
  }
  return room;
}

}  // namespace weft::kernels::scatterbrain
