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

bool MarkFirstMeetings(const HeadTask& task, const Chunk& chunk, int64_t query, int64_t count,
                       float* kept) {
  const auto& hash = std::get<HashSupport>(task.p.support);
  const int64_t head = (task.batch * task.p.heads + task.head) * hash.rounds;
  bool met = false;
  for (int64_t round = head; round < head + chunk.patch.hash_round; ++round) {
    const int32_t* const queries = task.in.buckets.queries.data<int32_t>() + round * task.p.queries;
    const int32_t* const keys = task.in.buckets.keys.data<int32_t>() + round * task.p.keys;
    const int32_t bucket = queries[query];
    if (bucket < 0) continue;
    for (int64_t j = 0; j < count; ++j) {
      if (keys[chunk.keys[j]] != bucket) continue;
      if (!met) std::fill_n(kept, count, 1.0F);
      met = true;
      kept[j] = 0.0F;
    }
  }
  return met;
}

void DropoutFactors(const HeadTask& task, const Chunk& chunk, int64_t query, int64_t begin,
                    int64_t end, float* factors) {
  const AttentionDropout& dropout = task.p.dropout;
  const DropoutRow row(task.vector, dropout, dropout.Site(task.p.heads, task.batch, task.head),
                       query);
  std::fill(factors + begin, factors + end, 1.0F);
  row.Apply(chunk.keys + begin, factors + begin, factors + begin, end - begin);
}

// Rows lie anywhere in memory: asking for them some rows ahead hides most of the way.
void FetchRow(const float* rows, int64_t width, const int32_t* tokens, int64_t count, int64_t n) {
  constexpr int64_t ahead = 6;
  constexpr int64_t line = 16;
  for (int64_t next = n == 0 ? 0 : n + ahead; next <= n + ahead && next < count; ++next) {
    const float* const row = rows + tokens[next] * width;
    for (int64_t x = 0; x < width; x += line) __builtin_prefetch(row + x);
  }
}

float* RowsOf(float* rows, int64_t width, const int32_t* tokens, int64_t count, float* room) {
  if (Contiguous(tokens, count)) return rows + tokens[0] * width;
  for (int64_t n = 0; n < count; ++n) {
    FetchRow(rows, width, tokens, count, n);
    std::memcpy(room + n * width, rows + tokens[n] * width,
                static_cast<size_t>(width) * sizeof(float));
  }
  return room;
}

}  // namespace weft::kernels::scatterbrain
