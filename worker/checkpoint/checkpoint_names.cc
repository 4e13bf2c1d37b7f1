#include "worker/checkpoint/checkpoint_names.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"

namespace weft::worker {
namespace {

// Digits only: SimpleAtoi alone would also take signs and spaces.
std::optional<int64_t> NumberOf(absl::string_view text) {
  int64_t number = 0;
  if (!std::all_of(text.begin(), text.end(), absl::ascii_isdigit)) return std::nullopt;
  if (!absl::SimpleAtoi(text, &number)) return std::nullopt;
  return number;
}

}  // namespace

std::string NameOfCheckpoint(const CheckpointId& id) {
  return absl::StrFormat("step_%012d.g%010d", id.step, id.generation);
}

std::optional<CheckpointId> CheckpointOfName(absl::string_view name) {
  absl::string_view rest = name;
  if (!absl::ConsumePrefix(&rest, "step_")) return std::nullopt;
  const size_t dot = rest.find(".g");
  if (dot == absl::string_view::npos) return std::nullopt;
  const std::optional<int64_t> step = NumberOf(rest.substr(0, dot));
  const std::optional<int64_t> generation = NumberOf(rest.substr(dot + 2));
  if (!step.has_value() || !generation.has_value()) return std::nullopt;
  const CheckpointId id{.generation = *generation, .step = *step};
  if (NameOfCheckpoint(id) != name) return std::nullopt;  // one name each
  return id;
}

std::string NameOfPartial(const CheckpointId& id, absl::string_view writer) {
  return absl::StrCat(kPartialPrefix, NameOfCheckpoint(id), ".", writer);
}

std::optional<CheckpointId> CheckpointOfPartialName(absl::string_view name) {
  if (!absl::ConsumePrefix(&name, kPartialPrefix)) return std::nullopt;
  return CheckpointOfName(name.substr(0, name.rfind('.')));
}

std::string NameOfGeneration(int64_t generation) { return absl::StrFormat("%010d", generation); }

std::optional<int64_t> GenerationOfName(absl::string_view name) {
  const std::optional<int64_t> generation = NumberOf(name);
  if (!generation.has_value() || NameOfGeneration(*generation) != name) return std::nullopt;
  return generation;
}

bool IsPlainName(absl::string_view name) {
  return !name.empty() && name[0] != '.' && std::all_of(name.begin(), name.end(), [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' || c == '-';
  });
}

}  // namespace weft::worker
