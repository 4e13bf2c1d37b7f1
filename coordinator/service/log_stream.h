// The stream of TailLogs. It reads from the store at the pace of its client, a piece at a time.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>

#include "coordinator/service/loop_stream.h"
#include "coordinator/service/service_context.h"
#include "weft/v1/job.pb.h"

namespace weft::coordinator {

class LogStream final : public LoopWriter<v1::LogLine>, public JobWatcher {
 public:
  LogStream(const ServiceContext& context, v1::TailLogsRequest request);

  void OnJobChanged() override { Advance(); }
  void OnLogsAppended() override {
    at_end_ = false;
    Advance();
  }

 private:
  void OnBegin() override;
  void OnWritten() override { Advance(); }
  void OnClose() override;

  void Advance();
  void Read();
  void OnChunk(absl::StatusOr<LogStore::Chunk> chunk);
  [[nodiscard]] std::optional<int32_t> rank() const {
    return request_.has_rank() ? std::optional<int32_t>(request_.rank()) : std::nullopt;
  }

  const ServiceContext& context_;
  const v1::TailLogsRequest request_;
  std::optional<JobId> job_;
  std::string job_name_;
  std::optional<int64_t> position_;  // where to read on; none: not known yet
  bool reading_ = false;
  bool at_end_ = false;  // nothing was appended since the last read
  std::deque<v1::LogLine> lines_;
};

}  // namespace weft::coordinator
