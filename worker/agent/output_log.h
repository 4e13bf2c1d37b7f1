// OutputLog: what members' processes print, cut into lines, on its way into the log spool.
// The supervisor's thread only.
#pragma once

#include <map>

#include "absl/strings/string_view.h"
#include "common/process/process_supervisor.h"
#include "worker/agent/agent_types.h"
#include "worker/agent/line_splitter.h"
#include "worker/agent/log_spool.h"

namespace weft::worker {

class OutputLog {
 public:
  explicit OutputLog(LogSpool& spool) : spool_(spool) {}  // which outlives it

  // `rank` is -1 for the relays. The job's name must have passed JobIdOf.
  void Append(const MemberKey& member, int rank, OutputStream stream, absl::string_view text);
  // The process is gone: a last line may have no end.
  void Finish(const MemberKey& member, int rank);

 private:
  struct Source {
    MemberKey member;
    int rank = 0;
    OutputStream stream = OutputStream::kStdout;
    friend auto operator<=>(const Source&,
                            const Source&) = default;  // NOLINT(modernize-use-nullptr)
  };
  void Spool(const Source& source, std::vector<std::string> lines);

  LogSpool& spool_;
  std::map<Source, LineSplitter> splitters_;
};

}  // namespace weft::worker
