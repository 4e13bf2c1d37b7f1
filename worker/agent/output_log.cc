#include "worker/agent/output_log.h"

#include <utility>

#include "absl/time/clock.h"
#include "worker/agent/agent_messages.h"

namespace weft::worker {

void OutputLog::Append(const MemberKey& member, int rank, OutputStream stream,
                       absl::string_view text) {
  const Source source{member, rank, stream};
  Spool(source, splitters_[source].Append(text));
}

void OutputLog::Finish(const MemberKey& member, int rank) {
  for (const OutputStream stream : {OutputStream::kStdout, OutputStream::kStderr}) {
    const auto found = splitters_.find(Source{member, rank, stream});
    if (found == splitters_.end()) continue;
    Spool(found->first, found->second.Finish());
    splitters_.erase(found);
  }
}

void OutputLog::Spool(const Source& source, std::vector<std::string> lines) {
  if (lines.empty()) return;
  const absl::StatusOr<std::string> id = JobIdOf(source.member.job);
  if (!id.ok()) return;
  const absl::Time now = absl::Now();
  for (std::string& line : lines) {
    spool_.Append(*id,
                  SpooledLine{now, source.rank, source.member.generation.value(), std::move(line)});
  }
}

}  // namespace weft::worker
