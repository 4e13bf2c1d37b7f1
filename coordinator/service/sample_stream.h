// The stream of SampleText: a worker generates, the coordinator passes on. Cancelling the call
// stops the worker.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>

#include "coordinator/service/loop_stream.h"
#include "coordinator/service/service_context.h"
#include "coordinator/service/worker_links.h"
#include "weft/v1/checkpoint.pb.h"

namespace weft::coordinator {

class SampleStream final : public LoopWriter<v1::SampleTextResponse>,
                           public WorkerLinks::SampleSink {
 public:
  SampleStream(const ServiceContext& context, WorkerLinks& links, v1::SampleTextRequest request);

  void OnChunk(const v1::SampleChunk& chunk) override;
  void OnLost(const absl::Status& why) override;

 private:
  void OnBegin() override;
  void OnWritten() override { Advance(); }
  void OnEnd() override;
  void Advance();
  absl::Status Start();

  const ServiceContext& context_;
  WorkerLinks& links_;
  v1::SampleTextRequest request_;
  int64_t sample_ = 0;                  // while the worker generates
  std::string waiting_;                 // text that waits for the client
  std::optional<absl::Status> result_;  // after the waiting text
};

}  // namespace weft::coordinator
