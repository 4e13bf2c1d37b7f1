// The names of a job's folder: see checkpoint_store.h.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "worker/checkpoint/checkpoint_store.h"

namespace weft::worker {

inline constexpr absl::string_view kGenerationFolder = "generation";
inline constexpr absl::string_view kPartialPrefix = "partial.";
inline constexpr absl::string_view kRemovedPrefix = "removed.";

// "step_000000000100.g0000000007"
std::string NameOfCheckpoint(const CheckpointId& id);
// nullopt for every other name.
std::optional<CheckpointId> CheckpointOfName(absl::string_view name);

// "partial.step_000000000100.g0000000007.<writer>"
std::string NameOfPartial(const CheckpointId& id, absl::string_view writer);
std::optional<CheckpointId> CheckpointOfPartialName(absl::string_view name);

// "0000000007"
std::string NameOfGeneration(int64_t generation);
std::optional<int64_t> GenerationOfName(absl::string_view name);

// True of [A-Za-z0-9._-]+ that does not begin with a dot: what files and jobs may be called.
bool IsPlainName(absl::string_view name);

}  // namespace weft::worker
