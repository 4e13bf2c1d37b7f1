// The pairs of a patch: their weights, and the gradients of those. Private to the CPU kernels of
// scatterbrain.
#pragma once

#include "kernels/attention/scatterbrain/cpu/head_space.h"
#include "kernels/attention/scatterbrain/cpu/patches.h"

namespace weft::kernels::scatterbrain {

// Adds the patch's pairs to o and the two masses, and raises the reference.
void PatchForward(const HeadTask& task, const Patch& patch);

// Adds the gradients by the patch's pairs to d_query_u, d_key_u, d_v, d_phi, d_psi.
void PatchBackward(const HeadTask& task, const Patch& patch);

// ---- What both share

// Some queries and keys of a patch, few enough for the working space.
struct Chunk {
  const Patch& patch;
  const int32_t* queries;
  int64_t query_count;
  const int32_t* keys;
  int64_t key_count;
};

// Which keys of a chunk a query sees, counted within the chunk: [0, seen); those of [begin, end)
// are exact, but for pairs that an earlier round of hashing has.
struct SeenKeys {
  int64_t seen;
  int64_t begin;
  int64_t end;
};
SeenKeys SeenIn(const HeadTask& task, const Chunk& chunk, int64_t query);

// Whether any pair of the patch can be exact.
inline bool AnyExact(const HeadTask& task, const Patch& patch) {
  return patch.kind == PatchKind::kReplace || std::holds_alternative<WindowSupport>(task.p.support);
}

// kept[j] = 0 where the query and key j of the chunk met in an earlier round, 1 elsewhere, j <
// count. False when they met nowhere: kept is then undefined.
bool MarkFirstMeetings(const HeadTask& task, const Chunk& chunk, int64_t query, int64_t count,
                       float* kept);

// factors[begin ... end - 1]: what dropout does to a query with these keys of the chunk.
void DropoutFactors(const HeadTask& task, const Chunk& chunk, int64_t query, int64_t begin,
                    int64_t end, float* factors);

// Whether the tokens follow each other, so that their rows need no copy.
inline bool Contiguous(const int32_t* tokens, int64_t count) {
  return tokens[count - 1] - tokens[0] + 1 == count;
}

// Before the work on row n of `count` rows of these tokens: brings later ones near.
void FetchRow(const float* rows, int64_t width, const int32_t* tokens, int64_t count, int64_t n);

// The rows of these tokens, one behind the other: where they are, or copied to `room`.
float* RowsOf(float* rows, int64_t width, const int32_t* tokens, int64_t count, float* room);

}  // namespace weft::kernels::scatterbrain
